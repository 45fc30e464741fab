"""Diffusion posterior sampling (Chung et al. 2023): a step down the norm of the residual."""

import jax
import jax.numpy as jnp

from basis.mixing import weights
from basis.prior import denoise_all
from basis.sampler import Kernel, report, residual


def dps(zeta: float = 1.0) -> Kernel:
    """Make the kernel: the prior's reverse SDE step, less zeta grad |mixture - f(D)|^2 / |...|.

    The gradient goes through the denoiser. It follows no posterior; kept for comparison.
    """

    def step(key, sources, problem, sigma, sigma_next, normal):
        denoised, pull = jax.vjp(lambda x: denoise_all(problem.priors, x, sigma), sources)
        kept = (sigma_next / sigma) ** 2
        fresh = sigma_next * jnp.sqrt(1 - kept) * normal(key)
        asked = weights(problem.mixing, denoised) * residual(problem, denoised)
        axes = tuple(range(1, problem.mixture.ndim))
        norm = jnp.sqrt((residual(problem, denoised) ** 2).sum(axes, keepdims=True))
        move = 2 * zeta * pull(asked)[0] / jnp.maximum(norm, 1e-12)
        following = denoised + kept * (sources - denoised) + fresh + move
        return following, report(problem, denoised, 1, 1)

    return Kernel(step)
