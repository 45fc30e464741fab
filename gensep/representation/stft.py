"""Short-time Fourier transform, its inverse and mel filterbank in JAX; as librosa's to 1e-5."""

from collections.abc import Callable
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def hann(n: int) -> np.ndarray:
    """Return the periodic Hann window, float64 `[n]`."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


def blackman_harris(n: int) -> np.ndarray:
    """Return the periodic Blackman-Harris window of four terms, float64 `[n]`."""
    phases = 2 * np.pi * np.arange(n)[:, None] * np.arange(4) / n
    return np.cos(phases) @ np.array([0.35875, -0.48829, 0.14128, -0.01168])


def symmetric_hann(n: int) -> np.ndarray:
    """Return the Hann window whose first and last values are 0, float64 `[n]`."""
    return np.hanning(n)


# name -> the window of n samples
WINDOWS: dict[str, Callable[[int], np.ndarray]] = {
    "hann": hann,
    "symmetric_hann": symmetric_hann,
    "blackman_harris": blackman_harris,
}


def overlap_add(frames: jax.Array, hop_length: int) -> jax.Array:
    """Overlap and add `[..., frames, n_fft]` -> `[..., (frames - 1) hop_length + n_fft]`.

    Raises:
        ValueError: if `hop_length` does not divide n_fft.
    """
    *lead, count, n_fft = frames.shape
    if n_fft % hop_length:
        raise ValueError(f"hop_length must divide n_fft = {n_fft}, not {hop_length}")
    parts = frames.reshape(*lead, count, n_fft // hop_length, hop_length)
    total = count + n_fft // hop_length - 1
    out = jnp.zeros((*lead, total, hop_length), frames.dtype)
    for i in range(n_fft // hop_length):
        out = out.at[..., i : i + count, :].add(parts[..., i, :])
    return out.reshape(*lead, total * hop_length)


def synthesis(
    spectra: jax.Array, hop_length: int, valid: jax.Array | None = None, window: str = "hann"
) -> jax.Array:
    """Return the wave whose transform is nearest to complex `[..., frames, bins]` (least squares).

    The wave is not trimmed: `[..., (frames - 1) hop_length + n_fft]`. Frames where
    `valid: [frames]` is 0 do not count; samples that no frame reaches are 0. `window` is a key of
    WINDOWS. Griffin and Lim 1984, equation 6.
    """
    n_fft = 2 * (spectra.shape[-1] - 1)
    shape = WINDOWS[window](n_fft).astype(np.float32)[None]
    valid = jnp.ones(spectra.shape[-2]) if valid is None else valid
    frames = jnp.fft.irfft(spectra, n_fft)
    frames = frames * _aligned(shape * valid[:, None], frames)
    weight = overlap_add(valid[:, None] * shape**2, hop_length)
    reached = weight > 1e-10
    total = overlap_add(frames, hop_length)
    reached, weight = (_aligned(each, total) for each in (reached, jnp.where(reached, weight, 1)))
    return jnp.where(reached, total / weight, 0)


def _aligned(last: ArrayLike, like: jax.Array) -> jax.Array:
    """Add axes of size 1 in front of `last` until it has as many axes as `like`."""
    return jnp.expand_dims(last, range(like.ndim - jnp.ndim(last)))


@partial(jax.jit, static_argnames=("hop_length", "samples"))
def istft(spectra: jax.Array, hop_length: int, samples: int) -> jax.Array:
    """Invert the centred `stft`: `[..., frames, bins]` -> `[..., samples]`, zeros at the end."""
    wave = synthesis(spectra, hop_length)[..., spectra.shape[-1] - 1 :][..., :samples]
    return jnp.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(0, samples - wave.shape[-1])])


@partial(jax.jit, static_argnames=("n_fft", "hop_length", "center", "window"))
def stft(
    audio: jax.Array, n_fft: int, hop_length: int, *, center: bool = True, window: str = "hann"
) -> jax.Array:
    """Transform `[..., samples]` -> complex `[..., frames, 1 + n_fft // 2]`.

    `window` is a key of WINDOWS. With `center`, frames are centred: n_fft // 2 zeros are added at
    both ends. An incomplete last frame is dropped.
    """
    if center:
        audio = jnp.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(n_fft // 2, n_fft // 2)])
    count = 1 + (audio.shape[-1] - n_fft) // hop_length
    frames = audio[..., np.arange(count)[:, None] * hop_length + np.arange(n_fft)]
    return jnp.fft.rfft(frames * _aligned(WINDOWS[window](n_fft).astype(audio.dtype), frames))


def mel_frequencies(n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """Return `n_mels` frequencies in Hz, evenly spaced on Slaney's mel scale, ends included."""
    log = np.log(6.4)

    def to_mel(hz: float) -> np.ndarray:
        return np.where(hz < 1000, 3 * hz / 200, 15 + 27 * np.log(np.maximum(hz, 1) / 1000) / log)

    mel = np.linspace(to_mel(fmin), to_mel(fmax), n_mels)
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp(log * (mel - 15) / 27))


@lru_cache(maxsize=16)
def mel_filterbank(rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """Return triangles of height 1, float32 `[n_mels, 1 + n_fft // 2]` (librosa: norm=None)."""
    edges = mel_frequencies(n_mels + 2, fmin, fmax)
    bins = np.linspace(0, rate / 2, 1 + n_fft // 2)
    width = np.diff(edges)
    rise = (bins - edges[:-2, None]) / width[:-1, None]
    fall = (edges[2:, None] - bins) / width[1:, None]
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)
