"""Exact draws of z ~ prod_k N(z_k; centre_k, sd_k^2) N(mixture; f(z), variance), per element.

Linear maps: Matheron's rule. The decibel map, with y_k = z_k + gains_k / beta: let u = f(z) and
d_k = y_1 - y_k, so that y_k = u + a_k(d), |dz / d(u, d)| = 1. Given d, u is Gaussian; so the
density of d is known in closed form and is drawn from on a grid, one d_k after the other: exact
for two sources, Gibbs sweeps for more. No network is involved.
"""

import jax
import jax.numpy as jnp

from basis.mixing import Decibel, Linear
from basis.sampler import Problem, observation_variance

GRID = 64
DEEP = 20.0  # log density below the maximum that a second grid leaves out


def exact_draw(
    key: jax.Array,
    centre: jax.Array,
    sd: jax.Array,
    problem: Problem,
    w: jax.Array,
    sweeps: int = 3,
) -> jax.Array:
    """Draw z, `[source, batch, ...]`.

    Args:
        key: source of all randomness.
        centre: `[source, batch, ...]`.
        sd: broadcastable to `centre`, > 0.
        problem: mixture, mixing and variance; censored elements above which nothing lies count
            as unobserved.
        w: weights df/dx at the centre, for variances that depend on them.
        sweeps: over the sources, for more than two of them in decibels.

    Raises:
        ValueError: for maps other than Linear and Decibel.
    """
    variance = jnp.broadcast_to(observation_variance(problem, w), problem.mixture.shape)
    if problem.censored is not None:
        free = problem.censored & (problem.mixing(centre) <= problem.mixture)
        variance = jnp.where(free, 1e12, variance)
    sd = jnp.broadcast_to(sd, centre.shape)
    if isinstance(problem.mixing, Linear):
        return _linear(key, centre, sd, problem.mixing, problem.mixture, variance)
    if isinstance(problem.mixing, Decibel):
        return _decibel(key, centre, sd, problem.mixing, problem.mixture, variance, sweeps)
    raise ValueError(
        f"exact draws need linear or decibel mixing, not {type(problem.mixing).__name__}; take mmps"
    )


def check_mixing(problem: Problem, sigmas=None) -> None:
    """Refuse maps that exact draws do not know, before anything is compiled."""
    if not isinstance(problem.mixing, Linear | Decibel):
        raise ValueError(
            "exact draws need linear or decibel mixing, not "
            f"{type(problem.mixing).__name__}; take mmps"
        )


def _linear(key, centre, sd, mixing, mixture, variance) -> jax.Array:
    prior_key, noise_key = jax.random.split(key)
    z = centre + sd * jax.random.normal(prior_key, centre.shape, centre.dtype)
    seen = variance < 1e6
    noise = jnp.sqrt(jnp.where(seen, variance, 0))
    noise = noise * jax.random.normal(noise_key, mixture.shape, centre.dtype)
    gains = mixing.gains.reshape(-1, *[1] * mixture.ndim)
    total = (gains**2 * sd**2).sum(0) + variance
    return z + gains * sd**2 * (mixture - mixing(z) - noise) / total


def _decibel(key, centre, sd, mixing, mixture, variance, sweeps) -> jax.Array:
    n_sources, beta = len(centre), mixing.beta
    shift = (mixing.gains / beta).reshape(-1, *[1] * mixture.ndim)
    c, precision = centre + shift, 1 / sd**2
    total = 1 / variance + precision.sum(0)

    def parts(d):
        """Give a_k(d) for d `[source, ...]` with d_1 = 0, the mean of u, and log p(d)."""
        a = -jax.nn.logsumexp(-beta * d, axis=0) / beta - d
        u = (mixture / variance + (precision * (c - a)).sum(0)) / total
        energy = (precision * (u + a - c) ** 2).sum(0) + (mixture - u) ** 2 / variance
        return a, u, -energy / 2

    def density(d, k, low, cell):
        """Give places of the grid, and log p of d_k at the centres of its cells."""
        place = jnp.arange(GRID, dtype=d.dtype).reshape(-1, *[1] * mixture.ndim)
        return place, jax.vmap(lambda p: parts(d.at[k].set(low + (p + 0.5) * cell))[2])(place)

    def draw_one(key, d, k):
        ends = jnp.stack([c[0] - c[k], c[0] - mixture, mixture - c[k]])
        reach = 5 * (sd[0] + sd[k])
        low, high = ends.min(0) - reach, ends.max(0) + reach
        for _ in range(2):
            cell = (high - low) / GRID
            place, levels = density(d, k, low, cell)
            # the second grid covers what the first found
            alive = levels > levels.max(0) - DEEP
            first = jnp.where(alive, place, GRID).min(0)
            last = jnp.where(alive, place, -1).max(0)
            before, low, high = low, low + (first - 1) * cell, low + (last + 2) * cell
        weight = jnp.exp(levels - levels.max(0))
        mass = jnp.cumsum(weight, 0)
        pick_key, place_key = jax.random.split(key)
        u = jax.random.uniform(pick_key, mixture.shape, d.dtype) * mass[-1]
        index = jnp.minimum((mass < u).sum(0), GRID - 1)
        within = jax.random.uniform(place_key, mixture.shape, d.dtype)
        return d.at[k].set(before + (index + within) * cell)

    d = c[0] - c
    for _ in range(1 if n_sources == 2 else sweeps):
        for k in range(1, n_sources):
            key, own = jax.random.split(key)
            d = draw_one(own, d, k)
    a, u, _ = parts(d)
    u = u + jax.random.normal(jax.random.fold_in(key, 1), mixture.shape, d.dtype) / jnp.sqrt(total)
    return u + a - shift
