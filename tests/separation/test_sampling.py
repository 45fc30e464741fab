"""Mixtures to masks to stems: blocks, chains, devices; and the Python call."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gensep
from basis import Gaussian
from gensep.images.mixtures import MIXES
from gensep.images.separation import separate_images
from gensep.images.settings import ImageSettings
from gensep.priors.files import LoadedPrior
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.separation import chains, collected, sampling
from gensep.separation.samplers import SAMPLERS
from gensep.separation.sampling import plan, sample_masks
from gensep.separation.separate import assemble, make_settings, separate
from gensep.separation.settings import PRESETS, Settings
from helpers import ROOT

pytestmark = pytest.mark.usefixtures("hasty")

REP = Representation(n_fft=256, hop_length=128, n_mels=6, span_db=20)
LEVELS = jnp.array([2.0, 0.02])
# the samplers by themselves: exact samples need no judge
QUICK = Settings(steps=6, samples=2, window=32, block=64, judge="none")


def band_prior(seed, sd=0.4):
    mean = np.random.default_rng(seed).normal(scale=0.5, size=6).astype(np.float32)
    return Gaussian(jnp.asarray(mean), jnp.full(6, sd**2, jnp.float32), LEVELS)


def scene(priors, frames, seed=0):
    """Draw sources `[source, frame, mel]` from their priors; give them and the mixture's power."""
    rng = np.random.default_rng(seed)
    z = np.stack(
        [p.mean[None] + np.sqrt(p.variance) * rng.normal(size=(frames, 6)) for p in priors]
    )
    power = np.asarray(REP.decode(jnp.asarray(z, jnp.float32)))
    return z, power.sum(0)


def masks(power, priors, settings=QUICK, **changes):
    import dataclasses

    return sample_masks(power, priors, REP, dataclasses.replace(settings, **changes)).masks


# ---- the plan of blocks


@pytest.mark.parametrize(("block", "overlap"), [(512, 64), (512, 256), (64, 16), (64, 32), (96, 8)])
def test_plan_covers_every_frame_with_the_asked_overlap(block, overlap):
    for frames in (*range(1, 700), 1024, 5000, 5001, 99_999):
        length, starts = plan(frames, block, overlap, 32)
        assert length % 32 == 0
        assert starts[0] == 0
        assert starts[-1] + length >= frames
        assert starts[-1] < frames
        assert length <= block
        assert all(b - a == length - overlap for a, b in zip(starts, starts[1:], strict=False))
        if len(starts) > 1:  # no block more than needed
            assert (len(starts) - 1) * (block - overlap) + overlap < frames


def test_fades_of_neighbours_sum_to_one():
    first, last = (collected._fade(64, 16, before=b, behind=not b) for b in (False, True))
    np.testing.assert_allclose(first[-16:] + last[:16], 1, atol=1e-6)
    assert (np.diff(last[:16]) > 0).all()
    assert (first[:-16] == 1).all()
    assert (last[16:] == 1).all()
    assert (collected._fade(64, 16, before=False, behind=False) == 1).all()


# ---- what is sampled


@pytest.fixture(scope="module")
def white_box():
    """Give two priors, a mixture, its true mask and the exact posterior mean of the mask.

    The latter integrates the power ratio over both sources per bin, on a grid.
    """
    priors = band_prior(1, sd=0.15), band_prior(2, sd=0.7)
    z, power = scene(priors, 32)
    z_m = np.asarray(REP.encode(jnp.asarray(power), 2), np.float64)
    grid = np.linspace(-4, 4, 241)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    mixed = np.logaddexp(REP.beta * a, REP.beta * b) / REP.beta
    ratio = 1 / (1 + np.exp(REP.beta * (b - a)))
    best = np.zeros(z_m.shape)
    for f in range(6):
        prior = sum(
            -0.5 * (x - float(p.mean[f])) ** 2 / float(p.variance[f])
            for x, p in zip((a, b), priors, strict=True)
        )
        for t in range(len(z_m)):
            log = prior - 0.5 * ((z_m[t, f] - mixed) * REP.span_db / 1.0) ** 2
            weight = np.exp(log - log.max())
            best[t, f] = (weight * ratio).sum() / weight.sum()
    truth = 1 / (1 + np.exp(REP.beta * (z[1] - z[0])))
    return priors, power, truth, best


