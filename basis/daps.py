"""Samplers with an exact likelihood step: DAPS, its ancestral form, and split Gibbs.

DAPS (Zhang et al. 2024, alg. 1) approximates x0 | x by a Gaussian around the denoised sources,
samples it given the mixture without linearising f, and adds noise again. Split Gibbs (Coeurdoux et
al. 2024, Xu and Chi 2024) alternates samples of z | x, mixture and of x | z under a coupling
z ~ N(x, rho^2) whose width rho is annealed.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from basis.exact_step import check_mixing, exact_draw
from basis.mixing import weights
from basis.prior import denoise_all, spread_all
from basis.sampler import Info, Kernel, Normal, Problem, report, sample
from basis.steps import Guidance, Guided, predictor_corrector, sde, unconditioned


def exact_conditioning(
    variance: Literal["tweedie", "spread"] = "tweedie", ode_steps: int = 1, sweeps: int = 3
) -> Guidance:
    """Return the guidance whose conditioned sources are exact samples given the mixture.

    Args:
        variance: variance of x0 | x. "tweedie" is sigma^2 times the row sums of the Jacobian of the
            denoiser, which is exact for priors without correlation and costs one vector-Jacobian
            product; "spread" is the square of `Prior.spread`.
        ode_steps: number of Euler steps of the prior's ODE from x to x0; 1 is the denoiser itself.
        sweeps: see `exact_draw`.

    Raises:
        ValueError: for another variance.
    """
    if variance not in ("tweedie", "spread"):
        raise ValueError(f"variance must be 'tweedie' or 'spread', not {variance!r}")

    def guidance(
        key: jax.Array, sources: jax.Array, problem: Problem, sigma: jax.Array, normal: Normal
    ) -> Guided:
        def denoised_at(x: jax.Array, s: jax.Array) -> jax.Array:
            return denoise_all(problem.priors, x, s)

        low = jnp.stack([jnp.min(prior.sigmas) for prior in problem.priors]).max()
        x, levels = sources, _inner_levels(sigma, low, ode_steps)
        for i in range(ode_steps - 1):
            kept = levels[i + 1] / levels[i]
            x = kept * x + (1 - kept) * denoised_at(x, levels[i])
        if variance == "tweedie":
            first, pull = jax.vjp(lambda y: denoised_at(y, sigma), sources)
            rows = pull(jnp.ones_like(sources))[0]
            sd = sigma * jnp.sqrt(jnp.clip(rows, 1e-6, 1))
        else:
            first = denoised_at(sources, sigma) if ode_steps == 1 else sources
            sd = spread_all(problem.priors, sources, sigma)
        denoised = first if ode_steps == 1 else denoised_at(x, levels[-1])
        extra = int(variance == "tweedie" and ode_steps > 1)
        w = weights(problem.mixing, denoised)
        drawn = exact_draw(key, denoised, sd, problem, w, sweeps)
        return Guided(denoised, drawn, ode_steps + extra, int(variance == "tweedie"))

    return guidance


def daps(
    variance: Literal["tweedie", "spread"] = "tweedie", ode_steps: int = 1, memory: float = 0.0
) -> Kernel:
    """Return the kernel of DAPS.

    With `memory` 1 it steps by the reverse SDE, which is exact where x0 | x is Gaussian. For the
    other arguments see `exact_conditioning`.
    """
    kernel = sde(exact_conditioning(variance, ode_steps), memory)
    return kernel._replace(check=check_mixing)


def daps_pc(
    variance: Literal["tweedie", "spread"] = "tweedie", corrections: int = 1, kappa: float = 0.2
) -> Kernel:
    """Return the kernel of Langevin corrections towards exact samples and an ancestral step."""
    guidance = exact_conditioning(variance)
    return predictor_corrector(guidance, corrections, kappa, 1.0)._replace(check=check_mixing)


def split_gibbs(inner_steps: int = 10, sweeps: int = 3) -> Kernel:
    """Return the kernel of split Gibbs: x | z by the reverse SDE of the prior, then z | x, mixture.

    The state is z, which is distributed as x plus noise of the level's sigma. No Jacobian is used,
    and f is not linearised.

    Args:
        inner_steps: number of steps of the reverse SDE per level.
        sweeps: see `exact_draw`.
    """

    def step(
        key: jax.Array,
        sources: jax.Array,
        problem: Problem,
        sigma: jax.Array,
        sigma_next: jax.Array,
        normal: Normal,
    ) -> tuple[jax.Array, Info]:
        low = jnp.stack([jnp.min(prior.sigmas) for prior in problem.priors]).max()
        levels = _inner_levels(sigma, low, inner_steps)

        inner_key, draw_key = jax.random.split(key)
        prior = sde(unconditioned)._replace(start=lambda *_: sources)
        x, _ = sample(prior, inner_key, problem, levels, normal)
        # the last sample z keeps the coupling of its level: z fits the mixture, x need not
        rho = jnp.where(sigma_next > 0, sigma_next, sigma)
        w = weights(problem.mixing, x)
        z = exact_draw(draw_key, x, rho, problem, w, sweeps)
        return z, report(problem, x, inner_steps)

    return Kernel(step, check=check_mixing)


def _inner_levels(sigma: jax.Array, low: jax.Array, n: int) -> jax.Array:
    """Return `n` levels from sigma to the smallest of the priors (Karras et al. 2022, eq. 5)."""
    t = jnp.linspace(0, 1, n) if n > 1 else jnp.zeros(1)
    high, low = sigma ** (1 / 7), jnp.minimum(sigma, low) ** (1 / 7)
    return (high + t * (low - high)) ** 7
