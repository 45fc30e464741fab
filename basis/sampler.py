"""The one loop over noise levels that every sampler runs in."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from basis.mixing import Mixing, weights


class Problem(NamedTuple):
    """What is to be separated: mixture = mixing(sources) + N(0, variance), sources ~ priors."""

    priors: tuple[Any, ...]  # one basis.Prior a source
    mixing: Mixing
    mixture: jax.Array  # [batch, ...]
    # of the observation, broadcastable to mixture, inf-like where unknown; or a function of the
    # weights df/dx `[source, batch, ...]`, such as basis.CrossTerms
    variance: Any
    # where the mixture lies on its floor and says no more than f <= mixture
    censored: jax.Array | None = None


class Info(NamedTuple):
    """What a level reports, and what it cost."""

    residual: jax.Array  # [batch], rms of mixture - f(denoised sources), over observed elements
    forwards: jax.Array  # [], network evaluations of each source
    vjps: jax.Array  # [], products with the Jacobian of each source's network
    accepted: jax.Array  # [], share of proposals that were kept; 1 where none can be refused


# normal(key) -> standard normal noise shaped like the sources
Normal = Callable[[jax.Array], jax.Array]


def start_at_mixture(
    key: jax.Array, problem: Problem, sigma: jax.Array, normal: Normal
) -> jax.Array:
    """Give the usual start: the mixture in place of every source, and noise."""
    return problem.mixture + sigma * normal(key)


class Kernel(NamedTuple):
    """A sampler: how a state comes from one noise level to the next.

    For most the state is the noisy sources `[source, batch, ...]` themselves; then `step` is all.
    """

    # (key, state, problem, sigma, sigma_next, normal) -> state at sigma_next, info
    step: Callable[..., tuple[Any, Info]]
    # (key, problem, sigma, normal) -> state at the first level
    start: Callable[..., Any] = start_at_mixture
    # state after the last level -> sources
    sources: Callable[[Any], jax.Array] = lambda state: state
    # (problem, sigmas) -> None; raises ValueError for what cannot work, before compiling
    check: Callable[[Problem, Any], None] = lambda problem, sigmas: None


def sample(
    kernel: Kernel,
    key: jax.Array,
    problem: Problem,
    sigmas: jax.Array,
    normal: Normal | None = None,
) -> tuple[jax.Array, Info]:
    """Draw posterior samples of the sources, `[source, batch, ...]`, and the trace of every level.

    Args:
        kernel: takes the sources from one noise level to the next, e.g. `mmps()`.
        key: source of all randomness.
        problem: mixture `[batch, ...]`, one prior a source, the mixing map.
        sigmas: `[level]`, falling; the last step goes to 0. Check them with `basis.check` first.
        normal: draws noise; by default independent over all axes. A whole file passes one that
            gives overlapping blocks the same noise, so that they agree where they meet.
    """
    shape = (len(problem.priors), *problem.mixture.shape)
    if normal is None:

        def normal(key):
            return jax.random.normal(key, shape, problem.mixture.dtype)

    start_key, loop_key = jax.random.split(key)
    state = kernel.start(start_key, problem, sigmas[0], normal)

    def level(state, inputs):
        i, sigma, sigma_next = inputs
        key = jax.random.fold_in(loop_key, i)
        return kernel.step(key, state, problem, sigma, sigma_next, normal)

    following = jnp.append(sigmas[1:], 0.0)
    state, info = jax.lax.scan(level, state, (jnp.arange(len(sigmas)), sigmas, following))
    return kernel.sources(state), info


def residual(problem: Problem, point: jax.Array) -> jax.Array:
    """Give mixture - f(point), `[batch, ...]`; of a censored element only what lies above it."""
    difference = problem.mixture - problem.mixing(point)
    if problem.censored is None:
        return difference
    return jnp.where(problem.censored, jnp.minimum(difference, 0), difference)


def observation_variance(problem: Problem, w: jax.Array) -> jax.Array:
    """Give the variance of the observation where the map has the weights `w`."""
    variance = problem.variance
    return variance(jax.lax.stop_gradient(w)) if callable(variance) else variance


def report(
    problem: Problem, denoised: jax.Array, forwards: int = 1, vjps: int = 0, accepted: Any = 1.0
) -> Info:
    """Make the report of a level from its last denoised sources."""
    dtype = problem.mixture.dtype
    return Info(
        residual_rms(problem, denoised),
        jnp.asarray(forwards, dtype),
        jnp.asarray(vjps, dtype),
        jnp.asarray(accepted, dtype),
    )


def residual_rms(problem: Problem, denoised: jax.Array) -> jax.Array:
    """Give the rms of mixture - f(denoised) per batch element over what is observed, `[batch]`."""
    variance = observation_variance(problem, weights(problem.mixing, denoised))
    seen = jnp.broadcast_to(variance < 1e6, problem.mixture.shape)
    squares = jnp.where(seen, residual(problem, denoised) ** 2, 0)
    axes = tuple(range(1, squares.ndim))
    return jnp.sqrt(squares.sum(axes) / jnp.maximum(seen.sum(axes), 1))