# far from the posterior in so few levels, or following none: they only have to find something
COARSE = {"dps", "split-gibbs", "msdm-gaussian", "mmps-heun", "daps"}


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"mala"}))
def test_white_box_priors_are_separated_as_well_as_can_be(sampler, white_box):
    """Against the exact posterior mean per bin, which no method can beat."""
    priors, power, truth, best = white_box
    got = sample_masks(
        power,
        priors,
        REP,
        replace(QUICK, sampler=sampler, steps=16, samples=16, block=32, sigma_min=0.02),
    )
    np.testing.assert_allclose(got.masks.sum(0), 1, atol=1e-5)

    def distance(a, b):
        return np.sqrt(((a - b) ** 2).mean())

    bar, factor = (0.21, 1.6) if sampler in COARSE else (0.09, 1.2)
    assert distance(got.masks[0], best) < bar
    assert distance(got.masks[0], truth) < factor * distance(best, truth)
    assert distance(best, truth) < 0.6 * distance(truth.mean(0), truth)  # there is much to find
    assert got.residual < 2.0


def test_blocks_agree_with_one_long_block():
    """A frame has the same noise in every block that holds it, so nothing shows where they meet."""
    priors = band_prior(1), band_prior(2)
    _, power = scene(priors, 150)
    whole = masks(power, priors, block=256)
    np.testing.assert_allclose(masks(power, priors), whole, atol=2e-4)
    # frames and posterior samples differ among themselves
    assert np.abs(masks(power[:1].repeat(150, 0), priors)[0].std(0)).min() > 0.01
    assert np.abs(masks(power, priors, samples=4) - whole).max() > 0.01


class Drift(NamedTuple):
    """A prior whose mean moves from -1 to 1 within whatever block it sees."""

    sign: float
    sigmas: np.ndarray

    def score(self, x, sigma):
        n = x.shape[1]
        mean = self.sign * (2 * jnp.arange(n) / n - 1)[None, :, None]
        return (mean - x) / (0.001 + sigma**2)


def test_disagreeing_blocks_are_cross_faded_without_a_jump():
    priors = Drift(1.0, LEVELS), Drift(-1.0, LEVELS)
    power = np.full((160, 6), 30, np.float32)
    got = masks(power, priors, window=64, block=64, samples=8)[0].mean(1)
    assert got[0] < 0.05
    assert got[-1] > 0.95
    assert got[32:128].min() < 0.3  # between these ends it falls back where blocks change
    assert np.abs(np.diff(got)).max() < 0.15


def test_samples_are_weighted_stretch_by_stretch_and_block_by_block():
    """Two samples of two blocks, each right in a half of the file, whose judge knows it."""
    power, settings = np.full((96, 6), 30, np.float32), replace(QUICK, judge="evidence")
    first = np.where(np.arange(96) < 48, 0.4, -0.4)[:, None].repeat(6, 1).astype(np.float32)
    truth = np.stack([first, -first])
    total = collected.Collected(power, 2, REP, settings, 64, spread=True)
    for start, number in ((0, 0), (0, 1), (48, 0), (48, 1)):
        here = np.arange(start, start + 64)
        right = (here < 48) == (number == 0)
        cut = truth[:, np.minimum(here, 95)]
        sources = np.where(right[:, None], cut, -cut)
        nats = np.where(right, 1000.0, 1005.0) + (here >= 96) * 1e6 * number  # not of the file
        total.add((start, number), collected.Sample(sources, nats, np.zeros(6)))
    found = total.masks(0.0, 0.0, collected.Evaluations(0, 0, 0)).masks
    exact = np.asarray(REP.masks(truth))
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    far = np.abs(np.arange(96) - 47.5) > 16
    np.testing.assert_allclose(found[:, far], exact[:, far], atol=0.01)
    assert np.abs(found - exact).mean() < 0.15 * np.abs(0.5 - exact).mean()


