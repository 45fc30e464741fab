"""BASIS: annealed Langevin dynamics on the posterior (Jayaram and Thickstun 2020)."""

from typing import Literal

import jax
import jax.numpy as jnp

from basis.mixing import weights
from basis.prior import denoise
from basis.sampler import Info, Kernel, residual_rms


def langevin(
    steps: int = 100,
    step_size: float = 0.2,
    gamma_scale: float = 1.0,
    at: Literal["noisy", "denoised"] = "denoised",
) -> Kernel:
    """Make the kernel: `steps` Langevin steps at each level on p_sigma(x) N(m; f(.), gamma^2).

    eta = step_size sigma^2 (the paper's delta / sigma_L^2), gamma^2 = gamma_scale sigma^2 +
    variance. It diverges unless step_size (|w|^2 / gamma_scale + 1) < 2.

    Args:
        steps: Langevin steps at each level; all sources move at once (Jacobi).
        step_size: relative to the noise variance; 0.2 is the paper's.
        gamma_scale: width of the likelihood in units of the noise variance.
        at: the mixing map acts on the noisy sources (the paper; biased where f bends) or on the
            denoised ones, held constant under differentiation.
    """
    if at not in ("noisy", "denoised"):
        raise ValueError(f"at must be 'noisy' or 'denoised', not {at!r}")

    def kernel(key, sources, problem, sigma, sigma_next, normal):
        eta = step_size * sigma**2
        gamma2 = gamma_scale * sigma**2 + problem.variance

        def drift(x):
            each = zip(problem.priors, x, strict=True)
            clean = jnp.stack([denoise(prior, x_k, sigma) for prior, x_k in each])
            point = clean if at == "denoised" else x
            pull = weights(problem.mixing, point) * (problem.mixture - problem.mixing(point))
            return (clean - x) / sigma**2 + pull / gamma2

        def one(x, i):
            noise = normal(jax.random.fold_in(key, i))
            return x + eta * drift(x) + jnp.sqrt(2 * eta) * noise, None

        x, _ = jax.lax.scan(one, sources, jnp.arange(steps))
        # the noise of the last level is taken off by one step to the conditioned mean
        x = jax.lax.cond(sigma_next == 0, lambda x: x + sigma**2 * drift(x), lambda x: x, x)
        return x, Info(residual_rms(problem, x))

    return kernel
