"""Moment-matching posterior sampling (Rozet et al. 2024), linearised for any elementwise map.

At level sigma the clean sources given the noisy ones are taken as N(D, C), C_k = sigma^2 dD_k/dx
(Tweedie's covariance). With w = df/dx at D the mixture is then N(f(D), V),
V u = variance u + sum_k w_k C_k (w_k u), and the denoised sources given the mixture are

    D_k + C_k (w_k v),    V v = mixture - f(D).

V is never formed: v comes from preconditioned conjugate gradients, each iteration one
vector-Jacobian product. The products are kept, so that n iterations cost n of them, not n + 1.

A *draw* from the same Gaussian needs xi ~ N(0, C) besides (Matheron's rule):

    D_k + xi_k + C_k (w_k v),    V v = mixture + noise - f(D) - sum_k w_k xi_k.

xi = C^(1/2) z comes from Lanczos' method, a product for each of its iterations.
"""

import jax
import jax.numpy as jnp

from basis.lanczos import root_times
from basis.mixing import weights
from basis.prior import denoise_all, spread_all
from basis.sampler import Kernel, Problem, observation_variance, residual
from basis.steps import Guidance, Guided, hardened, heun, predictor_corrector, sde


def moment_matching(
    cg_iterations: int = 1, max_step: float = 5.0, lanczos_iterations: int = 0
) -> Guidance:
    """Make the guidance.

    Args:
        cg_iterations: products with the Jacobian a level.
        max_step: bound on a conjugate-gradient step, in units of the preconditioned step.
        lanczos_iterations: 0 gives the mean of x0 | x, mixture; more give draws.
    """

    def guidance(key, sources, problem, sigma, normal):
        return condition(
            key, sources, problem, sigma, normal, cg_iterations, max_step, lanczos_iterations
        )

    return guidance


def mmps(
    cg_iterations: int = 1, max_step: float = 5.0, memory: float = 1.0, *, hard: bool = False
) -> Kernel:
    """Make the kernel: denoise, condition on the mixture, re-noise to the next level."""
    return sde(hardened(moment_matching(cg_iterations, max_step), hard=hard), memory)


def mmps_draws(
    cg_iterations: int = 4,
    lanczos_iterations: int = 4,
    memory: float = 1.0,
    *,
    hard: bool = False,
) -> Kernel:
    """Make the kernel whose steps carry the posterior's covariance, so that few are enough."""
    guidance = moment_matching(cg_iterations, lanczos_iterations=lanczos_iterations)
    return sde(hardened(guidance, hard=hard), memory)


def mmps_heun(cg_iterations: int = 2, *, hard: bool = False) -> Kernel:
    """Make the kernel of the probability-flow ODE: deterministic but for its start."""
    return heun(hardened(moment_matching(cg_iterations), hard=hard))


def mmps_pc(
    cg_iterations: int = 2,
    corrections: int = 2,
    kappa: float = 0.2,
    lanczos_iterations: int = 0,
    *,
    hard: bool = False,
) -> Kernel:
    """Make the predictor-corrector kernel: nearly exact, for three times the cost of `mmps`."""
    guidance = moment_matching(cg_iterations, lanczos_iterations=lanczos_iterations)
    guidance = hardened(guidance, hard=hard)
    memory = 1.0 if lanczos_iterations else None
    return predictor_corrector(guidance, corrections, kappa, memory)


def condition(
    key,
    sources: jax.Array,
    problem: Problem,
    sigma: jax.Array,
    normal,
    cg_iterations: int,
    max_step: float,
    lanczos_iterations: int = 0,
) -> Guided:
    """Give E[x0 | x], and the mean of (or a draw from) x0 | x, mixture: `[source, batch, ...]`."""
    denoised, pull = jax.vjp(lambda x: denoise_all(problem.priors, x, sigma), sources)

    def covariance(u):
        return sigma**2 * pull(u)[0]

    w = weights(problem.mixing, denoised)
    variance = observation_variance(problem, w)
    error = spread_all(problem.priors, denoised, sigma)
    scale = variance + (w**2 * error**2).sum(0)
    wanted, start = residual(problem, denoised), denoised
    if lanczos_iterations:
        prior_key, noise_key = jax.random.split(key)
        deviation = root_times(covariance, normal(prior_key), lanczos_iterations, sigma**2)
        # one source's share of the noise will do: it is standard normal
        noise = jnp.sqrt(variance) * normal(noise_key)[0]
        seen = variance < 1e6
        wanted = wanted - (w * deviation).sum(0) + jnp.where(seen, noise, 0)
        start = denoised + deviation
    moved = solve(covariance, w, variance, scale, wanted, cg_iterations, max_step)
    return Guided(denoised, start + moved, 1, cg_iterations + lanczos_iterations)


def solve(covariance, w, variance, scale, wanted, iterations: int, max_step: float) -> jax.Array:
    """Give C W V^-1 wanted, the move of every source, by `iterations` conjugate gradients.

    A learned prior's Jacobian is no covariance everywhere: it need not be positive, nor, in
    networks, symmetric. A curvature of the wrong sign moves nothing, and a step that would double
    what is left of the mixture's error is not taken; the search starts anew there. Without the
    latter, flows run out of their data.
    """
    moved = jnp.zeros_like(w)
    direction, previous = jnp.zeros_like(wanted), jnp.asarray(jnp.inf)
    for _ in range(iterations):
        size = _dot(wanted, wanted / scale)
        direction = wanted / scale + size / jnp.maximum(previous, 1e-20) * direction
        move = covariance(w * direction)
        image = variance * direction + (w * move).sum(0)
        curvature = _dot(direction, image)
        step = jnp.where(curvature > 0, size / jnp.where(curvature > 0, curvature, 1), 0)
        step = jnp.clip(step, 0, max_step)
        left = wanted - step * image
        good = _dot(left, left / scale) <= 4 * size
        moved = jnp.where(good, moved + step * move, moved)
        wanted = jnp.where(good, left, wanted)
        previous = jnp.where(good, size, jnp.inf)
    return moved


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Give inner products per batch element, `[batch, 1, ...]`."""
    return (a * b).sum(tuple(range(1, a.ndim)), keepdims=True)
