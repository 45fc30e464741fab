"""Diffusion posterior sampling (Chung et al. 2023, alg. 1): steps along the residual's gradient."""

import jax
import jax.numpy as jnp

from basis.mixing import weights
from basis.prior import denoise_all
from basis.sampler import Info, Kernel, Normal, Problem, report, residual


def dps(zeta: float = 1.0) -> Kernel:
    """Return the kernel: a step of the prior's reverse SDE minus zeta grad |r|^2 / |r|.

    r = mixture - f(D) is the residual at the denoised sources D, and the gradient passes through
    the denoiser. The result is not a sample of the posterior; the kernel is here for comparison.
    """

    def step(
        key: jax.Array,
        sources: jax.Array,
        problem: Problem,
        sigma: jax.Array,
        sigma_next: jax.Array,
        normal: Normal,
    ) -> tuple[jax.Array, Info]:
        denoised, pull = jax.vjp(lambda x: denoise_all(problem.priors, x, sigma), sources)
        kept = (sigma_next / sigma) ** 2
        fresh = sigma_next * jnp.sqrt(1 - kept) * normal(key)
        asked = weights(problem.mixing, denoised) * residual(problem, denoised)[None]
        axes = tuple(range(1, problem.mixture.ndim))
        norm = jnp.sqrt((residual(problem, denoised) ** 2).sum(axes, keepdims=True))
        move = 2 * zeta * pull(asked)[0] / jnp.maximum(norm, 1e-12)[None]
        following = denoised + kept * (sources - denoised) + fresh + move
        return following, report(problem, denoised, 1, 1)

    return Kernel(step)