def test_judges_agree_where_blocks_meet():
    """The noise of a judge belongs to the frame too; stretches that end with a block differ."""
    priors = band_prior(1), band_prior(2)
    _, power = scene(priors, 150)
    judged = dict(judge="evidence", samples=6, stretch=2.0)
    whole = masks(power, priors, block=256, **judged)
    parts = masks(power, priors, **judged)
    equal = masks(power, priors, samples=6)
    assert np.abs(parts - whole).mean() < 0.2 * np.abs(equal - whole).mean()
    for value in (0.0, -1.0):
        with pytest.raises(UserError, match="expected tau_db and stretch > 0"):
            Settings(stretch=value)
    with pytest.raises(UserError, match="^judge must be one of evidence, none for audio"):
        Settings(judge="likelihood")


def test_all_samples_are_judged_with_one_noise():
    """Else the differences of samples of one mixture would be those of the noise."""
    priors = band_prior(1), band_prior(2)
    unlike = []

    def measure(priors, key, sources, levels, keep, normal):
        noise = normal(key)
        unlike.append(jnp.abs(noise - noise[:, :1]).max())
        assert noise.shape == sources.shape
        return noise.std((0, 3))

    shared = jax.random.key(0), priors, REP.mixing(jnp.zeros(2)), jnp.array([1.0]), jnp.array([0.3])
    first, number = jnp.array([0, 0, 32], jnp.uint32), jnp.arange(3, dtype=jnp.uint32)
    seen = jnp.zeros((3, 64, 6)), jnp.full((3, 64, 1), 0.01), first, number
    kernel = QUICK.kernel()
    found = np.asarray(sampling._separate(kernel, measure, shared, seen)[1])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0, 32:], found[2, :32])  # and it belongs to the frame
    assert unlike[0] > 0.1  # between different frames


def test_evaluations_are_those_of_all_samples_of_a_source():
    priors, (_, power) = (band_prior(1), band_prior(2)), scene((band_prior(1), band_prior(2)), 40)
    settings = replace(QUICK, judge="evidence", samples=3, sampler="mmps-cg4")
    assert sample_masks(power, priors, REP, settings).evaluations == (3 * 6, 3 * 6 * 4, 3 * 3)
    alone = sample_masks(power, priors, REP, replace(settings, judge="none"))
    assert alone.evaluations == (3 * 6, 3 * 6 * 4, 0)


def test_judges_stay_within_the_levels_of_the_priors():
    """By themselves; levels that somebody chose are refused instead."""
    narrow = band_prior(1)._replace(sigmas=jnp.array([2.0, 0.15]))
    _, power = scene((narrow, narrow), 40)
    judged = dict(judge="evidence", samples=3, sigma_min=0.2)
    found = masks(power, (narrow, narrow), **judged)
    same = masks(power, (narrow, narrow), judges=(0.3, 0.17, 0.15), **judged)
    np.testing.assert_array_equal(found, same)
    with pytest.raises(UserError, match=r"no level near sigma=0.1;"):
        masks(power, (narrow, narrow), judges=(0.3, 0.17, 0.1), **judged)


@pytest.mark.parametrize(("window", "expected"), [(None, 160), (64, 64)])
def test_priors_of_any_length_see_a_whole_block_unless_a_window_is_asked_for(window, expected):
    lengths = set()

    class Short(NamedTuple):
        sigmas: np.ndarray

        def score(self, x, sigma):
            lengths.add((type(self).__name__, x.shape[1]))
            return -x / (0.1 + sigma**2)

    class Long(Short):
        any_length = True

    power = np.full((160, 6), 30, np.float32)
    masks(power, (Long(LEVELS), Short(LEVELS)), window=window, block=512)
    assert lengths == {("Long", expected), ("Short", window or 128)}


def test_seed_samples_and_progress():
    priors = band_prior(1), band_prior(2)
    _, power = scene(priors, 150)
    seen = []
    first = sample_masks(power, priors, REP, QUICK, lambda *at: seen.append(at)).masks
    total = len(plan(150, QUICK.block, QUICK.fade, 32)[1]) * QUICK.samples
    assert seen[-1] == (total, total)
    assert [at[0] for at in seen] == sorted(at[0] for at in seen)
    assert {at[1] for at in seen} == {total}
    np.testing.assert_array_equal(masks(power, priors), first)
    assert np.abs(masks(power, priors, seed=1) - first).max() > 0.05
    # the mean of more samples is nearer to the mean of many
    many = masks(power, priors, samples=64, seed=5)
    errors = [np.sqrt(((masks(power, priors, samples=n) - many) ** 2).mean()) for n in (2, 32)]
    assert errors[1] < 0.5 * errors[0]


