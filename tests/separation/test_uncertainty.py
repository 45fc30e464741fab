"""Posterior samples made by hand: what is said of their spread follows from closed forms."""

import dataclasses

import numpy as np
import pytest

from gensep.representation.mel import Representation
from gensep.separation.collected import Collected, Evaluations, Sample
from gensep.separation.settings import Settings
from gensep.separation.uncertainty import PROBABILITIES, weighted_quantiles
from helpers import load

FORM = Representation(n_fft=256, hop_length=128, n_mels=6, span_db=20)
POWER = np.full((112, 6), 30, np.float32)
MIXTURE = np.asarray(FORM.encode(POWER, 2))[0, 0]  # model units, the same in every bin
JUDGED = Settings(samples=2, window=32, block=64)
PLAIN = dataclasses.replace(JUDGED, judge="none")


def collect(offsets, settings, nats=None, starts=(0,), length=112):
    """Collect sources that lie `offsets [sample, source, frame]` dB above the mixture."""
    samples, sources, frames = np.shape(offsets)
    settings = dataclasses.replace(settings, samples=samples)
    total = Collected(POWER[:frames], sources, FORM, settings, length, spread=True)
    nats = np.zeros((samples, frames)) if nats is None else nats
    for start in starts:
        index = np.minimum(np.arange(start, start + length), frames - 1)
        for number in range(samples):
            x = MIXTURE + np.asarray(offsets)[number][:, index] / FORM.span_db
            x = np.repeat(x[..., None], 6, -1).astype(np.float32)
            sample = Sample(x, nats[number][index], np.zeros(3))
            total.add((start, number), sample)
    found = total.masks(0, 0, Evaluations(0, 0, 0)).uncertainty
    assert found is not None
    return found


# ---- quantiles


@pytest.mark.parametrize("samples", [2, 3, 12])
def test_equal_weights_give_the_quantiles_of_hazen(samples):
    values = np.random.default_rng(samples).normal(size=(samples, 4, 5))
    at = (0.0, 0.1, 0.37, 0.5, 0.9, 1.0)
    weights = np.full((samples, 1, 1), 1 / samples)
    expected = np.quantile(values, at, 0, method="hazen")
    np.testing.assert_allclose(weighted_quantiles(values, weights, at), expected, atol=1e-12)


def test_samples_without_weight_do_not_matter():
    values = np.array([5.0, -100.0, 3.0, 4.0, 100.0])
    weights = np.array([1, 0, 1, 1, 0]) / 3
    found = weighted_quantiles(values, weights, PROBABILITIES)
    np.testing.assert_allclose(found, np.quantile([3, 4, 5], PROBABILITIES, method="hazen"))
    one = weighted_quantiles(values, np.array([0.0, 0, 1, 0, 0]), PROBABILITIES)
    np.testing.assert_allclose(one, 3)
    # nearly no weight is nearly none
    little = weighted_quantiles(values, np.array([1e-6, 0, 1 - 1e-6, 0, 0]), PROBABILITIES)
    np.testing.assert_allclose(little, 3, atol=1e-4)


def test_unequal_weights():
    """Weights 1/2, 1/4, 1/4 have the effective number 8/3, so windows are 3/8 wide."""
    found = weighted_quantiles(np.array([2.0, 0.0, 1.0]), np.array([0.25, 0.5, 0.25]), (0, 0.5, 1))
    # sorted: 0 up to 1/2, 1 up to 3/4, 2 up to 1; windows 0 to 3/8, 5/16 to 11/16, 5/8 to 1
    np.testing.assert_allclose(found, [0, (3 / 16) / (3 / 8), (1 / 8 + 2 / 4) / (3 / 8)])


def test_quantiles_of_many_weighted_samples_are_those_of_the_weighted_density():
    """Uniform values with weights 2 x have the distribution function x^2."""
    values = np.random.default_rng(0).uniform(size=20_000)
    found = weighted_quantiles(values, values / values.sum(), PROBABILITIES)
    np.testing.assert_allclose(found, np.sqrt(PROBABILITIES), atol=0.01)


