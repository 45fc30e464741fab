"""BASIS: annealed Langevin dynamics on the posterior (Jayaram and Thickstun 2020)."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from basis.diagnostics import check_langevin
from basis.mixing import Linear, project, weights
from basis.prior import denoise, denoise_all
from basis.sampler import Kernel, observation_variance, report, residual

# What the published programs do, as options of `langevin`; step_size is their delta / sigma_L^2,
# gamma_scale their likelihood's variance over sigma^2 (the missing halves of their gradients).
ANCESTORS: dict[str, dict[str, Any]] = {
    "paper": {"step_size": 0.2, "at": "noisy"},
    "cifar": {"step_size": 0.3, "at": "noisy"},
    "mnist": {"step_size": 0.3, "gamma_scale": 0.5, "at": "noisy"},
    "spectrograms": {"step_size": 0.2, "at": "noisy"},  # with mixing AncestorDecibel
    "parallel": {"step_size": 0.05, "gamma_scale": 1 / 15, "at": "noisy"},
}


def langevin(
    steps: int = 100,
    step_size: float = 0.2,
    gamma_scale: float = 1.0,
    at: Literal["noisy", "denoised"] = "denoised",
    order: Literal["jacobi", "gauss-seidel"] = "jacobi",
    *,
    hard: bool = False,
) -> Kernel:
    """Make the kernel: `steps` Langevin steps at each level on p_sigma(x) N(m; f(.), gamma^2).

    eta = step_size sigma^2 (the paper's delta / sigma_L^2), gamma^2 = gamma_scale sigma^2 +
    variance. It diverges unless step_size (|w|^2 / gamma_scale + 1) < 2.

    Args:
        steps: Langevin steps at each level.
        step_size: relative to the noise variance; 0.2 is the paper's.
        gamma_scale: width of the likelihood in units of the noise variance.
        at: the mixing map acts on the noisy sources (the paper; biased where f bends) or on the
            denoised ones, held constant under differentiation.
        order: jacobi moves all sources at once; gauss-seidel one after the other, each seeing
            those moved before it.
        hard: no likelihood; every step is projected onto f(x) = mixture + its share of noise.
    """
    if at not in ("noisy", "denoised") or order not in ("jacobi", "gauss-seidel"):
        raise ValueError(
            f"at must be 'noisy' or 'denoised', not {at!r}, and order 'jacobi' or "
            f"'gauss-seidel', not {order!r}"
        )

    def step(key, sources, problem, sigma, sigma_next, normal):
        eta = step_size * sigma**2

        def pull(x, clean):
            point = clean if at == "denoised" else x
            w = weights(problem.mixing, point)
            gamma2 = gamma_scale * sigma**2 + observation_variance(problem, w)
            return 0.0 if hard else w * residual(problem, point) / gamma2

        def drift(x):
            clean = denoise_all(problem.priors, x, sigma)
            return (clean - x) / sigma**2 + pull(x, clean), clean

        def one(carry, i):
            x, _ = carry
            noise = jnp.sqrt(2 * eta) * normal(jax.random.fold_in(key, i))
            if order == "jacobi":
                move, clean = drift(x)
                x = x + eta * move + noise
            else:
                clean = denoise_all(problem.priors, x, sigma)
                for k, prior in enumerate(problem.priors):
                    fresh = denoise(prior, x[k], sigma)
                    clean = clean.at[k].set(fresh)
                    likelihood = pull(x, clean)
                    move = (fresh - x[k]) / sigma**2 + (0.0 if hard else likelihood[k])
                    x = x.at[k].add(eta * move + noise[k])
            if hard:
                x = projected(problem, x, sigma, normal(jax.random.fold_in(key, i + steps + 1)))
            return (x, clean), None

        (x, clean), _ = jax.lax.scan(one, (sources, sources), jnp.arange(steps))

        # the noise of the last level is taken off by one step to the conditioned mean
        def finish(x):
            x = x + sigma**2 * drift(x)[0]
            return project(problem.mixing, x, problem.mixture) if hard else x

        x = jax.lax.cond(sigma_next == 0, finish, lambda x: x, x)
        evaluations = steps * (2 if order == "gauss-seidel" else 1) + (sigma_next == 0)
        return x, report(problem, clean, evaluations)

    def check(problem, sigmas):
        scale = np.inf if hard else gamma_scale
        check_langevin(step_size, scale, problem.mixing, at)

    return Kernel(step, check=check)


def projected(problem, x: jax.Array, sigma: jax.Array, noise: jax.Array) -> jax.Array:
    """Move noisy sources so that f(x) is the mixture and the noise that f(x + sigma n) has."""
    if isinstance(problem.mixing, Linear):
        share = jnp.sqrt((problem.mixing.gains**2).sum()) * sigma * noise[0]
        return project(problem.mixing, x, problem.mixture + share)
    return project(problem.mixing, x, problem.mixture)
