"""Moment-matching posterior sampling (Rozet et al. 2024), linearised for any elementwise map.

At level sigma the clean sources given the noisy ones are taken as N(D, C), C_k = sigma^2 dD_k/dx
(Tweedie's covariance). With w = df/dx at D the mixture is then N(f(D), V),
V u = variance u + sum_k w_k C_k (w_k u), and the denoised sources given the mixture are

    D_k + C_k (w_k v),    V v = mixture - f(D).

V is never formed: v comes from preconditioned conjugate gradients, each iteration one
vector-Jacobian product. The products are kept, so that n iterations cost n of them, not n + 1.
"""

import jax
import jax.numpy as jnp

from basis.mixing import weights
from basis.prior import denoise, spread
from basis.sampler import Info, Kernel, Problem, residual_rms


def mmps(cg_iterations: int = 1, max_step: float = 5.0, memory: float = 1.0) -> Kernel:
    """Make the kernel: denoise, condition on the mixture, re-noise to the next level.

    Args:
        cg_iterations: products with the Jacobian a level.
        max_step: bound on a conjugate-gradient step, in units of the preconditioned step.
        memory: 1 keeps the part of the noise that the exact reverse SDE keeps; 0 draws all of it
            afresh around the conditioned mean, which forgets the start and the errors of earlier
            levels, at the price of samples that are too much alike (as DAPS does it; Zhang et al.
            2024). With networks, whose largest noise does not hide the start, 0 separates better.
    """

    def kernel(key, sources, problem, sigma, sigma_next, normal):
        denoised, conditioned = condition(sources, problem, sigma, cg_iterations, max_step)
        kept = memory * (sigma_next / sigma) ** 2
        fresh = jnp.sqrt(jnp.maximum(sigma_next**2 - (kept * sigma) ** 2, 0)) * normal(key)
        following = conditioned + kept * (sources - conditioned) + fresh
        return following, Info(residual_rms(problem, denoised))

    return kernel


def condition(
    sources: jax.Array, problem: Problem, sigma: jax.Array, cg_iterations: int, max_step: float
) -> tuple[jax.Array, jax.Array]:
    """Give E[x0 | x] and E[x0 | x, mixture], both `[source, batch, ...]`."""

    def all_denoised(x):
        each = zip(problem.priors, x, strict=True)
        return jnp.stack([denoise(prior, x_k, sigma) for prior, x_k in each])

    denoised, pull = jax.vjp(all_denoised, sources)
    w = weights(problem.mixing, denoised)
    error = jnp.stack([
        jnp.broadcast_to(spread(prior, sigma), denoised.shape[1:]) for prior in problem.priors
    ])
    scale = problem.variance + (w**2 * error**2).sum(0)

    def correction(u):
        """C_k (w_k u), the move of every source that u asks for."""
        return sigma**2 * pull(w * u)[0]

    residual = problem.mixture - problem.mixing(denoised)
    moved = jnp.zeros_like(sources)
    direction, previous = jnp.zeros_like(residual), jnp.asarray(jnp.inf)
    for _ in range(cg_iterations):
        size = _dot(residual, residual / scale)
        direction = residual / scale + size / jnp.maximum(previous, 1e-20) * direction
        previous = size
        move = correction(direction)
        image = problem.variance * direction + (w * move).sum(0)
        curvature = _dot(direction, image)
        # a network's Jacobian is not quite positive: a wrong-signed curvature ends the search
        step = jnp.where(curvature > 0, previous / jnp.where(curvature > 0, curvature, 1), 0)
        step = jnp.clip(step, 0, max_step)
        moved = moved + step * move
        residual = residual - step * image
    return denoised, denoised + moved


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Give inner products per batch element, `[batch, 1, ...]`."""
    return (a * b).sum(tuple(range(1, a.ndim)), keepdims=True)