# ---- files


def test_without_a_judge_all_samples_count_alike():
    offsets = np.array([-1.0, -3.0, -8.0])[:, None, None] * np.array([1, 2])[:, None] * np.ones(112)
    found = collect(offsets, PLAIN)
    assert found.judged is found.equal
    assert not found.weighed
    assert found.equal.quantiles_db.shape == (3, 2, 112, 6)
    np.testing.assert_allclose(found.equal.mean_db[0], -4, atol=1e-4)
    np.testing.assert_allclose(found.equal.mean_db[1], -8, atol=1e-4)
    np.testing.assert_allclose(found.equal.sd_db[0], np.std([1, 3, 8], ddof=1), atol=1e-4)
    expected = np.quantile([-1, -3, -8], PROBABILITIES, method="hazen")
    np.testing.assert_allclose(found.equal.quantiles_db[:, 0, 5, 2], expected, atol=1e-4)
    np.testing.assert_allclose(found.effective, 3, rtol=1e-5)
    assert (found.between == 0).all()


def test_energies_are_those_of_the_power():
    """The mixture holds the floor of both sources; a level of -3 dB is that of their sum."""
    offsets = np.array([-1.0, -3.0])[:, None, None] * np.ones((2, 112))
    found = collect(offsets, PLAIN)
    power = (30 + 2 * FORM.floor) * 10 ** (np.array([-1, -3]) / 10) - FORM.floor
    expected = 10 * np.log10(power / 30)[:, None].repeat(2, 1)
    np.testing.assert_allclose(found.energy_db, expected, atol=1e-3)
    np.testing.assert_allclose(found.judged_energy_db, 10 * np.log10(power.mean() / 30), atol=1e-3)


def halves():
    """Two samples and a judge that is sure of the first in one half and of the other behind."""
    offsets = np.array([-1.0, -9.0])[:, None, None] * np.ones((2, 112))
    first = np.arange(112) < 56
    return offsets, 1e4 * np.stack([~first, first]), first


@pytest.mark.parametrize(("starts", "length"), [((0,), 112), ((0, 48), 64)])
def test_the_judge_may_pick_another_sample_in_each_half(starts, length):
    offsets, nats, first = halves()
    found = collect(offsets, JUDGED, nats, starts, length)
    assert found.weighed
    far = np.abs(np.arange(112) - 55.5) > 12  # of the place where one fades into the other
    exact = np.where(first, -1.0, -9.0)[None, far, None]
    judged, equal = found.judged, found.equal
    np.testing.assert_allclose(judged.mean_db[:, far], exact + np.zeros((2, 1, 6)), atol=0.01)
    np.testing.assert_allclose(judged.sd_db[:, far], 0, atol=0.2)
    for quantile in judged.quantiles_db:
        np.testing.assert_allclose(quantile[:, far], exact + np.zeros((2, 1, 6)), atol=0.02)
    np.testing.assert_allclose(found.effective[far], 1, atol=0.01)
    # with equal weights nothing of that shows, wherever blocks meet
    np.testing.assert_allclose(equal.mean_db, -5, atol=1e-4)
    np.testing.assert_allclose(equal.sd_db, 8 / np.sqrt(2), rtol=1e-5)
    for quantile, value in zip(equal.quantiles_db, (-9, -5, -1), strict=True):
        np.testing.assert_allclose(quantile, value, atol=1e-4)
    assert (found.between > 0.9).all()
    power = (30 + 2 * FORM.floor) * 10 ** (np.where(first, -1.0, -9.0) / 10) - FORM.floor
    expected = 10 * np.log10(power.mean() / 30)
    np.testing.assert_allclose(found.judged_energy_db, expected, atol=0.05)


