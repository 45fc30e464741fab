"""Twisted sequential Monte Carlo (Wu et al. 2023, alg. 1): weighted particles.

The twisting function is the approximation psi(x) = N(mixture; f(D), V) of moment matching, with a
dense V. Particles move by the reverse SDE towards E[x0 | x, mixture], are weighted by
psi'(x') p(x' | x) / (psi(x) q(x' | x)), and are resampled when few of them carry the weight. The
sampler is exact for many particles, but only for small problems: the weights degenerate, and V
costs one product per dimension.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from basis.mixing import weights
from basis.prior import denoise_all
from basis.sampler import (
    Info,
    Kernel,
    Normal,
    Problem,
    observation_variance,
    report,
    residual,
    start_at_mixture,
)

MOST_DIMENSIONS = 256


class Particles(NamedTuple):
    """The state of the sampler: the particles of a group are adjacent in the batch."""

    sources: jax.Array  # [source, batch, ...]
    log_weights: jax.Array  # [batch]
    carried: jax.Array  # [batch], log p(x | before) - log q(x | before) - log psi(before)


def twisted_smc(particles: int = 4) -> Kernel:
    """Return the kernel for batches of groups of `particles`, each group with one mixture.

    Every particle is a sample, but those of a group have common ancestors and are correlated; for
    independent samples use many groups.
    """

    def start(key: jax.Array, problem: Problem, sigma: jax.Array, normal: Normal) -> Particles:
        x = start_at_mixture(key, problem, sigma, normal)
        nothing = jnp.zeros(problem.mixture.shape[0], problem.mixture.dtype)
        return Particles(x, nothing, nothing)

    def step(
        key: jax.Array,
        state: Particles,
        problem: Problem,
        sigma: jax.Array,
        sigma_next: jax.Array,
        normal: Normal,
    ) -> tuple[Particles, Info]:
        choice_key, noise_key = jax.random.split(key)
        denoised, conditioned, log_psi = _twist(problem, state.sources, sigma)
        log_weights = state.log_weights + state.carried + log_psi
        chosen, log_weights = _resample(choice_key, log_weights, particles, sigma_next == 0)
        x, clean, goal = (a[:, chosen] for a in (state.sources, denoised, conditioned))
        q = 1 - (sigma_next / sigma) ** 2
        sd = sigma_next * jnp.sqrt(q)
        following = x - q * (x - goal) + sd * normal(noise_key)

        def log_density(mean: jax.Array) -> jax.Array:
            axes = (0, *range(2, x.ndim))
            off = following - (x - q * (x - mean))
            return -(off**2).sum(axes) / (2 * jnp.maximum(sd, 1e-12) ** 2)

        carried = log_density(clean) - log_density(goal) - log_psi[chosen]
        size = problem.mixture[0].size
        return Particles(following, log_weights, carried), report(problem, clean, 1, size)

    def check(problem: Problem, sigmas: ArrayLike) -> None:
        batch, *shape = problem.mixture.shape
        size = int(jnp.prod(jnp.asarray(shape)))
        if batch % particles or size > MOST_DIMENSIONS:
            raise ValueError(
                f"twisted_smc needs a batch divisible by {particles} and at most "
                f"{MOST_DIMENSIONS} dimensions, not {batch} of {size}; for larger "
                "problems use mmps"
            )

    return Kernel(step, start, lambda state: state.sources, check)


def _twist(
    problem: Problem, sources: jax.Array, sigma: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return E[x0 | x], E[x0 | x, mixture] and log psi `[batch]`, with a dense V."""
    denoised, pull = jax.vjp(lambda x: denoise_all(problem.priors, x, sigma), sources)
    batch, *shape = problem.mixture.shape
    size = problem.mixture[0].size
    w = weights(problem.mixing, denoised)
    units = jnp.eye(size, dtype=sources.dtype).reshape(size, 1, *shape)
    moves = jax.vmap(lambda unit: sigma**2 * pull(w * unit[None])[0])(units)
    images = (w[None] * moves).sum(1).reshape(size, batch, size)
    variance = jnp.broadcast_to(observation_variance(problem, w), problem.mixture.shape)
    v = jnp.moveaxis(images, 1, 0)
    v = (v + jnp.swapaxes(v, 1, 2)) / 2 + jax.vmap(jnp.diag)(variance.reshape(batch, size))
    r = residual(problem, denoised).reshape(batch, size)
    factor = jnp.linalg.cholesky(v)
    whitened = jax.scipy.linalg.solve_triangular(factor, r[..., None], lower=True)[..., 0]
    solved = jax.scipy.linalg.cho_solve((factor, True), r[..., None])[..., 0]
    conditioned = denoised + jnp.einsum("dkb...,bd->kb...", moves, solved)
    log_det = 2 * jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)).sum(-1)
    log_psi = -0.5 * ((whitened**2).sum(-1) + log_det + size * jnp.log(2 * jnp.pi))
    return denoised, conditioned, log_psi


def _resample(
    key: jax.Array, log_weights: jax.Array, particles: int, last: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Resample groups with an effective sample size below half, or all groups at the last level.

    Return the batch index of the ancestor of every particle, and the new log weights, `[batch]`.
    """
    groups = log_weights.reshape(-1, particles)
    share = jax.nn.softmax(groups, -1)
    effective = 1 / (share**2).sum(-1)
    place = (jnp.arange(particles)[None] + jax.random.uniform(key, (len(groups), 1))) / particles
    chosen = jax.vmap(jnp.searchsorted)(jnp.cumsum(share, -1), place)
    chosen = jnp.minimum(chosen, particles - 1)
    anew = ((effective < particles / 2) | last)[:, None]
    chosen = jnp.where(anew, chosen, jnp.arange(particles)[None])
    kept = jnp.where(anew, 0, groups - groups.max(-1, keepdims=True))
    base = (jnp.arange(len(groups)) * particles)[:, None]
    return (base + chosen).reshape(-1), kept.reshape(-1)
