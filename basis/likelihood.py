"""Exact log densities of priors by the probability-flow ODE (Song et al. 2021, eq. 39).

The ODE dx = (x - D) d ln sigma, with the denoiser D = x + sigma^2 score, carries p_sigma from one
noise level to another. Along its path the log density changes by the divergence:

    log p_low(x_low) = log p_high(x_high) + integral of tr(I - dD/dx) d ln sigma.

For a given p_high, this is the normalised density of the model that samples from p_high and follows
the ODE down, for any network.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from basis.broadcast import align_first
from basis.closed_form import Gaussian
from basis.prior import Density, Prior, denoise

ROWS = 32  # number of directions that pass the network at once


class Likelihood(NamedTuple):
    """Log densities at the smallest noise level, with estimates of their errors."""

    nats: jax.Array  # [batch]
    probe_error: jax.Array  # [batch], standard error of the estimated trace; nan for one probe
    step_error: jax.Array  # [batch], discretisation error, by Richardson's rule


@partial(jax.jit, static_argnames=("probes", "exact", "block"))
def log_likelihood(
    prior: Prior,
    key: jax.Array,
    x: jax.Array,
    sigmas: jax.Array,
    probes: int = 4,
    *,
    exact: bool = False,
    terminal: Density | None = None,
    block: int = 16,
) -> Likelihood:
    """Return log p_sigma(x) at sigma = sigmas[-1], in nats per example.

    Heun's method for x and the trapezoidal rule for the trace are both of second order. They are
    applied at all levels and at every second one; a third of the difference estimates the error.

    Args:
        prior: p; its score is used from sigmas[-1] to sigmas[0].
        key: random key of the probes, which are the same along a path (Grathwohl et al. 2019).
        x: `[batch, ...]`, model units.
        sigmas: at least 3 noise levels `[level]`, falling; check them with `basis.check_levels`.
        probes: number of random sign vectors that estimate the trace (Hutchinson's estimator); each
            costs a vector-Jacobian product.
        exact: compute the trace exactly, by as many products as x has elements.
        terminal: the density at sigmas[0]; by default `terminal_of(prior)`.
        block: number of examples per block; memory is proportional to it.
    """
    assert len(sigmas) >= 3, "the error estimate needs at least one level between two others"
    high: Density = terminal_of(prior) if terminal is None else terminal
    coarse = jnp.append(sigmas[:-1:2], sigmas[-1])

    def one(inputs: tuple[jax.Array, jax.Array]) -> Likelihood:
        i, x = inputs
        directions = (
            _identity(x)
            if exact
            else jax.random.rademacher(jax.random.fold_in(key, i), (probes, *x.shape), x.dtype)
        )

        def density(levels: jax.Array) -> jax.Array:  # [probe, batch]
            end, growth = _grow(prior, directions, x, levels, exact=exact)
            return high.log_prob(end, levels[0])[None] + growth

        fine = density(sigmas)
        spread = fine.std(0, ddof=1) / jnp.sqrt(len(fine)) if len(fine) > 1 else fine[0] * jnp.nan
        return Likelihood(
            fine.mean(0),
            jnp.zeros_like(spread) if exact else spread,
            jnp.abs(fine.mean(0) - density(coarse).mean(0)) / 3,
        )

    count, padded = _blocks(x, block)
    found = jax.lax.map(one, (jnp.arange(count), padded))
    return Likelihood(*(a.reshape(-1)[: len(x)] for a in found))


@partial(jax.jit, static_argnames=("levels", "block"))
def denoising_bound(
    prior: Prior,
    key: jax.Array,
    x: jax.Array,
    low: jax.Array,
    high: jax.Array,
    levels: int = 32,
    *,
    terminal: Density | None = None,
    block: int = 16,
) -> jax.Array:
    """Return estimates whose mean over data is at most that of log p_low(x + low n), `[batch]`.

    This is the evidence lower bound of the reverse SDE (Song et al. 2021b, theorem 3), at the cost
    of one network evaluation per level. With D the denoised x + sigma n, and d elements, it is

        E log p_high(x + high n) - integral of (|D - x|^2 / sigma^2 - d) d ln sigma,

    and it is tight if the score and p_high are exact.

    Args:
        prior: p.
        key: random key of the noise and of the levels, one in each of `levels` equal intervals.
        x: `[batch, ...]` without noise, model units.
        low: smallest noise level.
        high: largest noise level.
        levels: number of intervals of ln sigma.
        terminal: as in `log_likelihood`.
        block: number of examples per block.
    """
    end: Density = terminal_of(prior) if terminal is None else terminal
    place_key, noise_key = jax.random.split(key)
    spots = (jnp.arange(levels) + jax.random.uniform(place_key, (levels,), x.dtype)) / levels
    sigmas = low * (high / low) ** spots

    def one(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        i, x = inputs
        own = jax.random.fold_in(noise_key, i)

        def excess(carry: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            j, sigma = inputs
            noise = jax.random.normal(jax.random.fold_in(own, j), x.shape, x.dtype)
            error = (denoise(prior, x + sigma * noise, sigma) - x) / sigma
            return carry + (error**2 - 1).reshape(len(x), -1).sum(-1), None

        total, _ = jax.lax.scan(excess, jnp.zeros(len(x), x.dtype), (jnp.arange(levels), sigmas))
        noise = jax.random.normal(own, x.shape, x.dtype)
        return end.log_prob(x + high * noise, high) - total * jnp.log(high / low) / levels

    count, padded = _blocks(x, block)
    return jax.lax.map(one, (jnp.arange(count), padded)).reshape(-1)[: len(x)]


def terminal_of(prior: Prior) -> Gaussian:
    """Return the Gaussian with the prior's `moments()`, or zero mean and variance without them."""
    known = getattr(prior, "moments", None)
    mean, variance = known() if known is not None else (jnp.zeros(()), jnp.zeros(()))
    return Gaussian(mean, variance, prior.sigmas)


def _grow(
    prior: Prior, directions: jax.Array, x: jax.Array, sigmas: jax.Array, *, exact: bool
) -> tuple[jax.Array, jax.Array]:
    """Return x carried from the last level to the first, and the integral `[probe, batch]`."""
    rising = sigmas[::-1]

    def measure(x: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the denoised x and u (I - J) u for every direction u."""
        denoised, pull = jax.vjp(lambda y: denoise(prior, y, sigma), x)

        def along(u: jax.Array) -> jax.Array:
            u = jnp.broadcast_to(u, x.shape)
            return (u * (u - pull(u)[0])).reshape(len(x), -1).sum(-1)

        found = jax.lax.map(along, directions, batch_size=min(ROWS, len(directions)))
        return denoised, found.sum(0, keepdims=True) if exact else found

    def step(x: jax.Array, levels: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        sigma, following = levels
        denoised, trace = measure(x, sigma)
        slope = (x - denoised) / sigma
        guess = x + (following - sigma) * slope
        second = (guess - denoise(prior, guess, following)) / following
        return x + (following - sigma) / 2 * (slope + second), trace

    x, traces = jax.lax.scan(step, x, (rising[:-1], rising[1:]))
    traces = jnp.concatenate([traces, measure(x, rising[-1])[1][None]])
    return x, jnp.trapezoid(traces, align_first(jnp.log(rising), traces), axis=0)


def _blocks(x: jax.Array, size: int) -> tuple[int, jax.Array]:
    """Return the number of blocks, and x as `[block, size, ...]`, padded with its last example."""
    count, shape = -(-len(x) // size), x.shape[1:]
    padded = jnp.concatenate([x, jnp.broadcast_to(x[-1:], (count * size - len(x), *shape))])
    return count, padded.reshape(count, size, *shape)


def _identity(x: jax.Array) -> jax.Array:
    """Return the unit vectors of an example, `[D, 1, ...]`."""
    size = x[0].size
    return jnp.eye(size, dtype=x.dtype).reshape(size, 1, *x.shape[1:])
