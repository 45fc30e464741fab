"""Which of several posterior samples to believe: the priors find the right one easier to denoise.

A chain decides early, at much noise, which of several explanations of a mixture it follows, and
seldom finds back. Whether it was right shows at its end.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from basis.prior import denoise


def implausibility(
    priors: Sequence[Any], key: jax.Array, sources: jax.Array, sigmas: jax.Array
) -> jax.Array:
    """Give sum |D(x + sigma n) - x|^2 / sigma^2 over sources, mean over levels, `[sample, batch]`.

    Up to a constant and to the range of ln sigma that the levels stand for, a bound of the negative
    log density of the sources in nats (see `basis.denoising_bound`). All samples of a mixture get
    the same noise n, which cancels from their differences.

    Args:
        priors: one a source.
        key: of the noise.
        sources: `[sample, source, batch, ...]`, model units.
        sigmas: `[level]`, where samples are judged, one network evaluation a source each.
    """
    shape = sources.shape[2:]

    def at(total, inputs):
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
    priors: Sequence[Any], key: jax.Array, sources: jax.Array, sigmas: jax.Array
) -> jax.Array:
    """Give - sum log p_sigma(x + sigma n) over sources, mean over levels, nats, `[sample, batch]`.

    For priors that know their density, as flows do: what `implausibility` bounds, without a bound.
    All samples of a mixture get the same noise n, without which x may lie where no level's density
    is at home.

    Args:
        priors: one a source, with `log_prob`.
        key: of the noise.
        sources: `[sample, source, batch, ...]`, model units.
        sigmas: `[level]`, where samples are judged, one forward pass a source each.
    """

    def at(total, inputs):
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
    """Give the weights of samples `[sample, batch]`, 1 in sum: exp(-implausible / temperature).

    A sampler that made samples in proportion to the posterior would need none; one that is stuck
    where it began is mended by them. The temperature covers that the bound is measured by few
    draws: 0 takes the likeliest sample alone, infinity weighs all alike.
    """
    if temperature == 0:
        return (implausible == implausible.min(0)).astype(implausible.dtype)
    return jax.nn.softmax(-implausible / temperature, 0)
