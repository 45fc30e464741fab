"""The problem of separation, the interface of samplers, and the loop that runs them all."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from basis.broadcast import align_last
from basis.mixing import Generated, Mixing, weights
from basis.prior import Prior

UNKNOWN = 1e6  # an observation of at least this variance counts as missing


class Problem(NamedTuple):
    """A separation problem: mixture = mixing(sources) + N(0, variance), sources ~ priors."""

    priors: tuple[Prior, ...]  # one prior per source
    mixing: Mixing
    mixture: jax.Array  # [batch, ...]
    # variance of the observation, broadcastable to mixture, at least `UNKNOWN` where the mixture is
    # not observed; or a function of the weights df/dx `[source, batch, ...]`, e.g. basis.CrossTerms
    variance: ArrayLike | Callable[[jax.Array], jax.Array]
    # elements where the mixture lies on its floor, so that only f(sources) <= mixture is known
    censored: jax.Array | None = None


class Info(NamedTuple):
    """The report of one noise level: how well the mixture is met, and the cost."""

    residual: jax.Array  # [batch], rms of mixture - f(denoised sources) over observed elements
    forwards: jax.Array  # [], network evaluations per source
    vjps: jax.Array  # [], products with the Jacobian of the network per source
    accepted: jax.Array  # [], share of accepted proposals; 1 for samplers that accept all


State: TypeAlias = Any  # of a sampler: the noisy sources `[source, batch, ...]`, or any pytree
Normal = Callable[[jax.Array], jax.Array]  # key -> standard normal noise shaped like the sources


def sources_shape(problem: Problem) -> tuple[int, ...]:
    """Return the shape of what is sampled: sources like the mixture, or latents of generators."""
    batch, *rest = problem.mixture.shape
    if isinstance(problem.mixing, Generated):
        rest = list(problem.mixing.shape)
    return (len(problem.priors), batch, *rest)


def start_at_mixture(
    key: jax.Array, problem: Problem, sigma: jax.Array, normal: Normal
) -> jax.Array:
    """Return the usual initial state: the mixture in place of every source, plus noise.

    Latents of generators start as noise alone.
    """
    if isinstance(problem.mixing, Generated):
        return sigma * normal(key)
    return problem.mixture[None] + sigma * normal(key)


class Kernel(NamedTuple):
    """A sampler: functions that take a state from one noise level to the next.

    The state of most samplers is the noisy sources `[source, batch, ...]`; they need `step` only.
    """

    # (key, state, problem, sigma, sigma_next, normal) -> state at sigma_next, info
    step: Callable[[jax.Array, State, Problem, jax.Array, jax.Array, Normal], tuple[State, Info]]
    # (key, problem, sigma, normal) -> state at the first level
    start: Callable[[jax.Array, Problem, jax.Array, Normal], State] = start_at_mixture
    # state after the last level -> sources
    sources: Callable[[State], jax.Array] = lambda state: state
    # (problem, sigmas) -> None; raises ValueError, before compiling, for unsuitable problems
    check: Callable[[Problem, ArrayLike], None] = lambda problem, sigmas: None
    # whether it takes mixing maps that are not elementwise, `Generated`
    generated: bool = False


def sample(
    kernel: Kernel,
    key: jax.Array,
    problem: Problem,
    sigmas: jax.Array,
    normal: Normal | None = None,
) -> tuple[jax.Array, Info]:
    """Draw posterior samples of the sources; return them and the report of every level.

    Args:
        kernel: takes the sources from one noise level to the next, e.g. `mmps()`.
        key: random key.
        problem: mixture `[batch, ...]`, one prior per source, and the mixing map.
        sigmas: noise levels `[level]`, falling; the last step goes to 0. Check them with
            `basis.check` first.
        normal: draws standard normal noise; by default independent over all axes. For long files
            gensep passes a function that draws the same noise where blocks overlap, so that their
            samples agree there.

    Returns:
        Sources `[source, batch, ...]`, or latents for a `Generated` map, and an `Info` with a first
        axis `[level]`.
    """
    shape = sources_shape(problem)
    if normal is None:

        def normal(key: jax.Array) -> jax.Array:
            return jax.random.normal(key, shape, problem.mixture.dtype)

    start_key, loop_key = jax.random.split(key)
    state = kernel.start(start_key, problem, sigmas[0], normal)

    def level(state: State, inputs: tuple[jax.Array, ...]) -> tuple[State, Info]:
        i, sigma, sigma_next = inputs
        key = jax.random.fold_in(loop_key, i)
        return kernel.step(key, state, problem, sigma, sigma_next, normal)

    following = jnp.append(sigmas[1:], 0.0)
    state, info = jax.lax.scan(level, state, (jnp.arange(len(sigmas)), sigmas, following))
    return kernel.sources(state), info


def residual(problem: Problem, point: jax.Array) -> jax.Array:
    """Return mixture - f(point), `[batch, ...]`; for censored elements at most 0."""
    difference = problem.mixture - problem.mixing(point)
    if problem.censored is None:
        return difference
    return jnp.where(problem.censored, jnp.minimum(difference, 0), difference)


def observation_variance(problem: Problem, w: jax.Array) -> jax.Array:
    """Return the variance of the observation for the weights `w`, a scalar or like `[batch, ...]`.

    It is broadcastable to the mixture and has as many axes.
    """
    variance = problem.variance
    if callable(variance):
        variance = variance(jax.lax.stop_gradient(w))
    return align_last(variance, problem.mixture)


def report(
    problem: Problem,
    denoised: jax.Array,
    forwards: ArrayLike = 1,
    vjps: ArrayLike = 0,
    accepted: ArrayLike = 1.0,
) -> Info:
    """Return the report of a level from its last denoised sources."""
    dtype = problem.mixture.dtype
    return Info(
        residual_rms(problem, denoised),
        jnp.asarray(forwards, dtype),
        jnp.asarray(vjps, dtype),
        jnp.asarray(accepted, dtype),
    )


def residual_rms(problem: Problem, denoised: jax.Array) -> jax.Array:
    """Return the rms of mixture - f(denoised) over the observed elements, `[batch]`."""
    variance = observation_variance(problem, weights(problem.mixing, denoised))
    seen = jnp.broadcast_to(variance < UNKNOWN, problem.mixture.shape)
    squares = jnp.where(seen, residual(problem, denoised) ** 2, 0)
    axes = tuple(range(1, squares.ndim))
    return jnp.sqrt(squares.sum(axes) / jnp.maximum(seen.sum(axes), 1))
