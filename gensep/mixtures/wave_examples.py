"""Mixtures made of waves as training asks for them; `WaveExamples` is a `MixtureExamples`."""

import math
import tempfile
from collections.abc import Iterator
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gensep.mixtures.options import Excerpts
from gensep.mixtures.song_waves import Piece
from gensep.mixtures.vary import Variation, vary
from gensep.representation.blocks import spectrum_blocks
from gensep.representation.magnitude import Spectra

LARGE = 1 << 29  # bytes; magnitudes of a song that take more are kept in a temporary file


class Waves(Protocol):
    """Where excerpts come from."""

    samples: int  # of an excerpt

    def draw(self, rng: np.random.Generator, seed: int, number: int) -> np.ndarray:
        """Return excerpt `number` of a training, `[source, channel, samples]`."""

    def whole(self) -> Iterator[Piece]:
        """Return every song, not varied."""


class WaveExamples:
    """Random excerpts whose sum is the mixture; satisfies the protocol `MixtureExamples`."""

    def __init__(
        self,
        spectra: Spectra,
        sources: tuple[str, ...],
        train: Waves,
        valid: Waves,
        c: Excerpts,
        kept: slice = slice(None),
    ) -> None:
        """Set waves for training and validation, and which frames of an excerpt are used."""
        self.spectra, self.sources, self.train, self.valid = spectra, sources, train, valid
        self.kept, self.quietest, self.redraws = kept, c.quietest, c.redraws
        shift = round(c.shift * spectra.sample_rate)
        known = {name: getattr(c, name) for name in Variation._fields if name != "shift"}
        self.variation = Variation(**known, shift=shift)

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Return excerpts of the sources, float32 `[size, source, channel, samples]`."""
        return np.stack([self._draw(seed, step, i, step * size + i) for i in range(size)])

    def _draw(self, seed: int, step: int, row: int, number: int) -> np.ndarray:
        """Draw until the mixture is loud enough, or often enough."""
        rng = np.random.default_rng((seed, step, row))
        for _ in range(self.redraws):
            waves = self.train.draw(rng, seed, number)
            if np.mean(waves.sum(axis=0) ** 2) >= 10 ** (self.quietest / 10):
                return waves
        return self.train.draw(rng, seed, number)

    def inputs(self, key: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Vary the sources at random; return magnitudes of their sum and of themselves.

        They are `[batch, channel, frame, bin]` and `[batch, source, channel, frame, bin]`.
        """
        waves = vary(key, raw, self.variation)
        together = jnp.concatenate([waves.sum(axis=1, keepdims=True), waves], axis=1)
        magnitudes = self.spectra.magnitudes(together)[..., self.kept, :]
        return magnitudes[:, 0], magnitudes[:, 1:]

    def held_out(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield magnitudes of whole validation songs, `[1, channel, frame, bin]` and sources."""
        for piece in self.valid.whole():
            together = self._magnitudes(piece)
            yield together[:1], together[None, 1:]

    def _magnitudes(self, piece: Piece) -> np.ndarray:
        """Return the magnitudes `[1 + source, channel, frame, bin]` of a song."""
        shape = (1 + len(self.sources), self.spectra.channels)
        whole = room_for((*shape, self.spectra.frames(piece.samples), self.spectra.bins))
        at = 0
        for block in spectrum_blocks(self.spectra, piece.blocks):
            whole[..., at : at + block.shape[-2], :] = np.abs(block)
            at += block.shape[-2]
        return whole


def room_for(shape: tuple[int, ...]) -> np.ndarray:
    """Allocate a float32 array, in an unnamed file if it is large."""
    if 4 * math.prod(shape) <= LARGE:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)
