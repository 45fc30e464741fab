"""Weights of several posterior samples, by their likelihood under the priors, whole or in part.

A chain chooses one of several explanations of a mixture early, at high noise levels, and seldom
changes it later. The likelihood of its final sample shows whether that choice was good. Where the
samples have an axis of time, chains are right in some stretches and wrong in others, so that their
weights must be local.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from basis.prior import Density, Prior, denoise
from basis.sampler import Normal

Measure = Callable[[int, jax.Array, jax.Array], jax.Array]  # source, noise, sigma -> [batch, ...]
FADE = 0.375  # deviation of the smoothing of local weights, relative to that of their stretches


def implausibility(
    priors: Sequence[Prior],
    key: jax.Array,
    sources: jax.Array,
    sigmas: jax.Array,
    keep: int = 0,
    normal: Normal | None = None,
) -> jax.Array:
    """Return an estimate of -log p(x) of the sources in nats, up to a constant; `[batch, ...]`.

    It is the sum over the sources k of the integral over ln sigma of

        E |D_k(x_k + sigma n) - x_k|^2 / sigma^2,

    which differs from -log p_k(x_k) by a constant if D_k is the exact denoiser and the integral
    runs over all sigma (the pointwise relation of information and error of Kong et al. 2023,
    "Information-theoretic diffusion"). The integral is estimated by the mean over `sigmas` times
    the range of their logarithms, with one draw of n per level.

    Args:
        priors: one per source.
        key: random key of the noise.
        sources: `[source, batch, ...]`, model units.
        sigmas: noise levels `[level]`, evenly spaced in ln sigma; a level that occurs several times
            has several draws. Each costs one network evaluation per source and sample. Levels that
            are all equal count as a range of one.
        keep: number of axes behind the batch over which the squares are not summed. With 1, a
            result `[batch, frame]` tells the share of every frame.
        normal: draws n, as in `basis.sample`; by default all elements of the batch get the same n,
            so that differences between samples of one mixture vary less.
    """

    def measure(k: int, noise: jax.Array, sigma: jax.Array) -> jax.Array:
        x = sources[k]
        error = denoise(priors[k], x + noise, sigma) - x
        return (error**2).reshape(*x.shape[: 1 + keep], -1).sum(-1) / sigma**2

    ratio = jnp.max(sigmas) / jnp.min(sigmas)
    reach = jnp.where(ratio > 1, jnp.log(ratio), 1)
    return reach * _mean(measure, key, sources, sigmas, keep, normal)


def surprise(
    priors: Sequence[Density], key: jax.Array, sources: jax.Array, sigmas: jax.Array
) -> jax.Array:
    """Return - sum_k log p_sigma(x_k + sigma n) in nats, mean over levels, `[batch]`.

    This is exact where `implausibility` is an estimate, but needs priors with a log density, such
    as flows. Without noise, x would lie outside the typical set of the noisy densities.

    Args:
        priors: one per source, with `log_prob`.
        key: random key of the noise, which is the same for all elements of the batch.
        sources: `[source, batch, ...]`, model units.
        sigmas: noise levels `[level]`; each costs one forward pass per source and sample.
    """

    def measure(k: int, noise: jax.Array, sigma: jax.Array) -> jax.Array:
        return -priors[k].log_prob(sources[k] + noise, sigma)

    return _mean(measure, key, sources, sigmas, 0, None)


def _mean(
    measure: Measure,
    key: jax.Array,
    sources: jax.Array,
    sigmas: jax.Array,
    keep: int,
    normal: Normal | None,
) -> jax.Array:
    """Return the mean over noise levels of the sum over sources of a measure."""

    def common(key: jax.Array) -> jax.Array:
        return jax.random.normal(key, sources[:, :1].shape, sources.dtype)

    def at(total: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        key, sigma = inputs
        for k, n in enumerate((normal or common)(key)):
            total = total + measure(k, sigma * n, sigma)
        return total, None

    start = jnp.zeros(sources.shape[1 : 2 + keep], sources.dtype)
    total, _ = jax.lax.scan(at, start, (jax.random.split(key, len(sigmas)), sigmas))
    return total / len(sigmas)


def evidence_weights(
    evidence: jax.Array, temperature: float, stretch: float = 0.0, axis: int = -1
) -> jax.Array:
    """Return weights of samples, proportional to exp(-evidence / temperature), shaped alike.

    Exact posterior samples need no weights; they correct samplers that seldom move between modes.

    Args:
        evidence: `[sample, ...]` in nats, from `implausibility` or `surprise`.
        temperature: accounts for the error of the estimate: 0 selects the most likely sample,
            infinity gives all samples the same weight.
        stretch: 0, or the standard deviation of a Gaussian window along `axis`: a place is judged
            by the evidence of its neighbourhood, summed with weights of at most 1. Where the window
            reaches beyond an end, what lies inside counts for the whole. The weights are smoothed
            by a narrower window, so that a weighted mean fades from one sample to another.
        axis: of the places, any but the first.
    """
    if stretch:
        evidence = _windowed(evidence, stretch, axis) * stretch * jnp.sqrt(2 * jnp.pi)
    if temperature == 0:
        weights = (evidence == evidence.min(0)[None]).astype(evidence.dtype)
    else:
        weights = jax.nn.softmax(-evidence / temperature, 0)
    return _windowed(weights, FADE * stretch, axis) if stretch else weights


def _windowed(x: jax.Array, sd: float, axis: int) -> jax.Array:
    """Return means of x along an axis, weighted by a Gaussian around every place."""
    place = jnp.arange(x.shape[axis], dtype=x.dtype)
    window = jax.nn.softmax(-0.5 * ((place[:, None] - place[None]) / sd) ** 2, 1)
    mean = jnp.tensordot(x, window, ((axis,), (1,)), precision="highest")
    return jnp.moveaxis(mean, -1, axis)
