"""The samplers of multi-source diffusion (Mariani et al. 2024), for independent priors.

Euler steps of the probability-flow ODE with churn, each level repeated and re-noised. The Dirac
likelihood ties one source to the rest, x_j = (mixture - sum_{k != j} g_k x_k) / g_j, and lets the
others move by the difference of derivatives; the Gaussian one pulls with a variance of
2 (gamma sigma)^2 as their program has it.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from basis.mixing import Linear, weights
from basis.prior import denoise_all
from basis.sampler import Kernel, report, residual


def msdm(
    likelihood: Literal["dirac", "gaussian"] = "dirac",
    repeats: int = 2,
    churn: float = 20 / 150,
    gamma: float = 0.75,
    tied: int = 0,
) -> Kernel:
    """Make the kernel.

    Args:
        likelihood: dirac (linear mixing only) or gaussian.
        repeats: passes at a level; all but the last are followed by noise back to its start.
        churn: noise added before a pass, relative to sigma (their s_churn over the levels' number).
        gamma: width of the Gaussian likelihood relative to sigma.
        tied: the source that the Dirac likelihood computes from the others.
    """
    if likelihood not in ("dirac", "gaussian"):
        raise ValueError(f"likelihood must be 'dirac' or 'gaussian', not {likelihood!r}")

    def slope(x, problem, sigma):
        denoised = denoise_all(problem.priors, x, sigma)
        d = (x - denoised) / sigma
        if likelihood == "dirac":
            # moving source k by dx moves the tied one by -g_k / g_j dx
            ratio = problem.mixing.gains / problem.mixing.gains[tied]
            d = d - ratio.reshape(-1, *[1] * (d.ndim - 1)) * d[tied]
        else:
            pull = weights(problem.mixing, x) * residual(problem, x)
            d = d - sigma / (2 * (gamma * sigma) ** 2) * pull
        return d, denoised

    def tie(x, problem):
        if likelihood != "dirac":
            return x
        gains = problem.mixing.gains
        rest = problem.mixture - problem.mixing(x) + gains[tied] * x[tied]
        return x.at[tied].set(rest / gains[tied])

    def step(key, sources, problem, sigma, sigma_next, normal):
        x, high = sources, sigma * (1 + min(churn, 2**0.5 - 1))
        for i in range(repeats):
            churn_key, back_key = jax.random.split(jax.random.fold_in(key, i))
            x = x + jnp.sqrt(high**2 - sigma**2) * normal(churn_key)
            d, denoised = slope(tie(x, problem), problem, high)
            x = x + (sigma_next - high) * d
            if i < repeats - 1:
                x = x + jnp.sqrt(sigma**2 - sigma_next**2) * normal(back_key)
        return tie(x, problem), report(problem, denoised, repeats)

    def check(problem, sigmas):
        if likelihood == "dirac" and not isinstance(problem.mixing, Linear):
            raise ValueError(
                "msdm's dirac likelihood ties a source by subtraction and needs "
                f"linear mixing, not {type(problem.mixing).__name__}; take 'gaussian'"
            )

    return Kernel(step, check=check)
