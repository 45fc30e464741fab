"""The samplers of multi-source diffusion (Mariani et al. 2024), for independent priors.

They take Euler steps of the probability-flow ODE with churn, and repeat each level after adding
noise again. The Dirac likelihood computes one source from the others,
x_j = (mixture - sum_{k != j} g_k x_k) / g_j, and moves the others by the difference of their
derivatives and that of x_j. The Gaussian likelihood has the variance 2 (gamma sigma)^2, as in the
authors' program.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from basis.broadcast import align_first
from basis.mixing import Linear, weights
from basis.prior import denoise_all
from basis.sampler import Info, Kernel, Normal, Problem, report, residual


def msdm(
    likelihood: Literal["dirac", "gaussian"] = "dirac",
    repeats: int = 2,
    churn: float = 20 / 150,
    gamma: float = 0.75,
    tied: int = 0,
) -> Kernel:
    """Return the kernel.

    Args:
        likelihood: "dirac" (for linear mixing only) or "gaussian".
        repeats: number of passes per level; before each repetition noise is added again.
        churn: noise added before a pass, relative to sigma (their s_churn / number of levels).
        gamma: width of the Gaussian likelihood relative to sigma.
        tied: index of the source that the Dirac likelihood computes from the others.

    Raises:
        ValueError: for another likelihood.
    """
    if likelihood not in ("dirac", "gaussian"):
        raise ValueError(f"likelihood must be 'dirac' or 'gaussian', not {likelihood!r}")

    def likelihood_slope(
        d: jax.Array, x: jax.Array, problem: Problem, sigma: jax.Array
    ) -> jax.Array:
        """Return the likelihood's part of dx / dsigma, given the part d of the priors."""
        if likelihood == "dirac":
            # moving source k by dx moves the tied one by -g_k / g_j dx
            gains = _linear(problem).gains
            return align_first(gains / gains[tied], d) * d[tied][None]
        pull = weights(problem.mixing, x) * residual(problem, x)[None]
        return sigma / (2 * (gamma * sigma) ** 2) * pull

    def tie(x: jax.Array, problem: Problem) -> jax.Array:
        return _tie(x, problem, tied) if likelihood == "dirac" else x

    def step(
        key: jax.Array,
        sources: jax.Array,
        problem: Problem,
        sigma: jax.Array,
        sigma_next: jax.Array,
        normal: Normal,
    ) -> tuple[jax.Array, Info]:
        x, high = sources, sigma * (1 + min(churn, 2**0.5 - 1))
        for i in range(repeats):
            churn_key, back_key = jax.random.split(jax.random.fold_in(key, i))
            x = x + jnp.sqrt(high**2 - sigma**2) * normal(churn_key)
            placed = tie(x, problem)
            denoised = denoise_all(problem.priors, placed, high)
            d = (placed - denoised) / high
            x = x + (sigma_next - high) * (d - likelihood_slope(d, placed, problem, high))
            if i < repeats - 1:
                x = x + jnp.sqrt(sigma**2 - sigma_next**2) * normal(back_key)
        return tie(x, problem), report(problem, denoised, repeats)

    def check(problem: Problem, sigmas: ArrayLike) -> None:
        if likelihood == "dirac":
            _linear(problem)

    return Kernel(step, check=check)


def _tie(x: jax.Array, problem: Problem, tied: int) -> jax.Array:
    """Return the sources with the tied one computed from the others."""
    gains = _linear(problem).gains
    rest = problem.mixture - problem.mixing(x) + gains[tied] * x[tied]
    return x.at[tied].set(rest / gains[tied])


def _linear(problem: Problem) -> Linear:
    """Return the mixing map, or refuse one that the Dirac likelihood cannot use."""
    if not isinstance(problem.mixing, Linear):
        raise ValueError(
            "msdm's dirac likelihood computes a source by subtraction and needs "
            f"linear mixing, not {type(problem.mixing).__name__}; use 'gaussian'"
        )
    return problem.mixing
