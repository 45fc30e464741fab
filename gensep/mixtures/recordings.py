"""Excerpts of recordings at the rate and with the channels that a transform wants."""

import math
from typing import NamedTuple, Protocol

import numpy as np
import soxr

from gensep.audio.excerpt import Excerpt
from gensep.audio.files import Shape

MARGIN_S = 0.05  # read before and after an excerpt that is resampled, so that filters have settled


class Target(NamedTuple):
    """What recordings are turned into."""

    rate: int  # Hz
    channels: int


class Sound(Protocol):
    """What excerpts are read from."""

    def samples(self, rate: int) -> int:
        """Return the length at a rate."""

    def grid(self, rate: int) -> int:
        """Return the distance, in samples at `rate`, of the places that can be read from."""

    def read(self, at: int, samples: int, target: Target) -> np.ndarray:
        """Read float32 `[target.channels, samples]` from sample `at` on, zeros behind the end."""


class Recording(NamedTuple):
    """A sound on disk whose header was read, so that excerpts of it cost no second look."""

    sound: Excerpt
    shape: Shape

    def samples(self, rate: int) -> int:
        """Return the length at another rate."""
        return self.shape.samples * rate // self.shape.rate

    def grid(self, rate: int) -> int:
        """Return the distance, in samples at `rate`, of places that are whole samples here too."""
        return rate // math.gcd(rate, self.shape.rate)

    def read(self, at: int, samples: int, target: Target) -> np.ndarray:
        """Read float32 `[target.channels, samples]` from sample `at` on, zeros behind the end.

        Both numbers count samples at the rate of the target; `at` is a multiple of `grid`.

        Raises:
            UserError: if the file cannot be read, or holds NaN or Inf.
        """
        rate = self.shape.rate
        first, before, stop = at * rate // target.rate, 0, (at + samples) * rate / target.rate
        if rate != target.rate:
            step = rate // math.gcd(rate, target.rate)
            before = min(first, math.ceil(MARGIN_S * rate / step) * step)
            stop += MARGIN_S * rate
        count = min(math.ceil(stop), self.shape.samples) - first + before
        if count <= before:
            return np.zeros((target.channels, samples), np.float32)
        wave = adapt(self.sound.span(self.shape, first - before, count), target.channels)
        if rate != target.rate:
            wave = soxr.resample(wave.T, rate, target.rate).T
            wave = wave[:, before * target.rate // rate :]
        wave = wave[:, :samples]
        return np.pad(wave, [(0, 0), (0, samples - wave.shape[1])])


class Summed(NamedTuple):
    """Recordings of one rate whose sum is the sound; the shorter ones end in silence."""

    parts: tuple[Recording, ...]

    @property
    def rate(self) -> int:
        """The rate of the files in Hz."""
        return self.parts[0].shape.rate

    def samples(self, rate: int) -> int:
        """Return the length of the longest one at a rate."""
        return max(part.samples(rate) for part in self.parts)

    def grid(self, rate: int) -> int:
        """Return the distance of the places that can be read from, as for each part."""
        return self.parts[0].grid(rate)

    def read(self, at: int, samples: int, target: Target) -> np.ndarray:
        """Read the sum, see `Recording.read`."""
        return np.sum([part.read(at, samples, target) for part in self.parts], axis=0)


class Silence(NamedTuple):
    """Silence of some length."""

    seconds: float

    def samples(self, rate: int) -> int:
        """Return the length at a rate, one sample at least."""
        return max(1, round(self.seconds * rate))

    def grid(self, rate: int) -> int:
        """Return 1: it can be read from anywhere."""
        return 1

    def read(self, at: int, samples: int, target: Target) -> np.ndarray:
        """Return zeros, float32 `[target.channels, samples]`."""
        return np.zeros((target.channels, samples), np.float32)


def open_recording(sound: Excerpt) -> Recording:
    """Read the header of a sound, or raise UserError if it cannot be read."""
    return Recording(sound, sound.shape())


def adapt(wave: np.ndarray, channels: int) -> np.ndarray:
    """Return a wave `[channel, samples]` with so many channels.

    One channel is the mean of all; several are copies of a single one, or else the first ones, with
    the last one repeated.
    """
    if len(wave) == channels:
        return wave
    if channels == 1:
        return wave.mean(axis=0, keepdims=True)
    return wave[np.minimum(np.arange(channels), len(wave) - 1)]
