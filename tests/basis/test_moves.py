"""Moves between explanations, against posteriors that are known exactly."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from basis import (
    Kernel,
    Linear,
    Problem,
    gaussian_mixture,
    mixture_posterior,
    moving,
    resample_stretches,
    sample,
    stitch,
    swap,
)
from basis.closed_form import MixturePosterior
from basis.sampler import report

LEVELS = jnp.asarray([1e3, 1e-3])
SIGMA, TAU, CHAINS = 0.3, 0.4, 4000
pytestmark = pytest.mark.usefixtures("hasty")


class Noisy(NamedTuple):
    """The law of two noisy sources given mixtures `[mixture, D]`: modes of unequal weight."""

    log_weights: jax.Array  # [mixture, mode]
    means: jax.Array  # [mixture, mode, source D]
    covariances: jax.Array  # [mode, source D, source D]
    precisions: jax.Array  # [mode, source D, source D]
    log_dets: jax.Array  # [mode], of the precisions

    def terms(self, x):
        """Return log(weight N(x)) of every mode, `[n, mixture, mode]`, and a constant."""
        count, n, batch, size = x.shape
        flat = jnp.moveaxis(x, 0, 2).reshape(n, batch, 1, count * size)
        off = flat - self.means[None]
        squares = jnp.einsum("nbti,tij,nbtj->nbt", off, self.precisions, off)
        return self.log_weights[None] - 0.5 * (squares - self.log_dets[None, None])

    def energy(self, x):
        """Return -log p(x), `[n, mixture]`, for sources `[source, n, mixture, D]`."""
        return -jax.nn.logsumexp(self.terms(x), -1)

    @jax.jit
    def sample(self, key):
        """Draw `[source, chain, element]`, for one mixture of many elements or many of one."""
        exact = MixturePosterior(self.log_weights, self.means[:, :, None], self.covariances, 0)
        shape = (CHAINS, len(self.means), 2, -1)
        x = exact._replace(covariances=self.covariances[:, None, :, None]).sample(key, CHAINS)
        return jnp.moveaxis(x.reshape(shape), 2, 0).reshape(2, CHAINS, -1)

    @jax.jit
    def standard_errors(self, x):
        """Compare the probabilities of the modes in `[source, chain, element]` with the exact ones.

        The mean probability of a mode given a noisy draw is the mode's weight.
        """
        share = jax.nn.softmax(self.terms(x.reshape(2, CHAINS, len(self.means), -1)), -1)
        off = share.mean(0) - jnp.exp(self.log_weights)
        return jnp.abs(off / (share.std(0) / jnp.sqrt(CHAINS))).max()


@jax.jit
def noisy_posterior(mixtures):
    size = mixtures.shape[1]
    priors = [
        gaussian_mixture(
            jnp.asarray(weights),
            jnp.asarray(ends)[:, None] * jnp.linspace(1, 0.6, size)[None],
            jnp.stack([0.1 * jnp.eye(size) + 0.05] * 2),
            LEVELS,
        )
        for weights, ends in (((0.8, 0.2), (0.7, -0.7)), ((0.35, 0.65), (0.7, -0.5)))
    ]
    exact = mixture_posterior(priors, jnp.ones(2), mixtures, TAU)
    modes, flat = exact.means.shape[1], 2 * size
    covariances = exact.covariances.reshape(modes, flat, flat) + SIGMA**2 * jnp.eye(flat)[None]
    means = exact.means.reshape(-1, modes, flat)
    precisions = jnp.linalg.inv(covariances)
    log_dets = jnp.linalg.slogdet(precisions)[1]
    return Noisy(exact.log_weights, means, covariances, precisions, log_dets)


@pytest.fixture(scope="module")
def laws():
    """One mixture whose elements depend on one another, and five that are independent."""
    tied = noisy_posterior(jnp.asarray([[0.3, 0.1, -0.2, 0.1]]))
    return {"tied": tied, "free": noisy_posterior(jnp.asarray([0.3, 0.1, -0.2, 0, 0.25])[:, None])}


def tied_energy(law, x):
    """Return the energy of every chain, `[chain]`, for sources `[source, chain, element]`."""
    return law.energy(x[:, :, None])[:, 0]


def free_energy(law, x):
    """Return the energy of every element, half of it moved to the next: `[chain, element]`."""
    half = law.energy(x[..., None]) / 2
    given = half.at[:, -1].set(0)
    return half + (half - given) + jnp.roll(given, 1, 1)


@partial(jax.jit, static_argnums=(0, 2))
def moved(move, key, law, exact, strictness, x):
    """Apply a move 41 times to sources `[source, chain, element]`; strictness 0 accepts always."""

    def again(x, key):
        return move(key, x, lambda x: strictness * law(exact, x))

    x, share = jax.lax.scan(again, x, jax.random.split(key, 41))
    return x, share.mean()


CASES = {
    "swap": (partial(swap, stretch=5), "tied", tied_energy),
    "stitch": (partial(stitch, chains=CHAINS, stretch=5), "tied", tied_energy),
    "swap by elements": (partial(swap, stretch=2), "free", free_energy),
}


@pytest.mark.parametrize("case", CASES)
def test_moves_leave_the_posterior_unchanged_and_wrong_acceptance_does_not(case, laws):
    move, name, energy = CASES[case]
    law = laws[name]
    x = law.sample(jax.random.key(0))
    assert law.standard_errors(x) < 4
    after, share = moved(move, jax.random.key(1), energy, law, 1.0, x)
    assert 0.03 < share < 0.97
    assert np.not_equal(after, x).any((0, 2)).mean() > 0.2
    assert law.standard_errors(after) < 4
    wrong, _ = moved(move, jax.random.key(1), energy, law, 0.0, x)
    assert law.standard_errors(wrong) > 10


@pytest.mark.parametrize("case", ["swap", "swap by elements"])
def test_swaps_find_the_modes_when_all_chains_have_the_sources_exchanged(case, laws):
    move, name, energy = CASES[case]
    law = laws[name]
    x = law.sample(jax.random.key(0))[::-1]
    assert law.standard_errors(x) > 20
    after, _ = moved(move, jax.random.key(1), energy, law, 1.0, x)
    assert law.standard_errors(after) < 4


def test_stitches_by_elements_respect_the_ties_of_neighbours():
    """A stationary autoregression keeps its correlation; accepting always destroys it."""
    a, length = 0.8, 12
    first, *z = jax.random.normal(jax.random.key(0), (length + 1, CHAINS))

    def step(x, z):
        x = a * x + jnp.sqrt(1 - a**2) * z
        return x, x

    x = jnp.moveaxis(jax.lax.scan(step, first, jnp.stack(z))[1], 0, 1)[None]  # [1, chain, element]

    def law(_, x):
        ties = (x[0, :, 1:] - a * x[0, :, :-1]) ** 2 / (2 * (1 - a**2))
        return jnp.concatenate([x[0, :, :1] ** 2 / 2, ties], 1)

    def correlation(x):
        return (x[0, :, 1:] * x[0, :, :-1]).mean()

    move = partial(stitch, chains=CHAINS, stretch=3)
    after, share = moved(move, jax.random.key(1), law, None, 1.0, x)
    assert 0.1 < share < 0.9
    assert (after != x).mean() > 0.9
    assert abs(correlation(after) - a) < 0.02
    wrong, _ = moved(move, jax.random.key(1), law, None, 0.0, x)
    assert correlation(wrong) < 0.5


def test_a_swap_takes_any_pair_of_sources_and_any_axis():
    x = jnp.arange(3 * 2 * 4 * 5.0).reshape(3, 2, 4, 5)
    pairs = set()
    run = jax.jit(lambda key: swap(key, x, lambda x: jnp.zeros(2), 2, axis=3))
    for seed in range(8):
        got, accepted = run(jax.random.key(seed))
        changed = np.asarray(got != x)
        assert (accepted == 1).all()
        np.testing.assert_array_equal(np.sort(got, 0), np.sort(x, 0))
        assert (changed == changed[:, :1, :1]).all()  # columns, the same for all chains
        assert changed[:, 0, 0].any(0).sum() <= 2
        pairs.add(tuple(changed.any((1, 2, 3)).tolist()))
    assert len(pairs) > 2


def test_chains_are_stitched_within_their_mixture():
    """Each element is the number of its mixture, or of its chain; nobody loses a stretch."""
    mixture, chain = jnp.repeat(jnp.arange(4), 3), jnp.tile(jnp.arange(3), 4)
    x = jnp.broadcast_to(jnp.stack([mixture, chain])[..., None] * 1.0, (2, 12, 6))
    energy = lambda x: jnp.zeros(x.shape[1:])  # noqa: E731
    got, _ = jax.jit(lambda key, x: stitch(key, x, energy, 3, 2))(jax.random.key(0), x)
    np.testing.assert_array_equal(got[0], x[0])
    np.testing.assert_array_equal(np.sort(got[1].reshape(4, 3, 6), 1), x[1].reshape(4, 3, 6))
    assert (got[1] != x[1]).any(-1).sum() == 8  # of each mixture's three chains two
    with pytest.raises(ValueError, match="divisible by 5 chains, not 12"):
        stitch(jax.random.key(0), x, energy, 5, 2)


def test_resampled_stretches_have_the_weights_of_the_modes(laws):
    """Draws with modes of equal weight and their exact weights become draws of the posterior."""
    law = laws["free"]
    even = law._replace(log_weights=jnp.full_like(law.log_weights, jnp.log(0.25)))
    before = even.sample(jax.random.key(0))
    assert even.standard_errors(before) < 4
    assert law.standard_errors(before) > 20

    @jax.jit
    def run(key, x):
        energies = law.energy(x[..., None]) - even.energy(x[..., None])
        return resample_stretches(key, x, energies, CHAINS, 1)

    assert law.standard_errors(run(jax.random.key(1), before)) < 4


def test_resampling_is_systematic_and_survivors_keep_their_place():
    chains, groups, length = 6, 2, 7
    x = jnp.broadcast_to(jnp.arange(12.0)[None, :, None, None], (2, 12, length, 3))
    energies = 2 * jax.random.normal(jax.random.key(0), (12, length))
    run = jax.jit(jax.vmap(partial(resample_stretches, chains=6, stretch=3), (0, None, None)))
    keys = jax.random.split(jax.random.key(0), 400)
    got = np.asarray(run(keys, x, energies)[:, 0, :, :, 0], int)  # [key, chain, frame]
    assert (got // chains == np.arange(12)[:, None] // chains).all()  # own mixture
    alive = np.stack([(got == chain).any(1) for chain in range(12)], 1)
    np.testing.assert_array_equal(alive, got == np.arange(12)[:, None])
    cuts = (got[:, :, 1:] != got[:, :, :-1]).any((0, 1))
    assert cuts.all()  # the grid has a random offset
    # the middle frame's stretch is one of three; expected copies are chains times the weight
    sums = [energies[:, a : a + 3].sum(1).reshape(groups, chains) for a in (1, 2, 3)]
    expected = chains * np.mean([jax.nn.softmax(-s, 1) for s in sums], 0).ravel()
    copies = np.bincount(got[:, :, 3].ravel(), minlength=12) / len(keys)
    np.testing.assert_allclose(copies, expected, atol=0.3)
    same = run(keys, x, jnp.zeros((12, length)))
    assert (same == x[None]).all()  # equal weights: everybody survives


def test_a_kernel_moves_at_the_chosen_levels_only():
    problem = Problem((None, None), Linear(jnp.ones(2)), jnp.ones((4, 3)), jnp.asarray(0.01))
    sigmas = jnp.asarray([2.0, 1.0, 0.5, 0.25])

    def step(key, x, problem, sigma, sigma_next, normal):
        return x / 2 + sigma_next * normal(key), report(problem, x)

    def flip(key, x, problem, sigma):
        return x[::-1] + 100 * sigma

    @jax.jit
    def run(lowest, highest):
        kernel = moving(Kernel(step), flip, lowest, highest, calls=3)
        return sample(kernel, jax.random.key(0), problem, sigmas)

    plain, info = run(5, 6)
    np.testing.assert_array_equal(info.forwards, np.ones(4))
    alone = jax.jit(lambda key: sample(Kernel(step), key, problem, sigmas)[0])(jax.random.key(0))
    np.testing.assert_allclose(plain, alone, rtol=1e-6)
    last, info = run(0, 0.2)
    np.testing.assert_allclose(last, plain[::-1], rtol=1e-6)
    np.testing.assert_array_equal(info.forwards, [1, 1, 1, 4])
    np.testing.assert_array_equal(run(0.5, 1)[1].forwards, [4, 4, 1, 1])
