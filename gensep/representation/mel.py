"""Mel spectrograms in decibels above a soft floor: encoding, decoding and the mixing law.

A wave at the reference level becomes the mel power `P[frame, mel]` and then model units

    x = (10 log10(P + floor) - center_db) / span_db,    floor = 10^(floor_db / 10).

Mixtures of K sources are encoded with the floor `K floor`. Powers add (up to cross terms), so in
model units

    f(x) = 1/beta log sum_k exp(beta x_k + ln(10)/10 G_k),    beta = span_db ln(10) / 10,

holds in bins at the floor too: nothing is clipped and no bin is left out. Encoding, decoding and
the law are one object because the law is right in these units only.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from basis.mixing import Decibel
from gensep.representation.stft import mel_filterbank, stft


@dataclass(frozen=True)
class Representation:
    """Mel decibels of waves at `level_db` (dBFS RMS of the mixture); hashable, so static to jit.

    Satisfies `gensep.representation.form.Form`.

    Raises:
        ValueError: if hop_length does not divide n_fft, or fmin and fmax are not in order.
    """

    sample_rate: int = 16000
    n_fft: int = 2048
    hop_length: int = 512
    n_mels: int = 96
    fmin: float = 30.0
    fmax: float = 8000.0
    floor_db: float = -20.0
    center_db: float = 5.0
    span_db: float = 25.0
    level_db: float = -23.0

    key: ClassVar[str] = "representation"
    name: ClassVar[str] = "mel"
    picture: ClassVar[str] = "spectrograms"
    unit: ClassVar[str] = "nats/dim in dB"  # a density of decibels
    audible: ClassVar[bool] = True
    discrete: ClassVar[bool] = False
    rescale: ClassVar[bool] = False
    channels: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.n_fft % self.hop_length:
            raise ValueError(f"hop_length must divide n_fft = {self.n_fft}, not {self.hop_length}")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            got = f"not {self.fmin}, {self.fmax}, {self.sample_rate}"
            raise ValueError(f"expected 0 <= fmin < fmax <= sample_rate / 2, {got}")

    @property
    def features(self) -> int:
        """Size of the last axis: the mel bands."""
        return self.n_mels

    def shape(self, frames: int) -> tuple[int, int]:
        """Return the shape of a window of `frames` frames."""
        return frames, self.n_mels

    def describe(self) -> str:
        """Return what the examples are, for messages."""
        return f"spectrograms of {self.n_mels} mel bands"

    def in_unit(self, nats: ArrayLike) -> np.ndarray:
        """Convert nats per dimension in model units to those of decibels."""
        return np.asarray(nats) + np.log(self.span_db)

    def describe_noise(self, sigma: float) -> str:
        """Return a noise level in decibels."""
        return f"{sigma * self.span_db:.2f} dB"

    @property
    def beta(self) -> float:
        """Inverse temperature of the mixing law, per model unit."""
        return self.span_db * float(np.log(10)) / 10

    @property
    def floor(self) -> float:
        """Power that is added to every bin of every source."""
        return 10.0 ** (self.floor_db / 10)

    def filterbank(self, rate: int, n_fft: int) -> np.ndarray:
        """Return the mel triangles in the bins of a transform, float32 `[mel, 1 + n_fft // 2]`."""
        return mel_filterbank(rate, n_fft, self.n_mels, self.fmin, self.fmax)

    @partial(jax.jit, static_argnums=0, static_argnames="center")
    def mel_power(self, audio: jax.Array, *, center: bool = True) -> jax.Array:
        """Convert audio `[..., samples]` to mel power `[..., frames, n_mels]`."""
        spectrum = stft(audio, self.n_fft, self.hop_length, center=center)
        power = spectrum.real**2 + spectrum.imag**2
        bank = self.filterbank(self.sample_rate, self.n_fft)
        return jnp.matmul(power, bank.T, precision="highest")

    def encode(self, power: ArrayLike, n_sources: int = 1) -> jax.Array:
        """Convert the mel power of a sum of `n_sources` sources to model units, same shape."""
        level = 10 * jnp.log10(power + n_sources * self.floor)
        return (level - self.center_db) / self.span_db

    def decode(self, x: ArrayLike) -> jax.Array:
        """Convert model units of one source to mel power, >= 0, same shape."""
        level = self.span_db * x + self.center_db
        return jnp.maximum(10 ** (level / 10) - self.floor, 0)

    def mixing(self, gains_db: jax.Array) -> Decibel:
        """Return the mixing law for sources amplified by `gains_db: [source]` decibels."""
        return Decibel(beta=jnp.asarray(self.beta), gains=jnp.log(10.0) / 10 * gains_db)

    def masks(self, sources: jax.Array) -> jax.Array:
        """Return the power ratios of sources in model units `[source, ...]`, same shape, sum 1."""
        return jax.nn.softmax(self.beta * sources, axis=0)

    def spread(self, rate: int, n_fft: int) -> np.ndarray:
        """Return the map from mel masks to STFT masks at any rate, `[mel, bin]`, columns sum to 1.

        It is the filterbank, normalised per bin; a bin outside all bands copies the nearest one.
        """
        bank = self.filterbank(rate, n_fft).astype(np.float64)
        total = bank.sum(0)
        covered = np.flatnonzero(total > 1e-6)
        spread = bank[:, covered] / total[covered]
        nearest = np.abs(np.arange(len(total))[:, None] - covered).argmin(1)
        return spread[:, nearest].astype(np.float32)
