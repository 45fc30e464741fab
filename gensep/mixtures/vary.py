"""Random variation of the sources of a mixture as waves, on device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Variation(NamedTuple):
    """How much sources are varied, each by itself; the defaults leave them as they are."""

    gain_low: float = 1.0  # factors
    gain_high: float = 1.0
    swap: float = 0.0  # probability that the first two channels are exchanged
    mute_source: float = 0.0  # probability of silence, unless no source would be left
    mute_channel: float = 0.0  # probability that one channel is silent
    shift: int = 0  # largest circular shift in samples, in both directions


def vary(key: jax.Array, waves: jax.Array, by: Variation) -> jax.Array:
    """Vary sources `[batch, source, channel, samples]`; their sum is the mixture."""
    keys = dict(zip(Variation._fields[1:], jax.random.split(key, 5), strict=True))
    each, channels = waves.shape[:2], waves.shape[2]

    def happens(name: str, probability: float) -> jax.Array:
        return jax.random.bernoulli(keys[name], probability, each)

    if by.shift:
        steps = jax.random.randint(keys["shift"], each, -by.shift, by.shift + 1)
        roll = jax.vmap(jax.vmap(lambda wave, step: jnp.roll(wave, step, axis=-1)))
        waves = roll(waves, steps)
    if by.mute_channel and channels > 1:
        on, which = jax.random.split(keys["mute_channel"])
        silent = jax.nn.one_hot(jax.random.randint(which, each, 0, channels), channels)
        silent = silent * jax.random.bernoulli(on, by.mute_channel, each)[..., None]
        waves = waves * (1 - silent)[..., None]
    if by.swap and channels > 1:
        swapped = jnp.concatenate([waves[:, :, 1::-1], waves[:, :, 2:]], axis=2)
        waves = jnp.where(happens("swap", by.swap)[..., None, None], swapped, waves)
    gains = jax.random.uniform(keys["gain_high"], each, minval=by.gain_low, maxval=by.gain_high)
    if by.mute_source:
        muted = happens("mute_source", by.mute_source)
        muted = muted & ~muted.all(axis=1, keepdims=True)
        gains = jnp.where(muted, 0, gains)
    return waves * gains[..., None, None]
