"""From one noise level to the next, for any guidance.

A guidance tells what the clean sources are, given the noisy ones and the mixture; a step walks
there. Samplers of the kind are a pair of the two: moment matching with the reverse SDE is MMPS, an
exact draw with fresh noise is DAPS.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from basis.mixing import project, weights
from basis.prior import denoise_all
from basis.sampler import Kernel, Problem, observation_variance, report


class Guided(NamedTuple):
    """The clean sources given the noisy ones."""

    denoised: jax.Array  # [source, batch, ...], E[x0 | x]
    conditioned: jax.Array  # like it: the mean of, or a draw from, x0 | x, mixture
    forwards: int  # network evaluations of each source
    vjps: int


# (key, sources, problem, sigma, normal) -> Guided
Guidance = Callable[..., Guided]


def unconditioned(key, sources, problem, sigma, normal) -> Guided:
    """Give the guidance of the priors alone."""
    denoised = denoise_all(problem.priors, sources, sigma)
    return Guided(denoised, denoised, 1, 0)


def hardened(guidance: Guidance, *, hard: bool) -> Guidance:
    """Make a guidance whose conditioned sources obey f(x) = mixture exactly, if `hard`."""
    if not hard:
        return guidance

    def exactly(key, sources, problem, sigma, normal):
        found = guidance(key, sources, problem, sigma, normal)
        return found._replace(conditioned=onto_mixture(problem, found.conditioned))

    return exactly


def onto_mixture(problem: Problem, sources: jax.Array) -> jax.Array:
    """Move sources so that f(x) = mixture exactly, where the mixture is observed."""
    moved = project(problem.mixing, sources, problem.mixture)
    seen = observation_variance(problem, weights(problem.mixing, sources)) < 1e6
    return jnp.where(seen, moved, sources)


def sde(guidance: Guidance, memory: float = 1.0) -> Kernel:
    """Make the kernel of the reverse SDE: x' ~ N(x0 + q (x - x0), sigma'^2 - (q sigma)^2).

    q = memory sigma'^2 / sigma^2. With memory 1 this is the law of x' given x and x0, so that a
    guidance that *draws* x0 from the true posterior makes every step exact, however long; one
    that gives its mean takes too little noise in long steps. With memory 0 all noise is drawn
    afresh, which forgets the start and the errors of earlier levels (as DAPS does; Zhang et al.
    2024), at the price, for a mean, of samples that are too much alike.
    """

    def step(key, sources, problem, sigma, sigma_next, normal):
        guide_key, noise_key = jax.random.split(key)
        found = guidance(guide_key, sources, problem, sigma, normal)
        kept = memory * (sigma_next / sigma) ** 2
        fresh = jnp.sqrt(jnp.maximum(sigma_next**2 - (kept * sigma) ** 2, 0)) * normal(noise_key)
        following = found.conditioned + kept * (sources - found.conditioned) + fresh
        return following, report(problem, found.denoised, found.forwards, found.vjps)

    return Kernel(step)


def heun(guidance: Guidance) -> Kernel:
    """Make the kernel of the probability-flow ODE, second order (Karras et al. 2022, alg. 1)."""

    def step(key, sources, problem, sigma, sigma_next, normal):
        first = guidance(key, sources, problem, sigma, normal)
        slope = (sources - first.conditioned) / sigma
        following = sources + (sigma_next - sigma) * slope

        def corrected(following):
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
    """Make the kernel: at each level Langevin corrections, then a step of the ODE.

    A correction is x - kappa (x - x0) + sigma sqrt(2 kappa) n, a Langevin step of kappa sigma^2.

    Args:
        guidance: used `corrections + 1` times a level.
        corrections: Langevin steps a level.
        kappa: size of a step relative to the noise variance.
        memory: None steps on by Euler's method on the ODE; a number as in `sde`.
    """

    def step(key, sources, problem, sigma, sigma_next, normal):
        def correct(x, key):
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
