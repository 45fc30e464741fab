"""Moment-matching posterior sampling (Rozet et al. 2024, sec. 4), for any mixing map.

At noise level sigma the clean sources given the noisy ones are approximated by N(D, C) with C_k =
sigma^2 dD_k/dx (Tweedie's covariance). With w = df/dx at D the mixture is then N(f(D), V),
V u = variance u + sum_k w_k C_k (w_k u), and the mean of the clean sources given the mixture is

    D_k + C_k (w_k v),    V v = mixture - f(D).

V is never formed: v comes from preconditioned conjugate gradients, with one vector-Jacobian product
per iteration. The products are kept, so that n iterations cost n products, not n + 1.

A *sample* of the same Gaussian also needs xi ~ N(0, C) (Matheron's rule):

    D_k + xi_k + C_k (w_k v),    V v = mixture + noise - f(D) - sum_k w_k xi_k.

xi = C^(1/2) z comes from Lanczos' method, with one product per iteration.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from basis.broadcast import align_first
from basis.lanczos import root_times
from basis.mixing import Generated, Slopes, slopes, weights
from basis.prior import denoise_all, spread_all
from basis.sampler import UNKNOWN, Kernel, Normal, Problem, observation_variance, residual
from basis.steps import Guidance, Guided, hardened, heun, predictor_corrector, sde


def moment_matching(
    cg_iterations: int = 1,
    max_step: float = 5.0,
    lanczos_iterations: int = 0,
    early_iterations: int | None = None,
    early_above: float = 0.0,
) -> Guidance:
    """Return the guidance of moment matching.

    Args:
        cg_iterations: conjugate-gradient iterations per level.
        max_step: largest conjugate-gradient step, in units of the preconditioned step.
        lanczos_iterations: 0 returns the mean of x0 | x, mixture; more return samples of it.
        early_iterations: conjugate-gradient iterations at noise levels above `early_above`; None
            for `cg_iterations` everywhere. High noise hides what more iterations would find.
        early_above: sigma.
    """

    def guidance(
        key: jax.Array, sources: jax.Array, problem: Problem, sigma: jax.Array, normal: Normal
    ) -> Guided:
        def by(iterations: int) -> Guided:
            return condition(
                key, sources, problem, sigma, normal, iterations, max_step, lanczos_iterations
            )

        if early_iterations is None:
            return by(cg_iterations)
        return jax.lax.cond(
            sigma > early_above, partial(by, early_iterations), partial(by, cg_iterations)
        )

    return guidance


def mmps(
    cg_iterations: int = 1,
    max_step: float = 5.0,
    memory: float = 1.0,
    early_iterations: int | None = None,
    early_above: float = 0.0,
    *,
    hard: bool = False,
) -> Kernel:
    """Return the kernel: denoise, condition on the mixture, add noise for the next level.

    Args:
        cg_iterations: see `moment_matching`.
        max_step: see `moment_matching`.
        memory: see `basis.sde`.
        early_iterations: see `moment_matching`.
        early_above: see `moment_matching`.
        hard: move the conditioned sources onto f(x) = mixture.
    """
    guidance = moment_matching(cg_iterations, max_step, 0, early_iterations, early_above)
    return sde(hardened(guidance, hard=hard), memory)._replace(generated=not hard)


def mmps_draws(
    cg_iterations: int = 4,
    lanczos_iterations: int = 4,
    memory: float = 1.0,
    *,
    hard: bool = False,
) -> Kernel:
    """Return the kernel that samples x0 | x, mixture, so that a few levels are enough."""
    guidance = moment_matching(cg_iterations, lanczos_iterations=lanczos_iterations)
    return sde(hardened(guidance, hard=hard), memory)._replace(generated=not hard)


def mmps_heun(cg_iterations: int = 2, *, hard: bool = False) -> Kernel:
    """Return the kernel of the probability-flow ODE; only its start is random."""
    kernel = heun(hardened(moment_matching(cg_iterations), hard=hard))
    return kernel._replace(generated=not hard)


def mmps_pc(
    cg_iterations: int = 2,
    corrections: int = 2,
    kappa: float = 0.2,
    lanczos_iterations: int = 0,
    *,
    hard: bool = False,
) -> Kernel:
    """Return the predictor-corrector kernel: nearly exact, at three times the cost of `mmps`."""
    guidance = moment_matching(cg_iterations, lanczos_iterations=lanczos_iterations)
    guidance = hardened(guidance, hard=hard)
    memory = 1.0 if lanczos_iterations else None
    kernel = predictor_corrector(guidance, corrections, kappa, memory)
    return kernel._replace(generated=not hard)


def condition(
    key: jax.Array,
    sources: jax.Array,
    problem: Problem,
    sigma: jax.Array,
    normal: Normal,
    cg_iterations: int,
    max_step: float,
    lanczos_iterations: int = 0,
) -> Guided:
    """Return E[x0 | x], and the mean (or a sample) of x0 | x, mixture: `[source, batch, ...]`."""
    denoised, pull = jax.vjp(lambda x: denoise_all(problem.priors, x, sigma), sources)

    def covariance(u: jax.Array) -> jax.Array:
        return sigma**2 * pull(u)[0]

    w, at = weights(problem.mixing, denoised), slopes(problem.mixing, denoised)
    variance = observation_variance(problem, w)
    error = spread_all(problem.priors, denoised, sigma)
    if isinstance(problem.mixing, Generated):
        # the mean of the diagonal, estimated by one random vector of signs
        signs = jax.random.rademacher(jax.random.fold_in(key, 0), error.shape, error.dtype)
        axes = tuple(range(1, problem.mixture.ndim))
        scale = variance + (at.push(signs * error) ** 2).mean(axes, keepdims=True)
    else:
        scale = variance + (w**2 * error**2).sum(0)
    wanted, start = residual(problem, denoised), denoised
    if lanczos_iterations:
        prior_key, noise_key = jax.random.split(key)
        deviation = root_times(covariance, normal(prior_key), lanczos_iterations, sigma**2)
        # the noise of the first source is standard normal and has the shape of the mixture
        fits = denoised.shape[1:] == wanted.shape
        noise = normal(noise_key)[0] if fits else jax.random.normal(noise_key, wanted.shape)
        noise, seen = jnp.sqrt(variance) * noise, variance < UNKNOWN
        wanted = wanted - at.push(deviation) + jnp.where(seen, noise, 0)
        start = denoised + deviation
    moved = solve(covariance, at, denoised, variance, scale, wanted, cg_iterations, max_step)
    return Guided(denoised, start + moved, 1, cg_iterations + lanczos_iterations)


def solve(
    covariance: Callable[[jax.Array], jax.Array],
    at: Slopes,
    like: jax.Array,
    variance: jax.Array,
    scale: jax.Array,
    wanted: jax.Array,
    iterations: int,
    max_step: float,
) -> jax.Array:
    """Return C J^T V^-1 wanted, the move of every source, by conjugate gradients.

    The Jacobian of a learned prior is not a covariance everywhere: it need not be positive nor, for
    networks, symmetric. So a step along a negative curvature is not taken, and neither is one that
    would double the residual; the search restarts there. Without the latter rule flows leave the
    range of their data.

    Args:
        covariance: product with C, `[source, batch, ...]` -> like it.
        at: products with J, the Jacobian of the mixing map.
        like: an array shaped like the sources, `[source, batch, ...]`.
        variance: of the observation, a scalar or `[batch, ...]`.
        scale: diagonal preconditioner, an approximation of the diagonal of V, `[batch, ...]`.
        wanted: residual of the mixture, `[batch, ...]`.
        iterations: number of products with C.
        max_step: largest step.
    """
    moved = jnp.zeros_like(like)
    direction, previous = jnp.zeros_like(wanted), jnp.asarray(jnp.inf)
    for _ in range(iterations):
        size = _dot(wanted, wanted / scale)
        direction = wanted / scale + size / jnp.maximum(previous, 1e-20) * direction
        move = covariance(at.pull(direction))
        image = variance * direction + at.push(move)
        curvature = _dot(direction, image)
        step = jnp.where(curvature > 0, size / jnp.where(curvature > 0, curvature, 1), 0)
        step = jnp.clip(step, 0, max_step)
        left = wanted - step * image
        good = _dot(left, left / scale) <= 4 * size
        # one number per example: as many axes as the sources have
        per, kept = (_of_example(value, move) for value in (step, good))
        moved = jnp.where(kept, moved + per * move, moved)
        wanted = jnp.where(good, left, wanted)
        previous = jnp.where(good, size, jnp.inf)
    return moved


def _of_example(value: jax.Array, like: jax.Array) -> jax.Array:
    """Return `value: [batch, 1, ...]` broadcastable to `like: [source, batch, ...]`."""
    return align_first(value.reshape(-1), like[0])[None]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return inner products per batch element, `[batch, 1, ...]`."""
    return (a * b).sum(tuple(range(1, a.ndim)), keepdims=True)
