"""The one loop over noise levels that every sampler runs in."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from basis.mixing import Mixing


class Problem(NamedTuple):
    """What is to be separated: mixture = mixing(sources) + N(0, variance), sources ~ priors."""

    priors: tuple[Any, ...]  # one basis.Prior a source
    mixing: Mixing
    mixture: jax.Array  # [batch, ...]
    variance: jax.Array  # of the observation, broadcastable to mixture; inf-like where unknown


class Info(NamedTuple):
    """What a level reports."""

    residual: jax.Array  # [batch], rms of mixture - f(denoised sources), over observed elements


# normal(key) -> standard normal noise shaped like the sources
Normal = Callable[[jax.Array], jax.Array]
# kernel(key, sources, problem, sigma, sigma_next, normal) -> sources at sigma_next, info
Kernel = Callable[..., tuple[jax.Array, Info]]


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
        sigmas: `[level]`, falling; the last step goes to 0. Check them with `check_levels` first.
        normal: draws noise; by default independent over all axes. A whole file passes one that
            gives overlapping blocks the same noise, so that they agree where they meet.
    """
    shape = (len(problem.priors), *problem.mixture.shape)
    if normal is None:
        def normal(key):
            return jax.random.normal(key, shape, problem.mixture.dtype)

    start_key, loop_key = jax.random.split(key)
    sources = problem.mixture + sigmas[0] * normal(start_key)

    def level(sources, inputs):
        i, sigma, sigma_next = inputs
        return kernel(jax.random.fold_in(loop_key, i), sources, problem, sigma, sigma_next, normal)

    following = jnp.append(sigmas[1:], 0.0)
    return jax.lax.scan(level, sources, (jnp.arange(len(sigmas)), sigmas, following))


def residual_rms(problem: Problem, denoised: jax.Array) -> jax.Array:
    """Give the rms of mixture - f(denoised) per batch element over what is observed, `[batch]`."""
    seen = jnp.broadcast_to(problem.variance < 1e6, problem.mixture.shape)
    squares = jnp.where(seen, (problem.mixture - problem.mixing(denoised)) ** 2, 0)
    axes = tuple(range(1, squares.ndim))
    return jnp.sqrt(squares.sum(axes) / jnp.maximum(seen.sum(axes), 1))
