"""Noise schedules: NCSNv2's techniques against its published settings, and by brute force."""

import math
import tomllib

import numpy as np
import pytest

from gensep import noise_levels, train_ncsn
from gensep.cli.config import build
from gensep.datasets.images import load_images
from gensep.runtime.errors import UserError
from score.noise import (
    geometric,
    largest_distance,
    technique2_levels,
    technique2_ratio,
    technique4_step,
    technique4_variance,
)


def test_geometric_levels():
    published = [1, 0.599, 0.359, 0.215, 0.129, 0.0774, 0.0464, 0.0278, 0.0167, 0.01]
    np.testing.assert_allclose(geometric(10, 0.01, 1), published, rtol=3e-3)
    with pytest.raises(ValueError, match="0 < sigma_min <= sigma_max"):
        geometric(10, 1, 0.01)


@pytest.mark.parametrize("block", [7, 50, 4096])
def test_largest_distance_is_exact(block):
    """Far from the origin too, where float32 would lose small distances in large norms."""
    data = 100 + np.random.default_rng(0).normal(size=(50, 3, 4)).astype(np.float32)
    flat = data.reshape(50, -1).astype(np.float64)
    exact = np.linalg.norm(flat[:, None] - flat, axis=-1).max()
    assert largest_distance(data, block=block) == pytest.approx(exact, rel=1e-6)


def test_largest_distance_of_a_sample():
    data = np.random.default_rng(0).normal(size=(500, 8))
    whole, part = largest_distance(data), largest_distance(data, sample=100, seed=1)
    assert 0.7 * whole < part <= whole
    assert part == largest_distance(data, sample=100, seed=1)
    assert largest_distance(data, sample=1000) == whole
    with pytest.raises(ValueError, match="two examples"):
        largest_distance(data[:1])


def test_technique_2_solves_its_equation():
    assert technique2_ratio(6144) == pytest.approx(0.97365, abs=5e-6)
    for dimension in (2, 784, 3072, 6144, 196608):
        ratio, root = technique2_ratio(dimension), math.sqrt(2 * dimension)

        def cdf(x):
            return (1 + math.erf(x / math.sqrt(2))) / 2

        overlap = cdf(root * (ratio - 1) + 3 * ratio) - cdf(root * (ratio - 1) - 3 * ratio)
        assert overlap == pytest.approx(0.5, abs=1e-12)
        if dimension > 100:
            assert ratio == pytest.approx(root / (root + 3), abs=1e-6)
    with pytest.raises(ValueError, match="dimension"):
        technique2_ratio(0)


@pytest.mark.parametrize(("sigma_max", "levels"), [(1, 172), (30, 300), (55, 323)])
def test_technique_2_gives_the_known_numbers_of_levels(sigma_max, levels):
    assert technique2_levels(6144, 0.01, sigma_max) == levels
    ratios = np.divide(
        *(geometric(levels, 0.01, sigma_max)[s] for s in (slice(1, None), slice(-1)))
    )
    np.testing.assert_allclose(ratios, technique2_ratio(6144), rtol=2e-3)


# dimension, sigma_1, levels, steps, epsilon of Song and Ermon 2020
PUBLISHED = {
    "cifar10": (3072, 50, 232, 5, 6.2e-6),
    "celeba": (12288, 90, 500, 5, 3.3e-6),
    "bedroom": (49152, 190, 1086, 3, 1.8e-6),
    "ffhq": (196608, 348, 2311, 3, 0.9e-6),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_techniques_2_and_4_against_published_settings(name):
    """Steps to the digits that are given; levels to 6 %, theirs lie at overlaps of 0.52 to 0.56."""
    dimension, sigma_max, levels, steps, published = PUBLISHED[name]
    ratio = (sigma_max / 0.01) ** (1 / (levels - 1))
    assert technique4_step(0.01, ratio, steps) == pytest.approx(published, abs=0.06e-6)
    assert technique2_levels(dimension, 0.01, sigma_max) == pytest.approx(levels, rel=0.06)


def test_the_published_step_for_churches_is_no_minimum_but_near():
    """140, 788 levels, T 4, epsilon 4.9e-6: the variance is 1.025 there, 1.022 at its smallest."""
    ratio = 14000 ** (1 / 787)
    best = technique4_step(0.01, ratio, 4)
    assert best == pytest.approx(2.31e-6, rel=0.01)
    assert technique4_variance(best / 1e-4, ratio, 4) == pytest.approx(1.0224, abs=1e-4)
    assert technique4_variance(4.9e-2, ratio, 4) == pytest.approx(1.0247, abs=1e-4)


def test_technique_4_is_what_langevin_does_to_the_variance():
    """rho by the recursion v -> (1 - a)^2 v + 2 a of steps on N(0, sigma^2), and its minimum."""
    ratio, steps = 1.04, 5
    best = technique4_step(0.02, ratio, steps) / 0.02**2
    for step in (best, 0.5 * best, 2 * best):
        variance = ratio**2
        for _ in range(steps):
            variance = (1 - step) ** 2 * variance + 2 * step
        assert technique4_variance(step, ratio, steps) == pytest.approx(variance, rel=1e-12)
    around = [technique4_variance(s * best, ratio, steps) for s in (0.98, 1, 1.02)]
    assert around[1] == min(around)
    with pytest.raises(ValueError, match="ratio > 1"):
        technique4_step(0.01, 0.9, 5)


def test_the_command_prints_a_table_that_training_takes(capsys):
    noise_levels.main(["digits", "--examples", "400", "--sigma_min", "0.02"])
    text = capsys.readouterr().out
    found = tomllib.loads(text)
    assert found["schedule"] == "geometric"
    assert found["noise_levels"] == technique2_levels(64, 0.02, found["sigma_max"])
    images = (load_images("digits", "train")[0] + 0.5) / 256
    farthest = max(
        np.linalg.norm((images - one).reshape(len(images), -1), axis=1).max() for one in images
    )
    assert 0.8 * farthest < found["sigma_max"] <= 1.001 * farthest
    build(train_ncsn.Config, {"data": "digits", "run": "run", **found})
    with pytest.raises(UserError, match="expected examples that lie farther apart"):
        noise_levels.main(["digits", "--examples", "10", "--sigma_min", "100"])
