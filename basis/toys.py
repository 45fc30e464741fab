"""Small separation problems with a known posterior, on which samplers are compared.

From a key, a case draws priors, mixtures of their sources, and exact posterior samples. Samplers
see `Drawn.problem` only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from basis.closed_form import mixture_posterior
from basis.diagnostics import coverage, sliced_wasserstein
from basis.gmm import ElementMixture, GaussianMixture
from basis.mixing import Decibel, Linear, Mixing
from basis.prior import Prior
from basis.quadrature import bin_posterior
from basis.sampler import Problem

SIGMAS = (1e4, 1e-5)  # analytic priors are exact at any noise level


class Drawn(NamedTuple):
    """A random problem with its exact solution."""

    problem: Problem  # mixture [mixtures, D]
    truth: jax.Array  # [source, mixtures, D]
    mean: jax.Array  # [source, mixtures, D], of the exact posterior
    samples: jax.Array  # [n, source, mixtures, D], of the exact posterior
    again: jax.Array  # an independent set like `samples`: its distance is the best possible


def random_mixture(key: jax.Array, size: int, components: int = 3) -> GaussianMixture:
    """Draw a random Gaussian mixture on `[size]` with mean 0 and mean variance 1.

    Before this normalisation means are N(0, 1), axes are random, the logarithms of eigenvalues are
    uniform between ln .02 and ln .5, and weights are Dirichlet(3).
    """
    keys = jax.random.split(key, 4)
    means = jax.random.normal(keys[0], (components, size))
    low, high = jnp.log(0.02), jnp.log(0.5)
    values = jnp.exp(jax.random.uniform(keys[1], (components, size), minval=low, maxval=high))
    axes = jnp.linalg.qr(jax.random.normal(keys[2], (components, size, size)))[0]
    weights = jax.random.dirichlet(keys[3], jnp.full(components, 3.0))
    drawn = GaussianMixture(weights, means, values, axes, jnp.asarray(SIGMAS))
    scale = jnp.sqrt(jnp.trace(drawn.covariance()) / size)
    return drawn._replace(means=(means - drawn.mean()[None]) / scale, variances=values / scale**2)


@dataclass(frozen=True)
class LinearCase:
    """Sums of sources from random Gaussian mixtures."""

    sources: int
    size: int
    tau: float = 0.02
    sigmas: tuple[float, float] = (10.0, 0.01)  # first and last noise level for samplers
    unit: float = 1.0  # factor of reported errors

    def draw(self, key: jax.Array, mixtures: int, n: int) -> Drawn:
        """Draw priors, `mixtures` sums of sources and, twice, `n` samples of their posterior."""
        keys = jax.random.split(key, 4)
        priors = tuple(
            random_mixture(k, self.size) for k in jax.random.split(keys[0], self.sources)
        )
        draws = zip(priors, jax.random.split(keys[1], self.sources), strict=True)
        truth = jnp.stack([prior.sample(k, mixtures) for prior, k in draws])
        mixing = Linear(jnp.ones(self.sources))
        problem = _observe(keys[2], priors, mixing, truth, self.tau)
        exact = mixture_posterior(priors, mixing.gains, problem.mixture, self.tau)
        two = [exact.sample(k, n) for k in jax.random.split(keys[3])]
        return Drawn(problem, truth, exact.mean(), *two)


@dataclass(frozen=True)
class DecibelCase:
    """Two sources of one element whose powers add; a prior is a row (weight, mean, sd), ..."""

    priors: tuple[tuple[tuple[float, float, float], ...], ...]
    beta: float = 27.631  # for 120 dB per model unit
    tau: float = 0.0104  # 1.25 dB
    sigmas: tuple[float, float] = (1.0, 0.004)
    unit: float = 120.0  # dB per model unit

    def draw(self, key: jax.Array, mixtures: int, n: int) -> Drawn:
        """Draw `mixtures` elements and, twice, `n` samples of their posterior."""
        keys = jax.random.split(key, 3)
        priors = tuple(ElementMixture(*_table(rows), jnp.asarray(SIGMAS)) for rows in self.priors)
        draws = zip(priors, jax.random.split(keys[0]), strict=True)
        truth = jnp.stack([prior.sample(k, (mixtures, 1)) for prior, k in draws])
        mixing = Decibel(jnp.asarray(self.beta), jnp.zeros(2))
        problem = _observe(keys[1], priors, mixing, truth, self.tau)
        # sources differ by at most 1.5 units; cells are a twelfth of 1 / beta wide
        differences = (jnp.arange(1000) + 0.5) * 0.003 - 1.5
        logs = [partial(prior.log_density, sigma=jnp.asarray(0.0)) for prior in priors]
        exact = bin_posterior(logs, mixing, problem.mixture[:, 0], self.tau, differences)
        two = [exact.sample(k, n)[..., None] for k in jax.random.split(keys[2])]
        return Drawn(problem, truth, exact.mean()[..., None], *two)


def compare(key: jax.Array, x: jax.Array, drawn: Drawn, unit: float = 1.0) -> dict[str, jax.Array]:
    """Compare samples `[n, source, mixtures, D]` with the exact ones, in units of `unit`.

    Returns:
        sw: sliced Wasserstein distance, mean over mixtures; gap_mse, gap_rms, bias: difference of
        the samples' mean from the exact mean; mse1: squared error of one sample; coverage: share
        of the truth in central 80 % intervals; residual: rms of mixture - f(sample).
    """

    def joint(samples: jax.Array) -> jax.Array:  # [mixtures, n, source D]
        return jnp.moveaxis(samples, 2, 0).reshape(samples.shape[2], len(samples), -1)

    keys = jax.random.split(key, x.shape[2])
    distance = jax.vmap(sliced_wasserstein)(keys, joint(x), joint(drawn.samples))
    off = x.mean(0) - drawn.mean
    residual = drawn.problem.mixture[None] - jax.vmap(drawn.problem.mixing)(x)
    return {
        "sw": unit * distance.mean(),
        "gap_mse": unit**2 * (off**2).mean(),
        "gap_rms": unit * jnp.sqrt((off**2).mean()),
        "bias": unit * off.mean(),
        "mse1": unit**2 * ((x - drawn.truth[None]) ** 2).mean(),
        "coverage": coverage(x, drawn.truth),
        "residual": unit * jnp.sqrt((residual**2).mean()),
    }


def _observe(
    key: jax.Array, priors: Sequence[Prior], mixing: Mixing, truth: jax.Array, tau: float
) -> Problem:
    mixture = mixing(truth)
    noise = tau * jax.random.normal(key, mixture.shape)
    return Problem(tuple(priors), mixing, mixture + noise, jnp.asarray(tau**2))


def _table(
    rows: tuple[tuple[float, float, float], ...],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return weights, means and variances `[component]`."""
    weights, means, sds = jnp.asarray(rows).T
    return weights, means, sds**2


CASES = {
    "K2 D4": LinearCase(2, 4),
    "K4 D4": LinearCase(4, 4),
    "K2 D24": LinearCase(2, 24),
    "dB bimodal": DecibelCase(
        (((0.6, 0.55, 0.08), (0.4, 0.20, 0.06)), ((0.5, 0.45, 0.10), (0.5, 0.15, 0.05)))
    ),
    "dB easy": DecibelCase((((1.0, 0.5, 0.1),), ((1.0, 0.4, 0.12),))),
}
