"""Steps from one noise level to the next, for any guidance.

A guidance estimates the clean sources, given the noisy ones and the mixture; a step moves the noisy
sources towards them. Many samplers are a pair of the two: moment matching with the reverse SDE is
MMPS, exact samples with new noise at every level are DAPS.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from basis.broadcast import align_last
from basis.mixing import project, weights
from basis.prior import denoise_all
from basis.sampler import UNKNOWN, Info, Kernel, Normal, Problem, observation_variance, report


class Guided(NamedTuple):
    """Estimates of the clean sources x0 given the noisy ones x, and their cost."""

    denoised: jax.Array  # [source, batch, ...], E[x0 | x]
    conditioned: jax.Array  # [source, batch, ...], the mean or a sample of x0 | x, mixture
    forwards: ArrayLike  # network evaluations per source
    vjps: ArrayLike  # vector-Jacobian products per source


# (key, sources, problem, sigma, normal) -> Guided
Guidance = Callable[[jax.Array, jax.Array, Problem, jax.Array, Normal], Guided]


def unconditioned(
    key: jax.Array, sources: jax.Array, problem: Problem, sigma: jax.Array, normal: Normal
) -> Guided:
    """Guide by the priors alone, without the mixture."""
    denoised = denoise_all(problem.priors, sources, sigma)
    return Guided(denoised, denoised, 1, 0)


def hardened(guidance: Guidance, *, hard: bool) -> Guidance:
    """Return `guidance`, with conditioned sources moved onto f(x) = mixture if `hard`."""
    if not hard:
        return guidance

    def exactly(
        key: jax.Array, sources: jax.Array, problem: Problem, sigma: jax.Array, normal: Normal
    ) -> Guided:
        found = guidance(key, sources, problem, sigma, normal)
        return found._replace(conditioned=onto_mixture(problem, found.conditioned))

    return exactly


def onto_mixture(problem: Problem, sources: jax.Array) -> jax.Array:
    """Return the sources moved so that f(x) = mixture exactly where the mixture is observed."""
    moved = project(problem.mixing, sources, problem.mixture)
    seen = observation_variance(problem, weights(problem.mixing, sources)) < UNKNOWN
    return jnp.where(align_last(seen, sources), moved, sources)


def sde(guidance: Guidance, memory: float = 1.0) -> Kernel:
    """Return the kernel of the reverse SDE: x' ~ N(x0 + q (x - x0), sigma'^2 - (q sigma)^2).

    q = memory sigma'^2 / sigma^2. With `memory` 1 this is the distribution of x' given x and x0: if
    the guidance samples x0 from the true posterior, steps of any length are exact; if it returns
    the mean of x0, long steps add too little noise. With `memory` 0 all noise is new, as in DAPS
    (Zhang et al. 2024): errors of earlier levels are forgotten, but with a guidance that returns
    the mean, samples vary too little.
    """

    def step(
        key: jax.Array,
        sources: jax.Array,
        problem: Problem,
        sigma: jax.Array,
        sigma_next: jax.Array,
        normal: Normal,
    ) -> tuple[jax.Array, Info]:
        guide_key, noise_key = jax.random.split(key)
        found = guidance(guide_key, sources, problem, sigma, normal)
        kept = memory * (sigma_next / sigma) ** 2
        fresh = jnp.sqrt(jnp.maximum(sigma_next**2 - (kept * sigma) ** 2, 0)) * normal(noise_key)
        following = found.conditioned + kept * (sources - found.conditioned) + fresh
        return following, report(problem, found.denoised, found.forwards, found.vjps)

    return Kernel(step)


def heun(guidance: Guidance) -> Kernel:
    """Return the kernel of the probability-flow ODE, second order (Karras et al. 2022, alg. 1)."""

    def step(
        key: jax.Array,
        sources: jax.Array,
        problem: Problem,
        sigma: jax.Array,
        sigma_next: jax.Array,
        normal: Normal,
    ) -> tuple[jax.Array, Info]:
        first = guidance(key, sources, problem, sigma, normal)
        slope = (sources - first.conditioned) / sigma
        following = sources + (sigma_next - sigma) * slope

        def corrected(following: jax.Array) -> jax.Array:
            second = guidance(key, following, problem, sigma_next, normal).conditioned
            mean = (slope + (following - second) / sigma_next) / 2
            return sources + (sigma_next - sigma) * mean

        following = jax.lax.cond(sigma_next > 0, corrected, lambda x: x, following)
        twice = 1 + (sigma_next > 0)
        return following, report(
            problem, first.denoised, first.forwards * twice, first.vjps * twice
        )

    return Kernel(step)


def predictor_corrector(
    guidance: Guidance, corrections: int = 2, kappa: float = 0.2, memory: float | None = None
) -> Kernel:
    """Return the kernel: Langevin corrections at each level, then a step to the next.

    A correction is x - kappa (x - x0) + sigma sqrt(2 kappa) n, a Langevin step of size kappa
    sigma^2 (cf. Song et al. 2021, alg. 2).

    Args:
        guidance: used `corrections + 1` times per level.
        corrections: Langevin steps per level.
        kappa: size of a Langevin step relative to the noise variance.
        memory: None to step by Euler's method on the ODE, or a number as in `sde`.
    """

    def step(
        key: jax.Array,
        sources: jax.Array,
        problem: Problem,
        sigma: jax.Array,
        sigma_next: jax.Array,
        normal: Normal,
    ) -> tuple[jax.Array, Info]:
        def correct(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            guide_key, noise_key = jax.random.split(key)
            found = guidance(guide_key, x, problem, sigma, normal)
            noise = sigma * jnp.sqrt(2 * kappa) * normal(noise_key)
            return x - kappa * (x - found.conditioned) + noise, None

        last_key, *keys = jax.random.split(key, corrections + 1)
        if corrections:
            sources, _ = jax.lax.scan(correct, sources, jnp.stack(keys))
        guide_key, noise_key = jax.random.split(last_key)
        found = guidance(guide_key, sources, problem, sigma, normal)
        kept, fresh = sigma_next / sigma, jnp.zeros_like(sources)
        if memory is not None:
            kept = memory * (sigma_next / sigma) ** 2
            spread = jnp.sqrt(jnp.maximum(sigma_next**2 - (kept * sigma) ** 2, 0))
            fresh = spread * normal(noise_key)
        following = found.conditioned + kept * (sources - found.conditioned) + fresh
        times = corrections + 1
        return following, report(
            problem, found.denoised, found.forwards * times, found.vjps * times
        )

    return Kernel(step)
