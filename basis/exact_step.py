"""Exact samples of z ~ prod_k N(z_k; centre_k, sd_k^2) N(mixture; f(z), variance), per element.

Linear maps use Matheron's rule. For the decibel map let y_k = z_k + gains_k / beta, u = f(z) and
d_k = y_1 - y_k, so that y_k = u + a_k(d) and |dz / d(u, d)| = 1. Given d, u is Gaussian. So the
density of d has a closed form; each d_k in turn is sampled from it on a grid, which is exact for
two sources and a Gibbs sampler for more. No network is evaluated.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from basis.broadcast import align_first
from basis.mixing import Decibel, Linear
from basis.sampler import UNKNOWN, Problem, observation_variance

GRID = 64  # number of cells
DEEP = 20.0  # the second grid leaves out log densities this far below the maximum


def exact_draw(
    key: jax.Array,
    centre: jax.Array,
    sd: jax.Array,
    problem: Problem,
    w: jax.Array,
    sweeps: int = 3,
) -> jax.Array:
    """Draw a sample z, `[source, batch, ...]`.

    Args:
        key: random key.
        centre: `[source, batch, ...]`.
        sd: standard deviations, broadcastable to `centre`, > 0.
        problem: mixture, mixing and variance; censored elements where f(centre) <= mixture count
            as unobserved.
        w: weights df/dx at the centre, for variances that depend on them.
        sweeps: number of Gibbs sweeps for three or more sources with the decibel map.

    Raises:
        ValueError: for maps other than Linear and Decibel.
    """
    check_mixing(problem)
    variance = jnp.broadcast_to(observation_variance(problem, w), problem.mixture.shape)
    if problem.censored is not None:
        free = problem.censored & (problem.mixing(centre) <= problem.mixture)
        variance = jnp.where(free, 1e12, variance)
    sd = jnp.broadcast_to(sd, centre.shape)
    if isinstance(problem.mixing, Linear):
        return _linear(key, centre, sd, problem.mixing, problem.mixture, variance)
    assert isinstance(problem.mixing, Decibel)
    return _decibel(key, centre, sd, problem.mixing, problem.mixture, variance, sweeps)


def check_mixing(problem: Problem, sigmas: ArrayLike | None = None) -> None:
    """Refuse mixing maps for which `exact_draw` has no closed form.

    Raises:
        ValueError: for maps other than Linear and Decibel.
    """
    if not isinstance(problem.mixing, Linear | Decibel):
        raise ValueError(
            "exact draws need linear or decibel mixing, not "
            f"{type(problem.mixing).__name__}; use mmps"
        )


def _linear(
    key: jax.Array,
    centre: jax.Array,
    sd: jax.Array,
    mixing: Linear,
    mixture: jax.Array,
    variance: jax.Array,
) -> jax.Array:
    prior_key, noise_key = jax.random.split(key)
    z = centre + sd * jax.random.normal(prior_key, centre.shape, centre.dtype)
    seen = variance < UNKNOWN
    noise = jnp.sqrt(jnp.where(seen, variance, 0))
    noise = noise * jax.random.normal(noise_key, mixture.shape, centre.dtype)
    gains = align_first(mixing.gains, z)
    total = (gains**2 * sd**2).sum(0) + variance
    return z + gains * sd**2 * (mixture - mixing(z) - noise)[None] / total[None]


def _decibel(
    key: jax.Array,
    centre: jax.Array,
    sd: jax.Array,
    mixing: Decibel,
    mixture: jax.Array,
    variance: jax.Array,
    sweeps: int,
) -> jax.Array:
    n_sources, beta = len(centre), mixing.beta
    shift = align_first(mixing.gains / beta, centre)
    c, precision = centre + shift, 1 / sd**2
    total = 1 / variance + precision.sum(0)

    def parts(d: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return a_k(d) for d `[source, ...]` with d_1 = 0, the mean of u, and log p(d)."""
        a = (-jax.nn.logsumexp(-beta * d, axis=0) / beta)[None] - d
        u = (mixture / variance + (precision * (c - a)).sum(0)) / total
        energy = (precision * (u[None] + a - c) ** 2).sum(0) + (mixture - u) ** 2 / variance
        return a, u, -energy / 2

    def sample_one(key: jax.Array, d: jax.Array, k: int) -> jax.Array:
        """Return d with a new sample of d_k."""
        place = align_first(jnp.arange(GRID, dtype=d.dtype), d)
        ends = jnp.stack([c[0] - c[k], c[0] - mixture, mixture - c[k]])
        reach = 5 * (sd[0] + sd[k])
        low, high = ends.min(0) - reach, ends.max(0) + reach
        for _ in range(2):
            cell = (high - low) / GRID
            values = low[None] + (place + 0.5) * cell[None]
            logs = jax.vmap(lambda value: parts(d.at[k].set(value))[2])(values)
            # the second grid covers the cells of the first that carry probability
            alive = logs > logs.max(0)[None] - DEEP
            first = jnp.where(alive, place, GRID).min(0)
            last = jnp.where(alive, place, -1).max(0)
            before, low, high = low, low + (first - 1) * cell, low + (last + 2) * cell
        weight = jnp.exp(logs - logs.max(0)[None])
        mass = jnp.cumsum(weight, 0)
        pick_key, place_key = jax.random.split(key)
        u = jax.random.uniform(pick_key, mixture.shape, d.dtype) * mass[-1]
        index = jnp.minimum((mass < u[None]).sum(0), GRID - 1)
        within = jax.random.uniform(place_key, mixture.shape, d.dtype)
        return d.at[k].set(before + (index + within) * cell)

    d = c[:1] - c
    for _ in range(1 if n_sources == 2 else sweeps):
        for k in range(1, n_sources):
            key, own = jax.random.split(key)
            d = sample_one(own, d, k)
    a, u, _ = parts(d)
    u = u + jax.random.normal(jax.random.fold_in(key, 1), mixture.shape, d.dtype) / jnp.sqrt(total)
    return u[None] + a - shift
