"""Weights of several posterior samples, by their likelihood under the priors.

A chain chooses one of several explanations of a mixture early, at high noise levels, and seldom
changes it later. The likelihood of its final sample shows whether that choice was good.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from basis.prior import Density, Prior, denoise


def implausibility(
    priors: Sequence[Prior], key: jax.Array, sources: jax.Array, sigmas: jax.Array
) -> jax.Array:
    """Return sum_k |D_k(x_k + sigma n) - x_k|^2 / sigma^2, mean over levels, `[sample, batch]`.

    Up to a constant and a factor, the range of ln sigma of the levels, it is a bound of the
    negative log density of the sources in nats (see `basis.denoising_bound`). All samples of a
    mixture get the same noise n, which reduces the variance of their differences.

    Args:
        priors: one per source.
        key: random key of the noise.
        sources: `[sample, source, batch, ...]`, model units.
        sigmas: noise levels `[level]`; each costs one network evaluation per source and sample.
    """
    shape = sources.shape[2:]

    def at(total: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        key, sigma = inputs
        for k, prior in enumerate(priors):
            noise = sigma * jax.random.normal(jax.random.fold_in(key, k), shape, sources.dtype)
            x = sources[:, k]
            error = jax.lax.map(lambda x, n=noise, p=prior: denoise(p, x + n, sigma) - x, x)
            total = total + (error**2).reshape(*x.shape[:2], -1).sum(-1) / sigma**2
        return total, None

    start = jnp.zeros((len(sources), shape[0]), sources.dtype)
    total, _ = jax.lax.scan(at, start, (jax.random.split(key, len(sigmas)), sigmas))
    return total / len(sigmas)


def surprise(
    priors: Sequence[Density], key: jax.Array, sources: jax.Array, sigmas: jax.Array
) -> jax.Array:
    """Return - sum_k log p_sigma(x_k + sigma n) in nats, mean over levels, `[sample, batch]`.

    This is exact where `implausibility` is a bound, but needs priors with a log density, such as
    flows. All samples of a mixture get the same noise n; without noise, x would lie outside the
    typical set of the noisy densities.

    Args:
        priors: one per source, with `log_prob`.
        key: random key of the noise.
        sources: `[sample, source, batch, ...]`, model units.
        sigmas: noise levels `[level]`; each costs one forward pass per source and sample.
    """

    def at(total: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        key, sigma = inputs
        for k, prior in enumerate(priors):
            noise = sigma * jax.random.normal(
                jax.random.fold_in(key, k), sources.shape[2:], sources.dtype
            )
            total -= jax.lax.map(
                lambda x, n=noise, p=prior: p.log_prob(x + n, sigma), sources[:, k]
            )
        return total, None

    start = jnp.zeros((len(sources), sources.shape[2]), sources.dtype)
    total, _ = jax.lax.scan(at, start, (jax.random.split(key, len(sigmas)), sigmas))
    return total / len(sigmas)


def evidence_weights(implausible: jax.Array, temperature: float) -> jax.Array:
    """Return weights exp(-implausible / temperature) of the samples, normalised, `[sample, batch]`.

    Exact posterior samples need no weights; they correct samplers that seldom move between modes.
    The temperature accounts for the noise of the estimated bound: 0 selects the most likely sample,
    infinity gives all samples the same weight.
    """
    if temperature == 0:
        return (implausible == implausible.min(0)[None]).astype(implausible.dtype)
    return jax.nn.softmax(-implausible / temperature, 0)
