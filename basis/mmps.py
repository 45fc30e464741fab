"""Moment-matching posterior sampling (Rozet et al. 2024, sec. 4), for any elementwise mixing map.

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

from basis.lanczos import root_times
from basis.mixing import weights
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
    return sde(hardened(guidance, hard=hard), memory)


def mmps_draws(
    cg_iterations: int = 4,
    lanczos_iterations: int = 4,
    memory: float = 1.0,
    *,
    hard: bool = False,
) -> Kernel:
    """Return the kernel that samples x0 | x, mixture, so that a few levels are enough."""
    guidance = moment_matching(cg_iterations, lanczos_iterations=lanczos_iterations)
    return sde(hardened(guidance, hard=hard), memory)


def mmps_heun(cg_iterations: int = 2, *, hard: bool = False) -> Kernel:
    """Return the kernel of the probability-flow ODE; only its start is random."""
    return heun(hardened(moment_matching(cg_iterations), hard=hard))


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
    return predictor_corrector(guidance, corrections, kappa, memory)


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

    w = weights(problem.mixing, denoised)
    variance = observation_variance(problem, w)
    error = spread_all(problem.priors, denoised, sigma)
    scale = variance + (w**2 * error**2).sum(0)
    wanted, start = residual(problem, denoised), denoised
    if lanczos_iterations:
        prior_key, noise_key = jax.random.split(key)
        deviation = root_times(covariance, normal(prior_key), lanczos_iterations, sigma**2)
        # the noise of the first source is standard normal and has the shape of the mixture
        noise = jnp.sqrt(variance) * normal(noise_key)[0]
        seen = variance < UNKNOWN
        wanted = wanted - (w * deviation).sum(0) + jnp.where(seen, noise, 0)
        start = denoised + deviation
    moved = solve(covariance, w, variance, scale, wanted, cg_iterations, max_step)
    return Guided(denoised, start + moved, 1, cg_iterations + lanczos_iterations)


def solve(
    covariance: Callable[[jax.Array], jax.Array],
    w: jax.Array,
    variance: jax.Array,
    scale: jax.Array,
    wanted: jax.Array,
    iterations: int,
    max_step: float,
) -> jax.Array:
    """Return C W V^-1 wanted, the move of every source, by conjugate gradients.

    The Jacobian of a learned prior is not a covariance everywhere: it need not be positive nor, for
    networks, symmetric. So a step along a negative curvature is not taken, and neither is one that
    would double the residual; the search restarts there. Without the latter rule flows leave the
    range of their data.

    Args:
        covariance: product with C, `[source, batch, ...]` -> like it.
        w: weights df/dx, `[source, batch, ...]`.
        variance: of the observation, a scalar or `[batch, ...]`.
        scale: diagonal preconditioner, an approximation of the diagonal of V, `[batch, ...]`.
        wanted: residual of the mixture, `[batch, ...]`.
        iterations: number of products with C.
        max_step: largest step.
    """
    moved = jnp.zeros_like(w)
    direction, previous = jnp.zeros_like(wanted), jnp.asarray(jnp.inf)
    for _ in range(iterations):
        size = _dot(wanted, wanted / scale)
        direction = wanted / scale + size / jnp.maximum(previous, 1e-20) * direction
        move = covariance(w * direction[None])
        image = variance * direction + (w * move).sum(0)
        curvature = _dot(direction, image)
        step = jnp.where(curvature > 0, size / jnp.where(curvature > 0, curvature, 1), 0)
        step = jnp.clip(step, 0, max_step)
        left = wanted - step * image
        good = _dot(left, left / scale) <= 4 * size
        moved = jnp.where(good[None], moved + step[None] * move, moved)
        wanted = jnp.where(good, left, wanted)
        previous = jnp.where(good, size, jnp.inf)
    return moved


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return inner products per batch element, `[batch, 1, ...]`."""
    return (a * b).sum(tuple(range(1, a.ndim)), keepdims=True)
