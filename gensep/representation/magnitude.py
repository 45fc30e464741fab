"""STFT magnitudes of waves, and waves from spectra: what separators are told and what they filter.

A separator sees the magnitudes of a mixture on a linear scale. What it does with them first (a
logarithm, a shift by a mean spectrum) is a part of its network.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from gensep.representation.stft import WINDOWS, stft, synthesis


@dataclass(frozen=True)
class Spectra:
    """The transform of a separator; hashable, so static to jit. Frames are centred.

    Raises:
        ValueError: if hop_length does not divide n_fft, or window is no key of
            `gensep.representation.stft.WINDOWS`.
    """

    sample_rate: int = 44100
    channels: int = 1  # of the waves; a file with others is adapted when the network is applied
    n_fft: int = 1024
    hop_length: int = 512
    window: str = "hann"
    # zeros: ceil(samples / hop) + 2 frames, as DeepConvSep has; reflect: 1 + samples // hop frames,
    # of the wave mirrored at its ends, as Open-Unmix has
    padding: Literal["zeros", "reflect"] = "zeros"
    unitary: bool = False  # spectra are divided by the root of n_fft

    def __post_init__(self) -> None:
        if self.hop_length < 1 or self.n_fft % self.hop_length or self.n_fft % 2:
            raise ValueError(
                f"hop_length must divide n_fft, an even number, not {self.hop_length}, {self.n_fft}"
            )
        if self.window not in WINDOWS:
            raise ValueError(f"window must be one of {', '.join(WINDOWS)}, not {self.window}")

    @property
    def bins(self) -> int:
        """Number of bins of a frame."""
        return 1 + self.n_fft // 2

    def frames(self, samples: int) -> int:
        """Return how many frames a wave of so many samples has."""
        if self.padding == "reflect":
            return 1 + samples // self.hop_length
        return -(-samples // self.hop_length) + 2

    def samples(self, frames: int) -> int:
        """Return the length of the longest wave that has so many frames."""
        if self.padding == "reflect":
            return frames * self.hop_length - 1
        return (frames - 2) * self.hop_length

    @partial(jax.jit, static_argnums=0)
    def transform(self, waves: jax.Array) -> jax.Array:
        """Transform waves `[..., samples]` to complex spectra `[..., frame, bin]`.

        Reflection needs more than n_fft / 2 samples; a shorter wave is padded with zeros first.
        """
        half, samples = self.n_fft // 2, waves.shape[-1]
        if self.padding == "reflect":
            waves = _pad(waves, 0, max(0, half + 1 - samples))
            ends = [(0, 0)] * (waves.ndim - 1) + [(half, half)]
            waves = jnp.pad(waves, ends, mode="reflect")
            waves = waves[..., : samples + 2 * half]
        else:
            past = (self.frames(samples) - 1) * self.hop_length + half - samples
            waves = _pad(waves, half, past)
        out = stft(waves, self.n_fft, self.hop_length, center=False, window=self.window)
        return out / self._scale

    @partial(jax.jit, static_argnums=0)
    def magnitudes(self, waves: jax.Array) -> jax.Array:
        """Return the magnitudes `[..., frame, bin]` of waves `[..., samples]`."""
        return jnp.abs(self.transform(waves))

    @partial(jax.jit, static_argnums=(0, 2))
    def waves(self, spectra: jax.Array, samples: int) -> jax.Array:
        """Return the waves `[..., samples]` nearest to complex spectra `[..., frame, bin]`."""
        wave = synthesis(spectra * self._scale, self.hop_length, window=self.window)
        wave = wave[..., self.n_fft // 2 :][..., :samples]
        return _pad(wave, 0, samples - wave.shape[-1])

    @property
    def _scale(self) -> float:
        return self.n_fft**0.5 if self.unitary else 1.0


def _pad(waves: jax.Array, before: int, after: int) -> jax.Array:
    return jnp.pad(waves, [(0, 0)] * (waves.ndim - 1) + [(before, after)])
