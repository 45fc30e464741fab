"""Random loudness, timbre, reverberation, tempo and noise of spectrogram windows, on device.

Everything acts on mel power: a gain is a factor, an equaliser a factor per band, and reverberation
a sum of earlier frames that decay.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

PREROLL = 24  # frames before and after a window, for reverberation and changes of tempo


class Spread(NamedTuple):
    """How much windows are varied; zeros leave them as they are."""

    gain_low: float  # dB
    gain_high: float  # dB
    equaliser: float  # dB, standard deviation of a smooth random curve over the bands
    tilt: float  # dB, largest slope from the lowest to the highest band
    room: float  # probability of reverberation
    noise: float  # probability of background noise
    stretch: float  # largest relative change of tempo


def augment(key: jax.Array, power_db: jax.Array, frames: int, spread: Spread) -> jax.Array:
    """Vary dB windows `[batch, frames + 2 PREROLL, mel]`; return power `[batch, frames, mel]`."""
    keys = jax.random.split(key, len(power_db))
    return jax.vmap(lambda key, window: _augment_one(key, window, frames, spread))(keys, power_db)


def crop(power_db: jax.Array, frames: int) -> jax.Array:
    """Return the middle of windows in dB as mel power `[batch, frames, mel]`, for validation."""
    return 10 ** (power_db[:, PREROLL : PREROLL + frames] / 10)


def _augment_one(key: jax.Array, window: jax.Array, frames: int, spread: Spread) -> jax.Array:
    named = ("stretch", "gain", "equaliser", "tilt", "strength", "room", "noise")
    k = dict(zip(named, jax.random.split(key, len(named)), strict=True))
    power = 10 ** (_stretched(k["stretch"], window, spread.stretch) / 10)
    power = _reverberated(k["room"], power, spread.room)[PREROLL : PREROLL + frames]
    bands = power.shape[-1]
    # most examples stay close to the recording, a few are far from it
    strength = jax.random.uniform(k["strength"]) ** 2 * 2
    curve = strength * _smooth(k["equaliser"], bands) * spread.equaliser
    slope = jax.random.uniform(k["tilt"], minval=-1, maxval=1) * strength * spread.tilt / 2
    tilt = jnp.linspace(-slope, slope, bands)
    gain = jax.random.uniform(k["gain"], minval=spread.gain_low, maxval=spread.gain_high)
    power = power * 10 ** ((gain + curve + tilt) / 10)[None]
    return power + _background(k["noise"], power.shape, spread.noise)


def _stretched(key: jax.Array, window: jax.Array, most: float) -> jax.Array:
    """Change the tempo around the middle, by linear interpolation of the decibels."""
    n = len(window)
    rate = jnp.exp(jax.random.uniform(key, minval=-1, maxval=1) * jnp.log1p(most))
    place = jnp.clip((jnp.arange(n) - n / 2) * rate + n / 2, 0, n - 1.001)
    low = place.astype(jnp.int32)
    part = (place - low)[:, None]
    return window[low] * (1 - part) + window[low + 1] * part


def _reverberated(key: jax.Array, power: jax.Array, probability: float) -> jax.Array:
    """Add reverberation that decays exponentially, faster in high bands."""
    on_key, wet_key, time_key, damp_key = jax.random.split(key, 4)
    n, bands = power.shape
    wet = jax.random.uniform(wet_key, maxval=0.6) ** 2
    wet = wet * jax.random.bernoulli(on_key, probability)
    # decay per frame in nepers of power, for reverberation times of 0.2 to 1.5 s, frames of 32 ms
    decay = 13.8 * 0.032 / jnp.exp(jax.random.uniform(time_key, minval=-1.6, maxval=0.4))
    damp = jax.random.uniform(damp_key, maxval=1.5)
    rates = decay * (1 + damp * jnp.linspace(0, 1, bands))

    def step(tail: jax.Array, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
        tail = tail * jnp.exp(-rates) + frame
        return tail, tail

    _, tails = jax.lax.scan(step, jnp.zeros(bands), power, unroll=8)
    tails = tails * (1 - jnp.exp(-rates))[None]
    return (1 - wet) * power + wet * tails


def _smooth(key: jax.Array, bands: int, knots: int = 7) -> jax.Array:
    """Return a smooth random curve, standard normal at its knots, `[bands]`."""
    values = jax.random.normal(key, (knots,))
    place = jnp.linspace(0, knots - 1, bands)
    return jnp.interp(place, jnp.arange(knots), values)


def _background(key: jax.Array, shape: tuple[int, ...], probability: float) -> jax.Array:
    """Return noise power of random loudness and slope, about 45 to 75 dB below loud music."""
    on_key, level_key, slope_key, bins_key = jax.random.split(key, 4)
    loudness_db = jax.random.uniform(level_key, minval=-45, maxval=-12)
    slope = jax.random.uniform(slope_key, minval=-12, maxval=6)
    shape_db = loudness_db + slope * jnp.linspace(0, 1, shape[-1])
    power = (10 ** (shape_db / 10))[None] * jax.random.exponential(bins_key, shape)
    return power * jax.random.bernoulli(on_key, probability)