def test_new_priors_and_mixtures_compile_nothing():
    priors = band_prior(1), band_prior(2)
    _, power = scene(priors, 150)
    masks(power, priors)
    count = len(chains._PROGRAMS)
    masks(2 * power, (band_prior(3), band_prior(4)), seed=3, tau_db=2.0)
    assert len(chains._PROGRAMS) == count


def test_levels_outside_the_priors_range_are_refused():
    narrow = band_prior(1)._replace(sigmas=jnp.array([1.0, 0.1]))
    with pytest.raises(UserError, match=r"prior 1 \(Gaussian\) has no level near sigma"):
        masks(np.ones((10, 6), np.float32), (band_prior(1), narrow))


# ---- devices

DEVICES = """
import sys
sys.path.insert(0, {folder!r})
import importlib.util, jax, numpy as np
spec = importlib.util.spec_from_file_location("cases", {path!r})
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)
assert jax.device_count() == 8
np.savez({out!r}, **cases.for_devices())
"""


def for_devices():
    priors = band_prior(1), band_prior(2)
    _, power = scene(priors, 150)
    pixels = (Gaussian(jnp.full((2, 2, 1), 0.4), jnp.full((2, 2, 1), 0.09), LEVELS),) * 2
    pictures = np.random.default_rng(0).uniform(size=(3, 2, 2, 1)).astype(np.float32)
    settings = ImageSettings(steps=6, samples=3, sigma_max=2.0, sigma_min=0.02)
    found = separate_images(MIXES["average"], pixels, pictures, settings)
    # 12 and 9 chains: two calls on 8 devices, the last one padded
    return {
        "audio": masks(power, priors, samples=3, judge="evidence"),
        "images": found.samples,
        "weights": found.weights,
    }


def test_eight_devices_give_the_numbers_of_one(tmp_path):

    script = DEVICES.format(folder=str(ROOT), path=__file__, out=str(tmp_path / "eight.npz"))
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    eight, one = np.load(tmp_path / "eight.npz"), for_devices()
    assert set(eight) == set(one)
    for name, values in one.items():
        assert values.std() > 0.01
        np.testing.assert_allclose(eight[name], values, atol=1e-4, err_msg=name)


# ---- the Python call


def loaded(k):
    return [LoadedPrior(f"source{i}", band_prior(i), REP, {}) for i in range(k)]


OPTIONS = {"steps": 3, "samples": 1, "window": 32, "block": 64}


def noise(*shape, seed=0):
    return (0.1 * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("k", "shape", "rate"),
    [
        (2, (20_000,), 16000),
        (2, (2, 9001), 44100),
        (3, (1, 500), 8000),
        (4, (5, 1), 48000),
        (1, (2, 3000), 16000),
    ],
)
def test_separate_keeps_shape_and_rate_and_sums_to_the_mixture(k, shape, rate):
    x = noise(*shape)
    stems = separate(x, rate, priors=loaded(k), **OPTIONS)
    assert list(stems) == [f"source{i}" for i in range(k)]
    for stem in stems.values():
        assert stem.shape == shape
        assert stem.dtype == np.float32
        assert np.isfinite(stem).all()
    assert np.abs(sum(stems.values()) - x).max() < 1e-5
    if k == 1:
        np.testing.assert_allclose(stems["source0"], x, atol=1e-6)
    elif len(shape) == 1 and shape[0] > 1000:
        assert all(0.02 < stem.std() / x.std() < 0.98 for stem in stems.values())


def test_separate_puts_bands_where_their_priors_are():
    """White-box separation from wave to wave: one prior is loud below, the other above."""
    mean = np.array([1.5, 1.5, 1.5, -1, -1, -1], np.float32)
    low, high = (
        LoadedPrior(name, Gaussian(jnp.asarray(m), jnp.full(6, 0.1), LEVELS), REP, {})
        for name, m in (("low", mean), ("high", mean[::-1].copy()))
    )
    at = np.arange(16000) / 16000
    tones = [np.sin(2 * np.pi * f * at).astype(np.float32) for f in (400, 5000)]
    stems = separate(sum(tones), 16000, priors=[high, low], **OPTIONS)
    for name, tone in zip(("low", "high"), tones, strict=True):
        error = stems[name] - tone
        assert 10 * np.log10((tone**2).sum() / (error**2).sum()) > 15, name