def test_a_judge_that_finds_no_difference_changes_nothing():
    offsets = np.random.default_rng(0).normal(-6, 3, (6, 2, 112))
    found = collect(offsets, JUDGED)
    for equal, judged in zip(found.equal, found.judged, strict=True):
        np.testing.assert_allclose(judged, equal, atol=2e-3)
    np.testing.assert_allclose(found.between, 0, atol=1e-4)
    np.testing.assert_allclose(found.effective, 6, rtol=1e-4)


def test_the_share_between_explanations():
    """Two explanations d apart, each with samples of the same spread; the judge knows one."""
    near, d = np.array([-1.0, 0.0, 1.0]), 10.0
    offsets = np.concatenate([near, near - d])[:, None, None] * np.ones((2, 112))
    nats = np.repeat([0.0, 1e4], 3)[:, None] * np.ones(112)
    found = collect(offsets, JUDGED, nats)
    within, whole = near.var(), np.concatenate([near, near - d]).var()
    np.testing.assert_allclose(found.between, 1 - within / whole, rtol=1e-3)
    np.testing.assert_allclose(found.effective, 3, rtol=1e-4)


def test_overlapping_blocks_are_cross_faded():
    """A file whose blocks disagree: its figures move from one block's to the other's."""
    total = Collected(POWER, 2, FORM, PLAIN, 64, spread=True)
    for start, level in ((0, -2.0), (48, -6.0)):
        for number, off in enumerate((-1.0, 1.0)):
            x = np.full((2, 64, 6), MIXTURE + (level + off) / FORM.span_db, np.float32)
            total.add((start, number), Sample(x, np.zeros(64), np.zeros(3)))
    found = total.masks(0, 0, Evaluations(0, 0, 0)).uncertainty
    mean = found.equal.mean_db[0, :, 0]
    np.testing.assert_allclose(mean[:48], -2, atol=1e-4)
    np.testing.assert_allclose(mean[64:], -6, atol=1e-4)
    ramp = (np.arange(16) + 0.5) / 16
    np.testing.assert_allclose(mean[48:64], -2 - 4 * ramp, atol=1e-4)
    np.testing.assert_allclose(found.equal.sd_db, np.sqrt(2), rtol=1e-4)
    np.testing.assert_allclose(found.equal.quantiles_db[2, 0, :, 0], mean + 1, atol=1e-4)


# ---- the benchmark


def test_the_benchmark_compares_with_the_truth():
    """Samples at -1 and -9 dB, of which the judge picks the right one in each half."""
    benchmark = load("scripts/benchmark_uncertainty.py")
    offsets, nats, first = halves()
    found = collect(offsets, JUDGED, nats)
    level = np.where(first, -1.0, -9.0)[:, None]
    true = (30 + 2 * FORM.floor) * 10 ** (level / 10) - FORM.floor
    rows = benchmark.compare(found, np.stack([true + np.zeros((112, 6))] * 2), POWER, FORM)
    assert rows[0] == rows[1]
    row = rows[0]
    assert row["judged"]["error_db"] < 1.5
    assert row["judged"]["energy_bias_db"] == pytest.approx(0, abs=0.05)
    assert row["equal"]["error_db"] == pytest.approx(4, abs=1e-3)
    assert row["equal"]["energy_bias_db"] == pytest.approx(0, abs=0.05)  # both halves, both samples
    assert row["equal"]["width_db"] == pytest.approx(8, abs=1e-3)
    assert row["share_between"] > 0.9
    assert row["share_by_chance"] > 0.9  # nothing else is expected of a single sample
    wrong = benchmark.compare(found, np.stack([2 * true + np.zeros((112, 6))] * 2), POWER, FORM)
    assert wrong[0]["judged"]["coverage"] < 0.2
    assert wrong[0]["judged"]["energy_bias_db"] == pytest.approx(-3, abs=0.1)
    text = benchmark.summary([{"set": "s", "source": "a", **row}])
    assert "| s | a | 1 | judged |" in text