def test_silence_stays_silent():
    for x in (np.zeros(5000), np.zeros((2, 1))):
        for stem in separate(x, 16000, priors=loaded(3), **OPTIONS).values():
            assert stem.shape == x.shape
            assert not stem.any()


def test_level_does_not_matter_and_seeds_do():
    x = noise(9000)
    run = {**OPTIONS, "priors": loaded(2)}
    first, again = (separate(x, 16000, **run)["source0"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    quiet = separate(0.01 * x, 16000, **run)["source0"]
    assert np.abs(100 * quiet - first).max() < 1e-3
    assert np.abs(separate(x, 16000, seed=1, **run)["source0"] - first).max() > 1e-3
    assert gensep.separate is separate


def test_bad_audio_and_settings_are_refused_in_one_line():
    x = noise(2000)
    nan = x.copy()
    nan[7] = np.nan
    for audio, words in (
        (np.zeros(0), "at least one sample"),
        (np.zeros((2, 2, 2)), "got shape"),
        (np.float32(1), "got shape"),
        (nan, "not finite"),
    ):
        with pytest.raises(UserError, match=words):
            separate(audio, 16000, priors=loaded(2))
    for bad, words in (
        ({"steps": 0}, "steps must be at least 1"),
        ({"samples": 0}, "samples"),
        ({"sampler": "gibbs"}, "one of mmps, mmps-cg1, .*, not 'gibbs'"),
        ({"sampler": "dps", "constraint": "hard"}, "no hard constraint"),
        ({"constraint": "strict"}, "constraint must be soft or hard"),
        ({"overlap": 0.95}, "overlap"),
        ({"window": 8}, "window"),
        ({"window": 1024}, "no shorter than the window"),
        ({"block": 100, "window": 32}, "divisible by 32"),
        ({"block": 0, "window": 32}, "block"),
        ({"tau_db": 0.0}, "tau_db"),
        ({"sigma_min": 0.0}, "sigma_min"),
        ({"sigma_max": 0.01}, "sigma_max"),
        ({"preset": "slow"}, "preset must be one of fast, default, best"),
        ({"step": 3}, "unknown setting step; known: block, constraint, judge, judges, overlap"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            separate(x, 16000, priors=loaded(2), **bad)
        assert "\n" not in str(caught.value)


def test_priors_are_checked_and_equal_priors_numbered():
    first, second = loaded(2)
    assert assemble([first, second, first]).names == ("source01", "source1", "source02")
    for wrong in ([], [first] * 9):
        with pytest.raises(UserError, match="1 to 8 priors"):
            assemble(wrong)
    other = second._replace(form=Representation(n_mels=6))
    with pytest.raises(UserError, match="source0 and source1 .* different representations"):
        assemble([first, other])


def test_levels_fall_from_largest_to_smallest_and_may_be_geometric():
    levels = Settings(steps=10, sigma_min=0.02, rho=1000.0).levels()
    np.testing.assert_allclose(levels, np.geomspace(2.0, 0.02, 10), rtol=5e-3)
    dense = Settings(steps=10, sigma_min=0.02).levels()
    assert (dense[1:-1] > levels[1:-1]).all()
    with pytest.raises(UserError, match="rho > 0"):
        Settings(rho=0.0)


def test_presets_are_settings_by_name():
    assert make_settings("default", {}) == Settings()
    fast, best = make_settings("fast", {}), make_settings("best", {"seed": 3})
    assert fast.steps * fast.samples < Settings().steps * Settings().samples
    assert best.steps * best.samples > Settings().steps * Settings().samples
    assert best.seed == 3
    for preset in PRESETS:
        two, four, eight = (make_settings(preset, {}, n) for n in (2, 4, 8))
        assert make_settings(preset, {}, 1) == two
        assert two.steps * two.samples < four.steps * four.samples
        assert eight == replace(four, steps=2 * four.steps)
        assert make_settings(preset, {"steps": 5}, 4).steps == 5
