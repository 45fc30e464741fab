"""Segments of features that are too large for memory; `FeatureExamples` is a `MixtureExamples`."""

import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gensep.mixtures.options import Reading
from gensep.mixtures.segments import Segments, Span, cached_plan
from gensep.mixtures.wave_examples import room_for
from gensep.representation.magnitude import Spectra
from gensep.runtime.errors import UserError

PIECE = 1024  # frames of a song that are read at once


class FeatureSong(Protocol):
    """Magnitudes of a song on disk."""

    @property
    def name(self) -> str:
        """Its name, for messages."""

    @property
    def split(self) -> str:
        """The split that it lies in; empty if there are none."""

    @property
    def frames(self) -> int:
        """Its length."""

    def read(self, first: int, stop: int) -> np.ndarray:
        """Read some frames, float32 `[frame, row, channel, bin]`.

        The first row is the mixture, or, filtered by scores, the first ones; then come sources.
        """


class FeatureExamples:
    """Random segments of features; satisfies the protocol `MixtureExamples`."""

    def __init__(
        self,
        spectra: Spectra,
        sources: tuple[str, ...],
        rows: Sequence[int],
        train: Sequence[FeatureSong],
        valid: Sequence[FeatureSong],
        c: Reading,
        frames: int,
        planes: int = 1,
    ) -> None:
        """Set the songs, the rows of theirs that are used, and the frames of a segment.

        The first `planes` rows are the mixture, several if it is filtered by scores.
        """
        self.spectra, self.sources, self.rows = spectra, sources, list(rows)
        self.train, self.valid, self.mix, self.planes = train, valid, c.mix_features, planes
        padded = c.tail == "pad"
        lengths = [song.frames for song in train]
        self.segments = Segments(lengths, frames, c.overlap, padded=padded)
        # two threads may make batches of successive blocks at the same time
        self._frames = c.memory * 500_000 // (4 * len(rows) * spectra.channels * spectra.bins)
        self._blocks: dict[int, dict[int, tuple[int, np.ndarray]]] = {}
        self._lock = threading.Lock()

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Return segments, float32 `[size, plane + source, channel, frame, bin]`."""
        plan = cached_plan(self.segments, size, self._frames)
        block, numbers = plan.at(seed, step)
        held, batch = self._block(block, *plan.blocks[block : block + 2]), []
        for number in numbers:
            song, start = self.segments.of(number)
            first, frames = held[song]
            batch.append(frames[start - first : start - first + self.segments.context])
        return np.ascontiguousarray(np.moveaxis(np.stack(batch), 1, 3))

    def _block(self, block: int, first: int, stop: int) -> dict[int, tuple[int, np.ndarray]]:
        """Return the frames of a block: by song the first one, and all of them."""
        with self._lock:
            if block not in self._blocks:
                while len(self._blocks) > 1:
                    del self._blocks[next(iter(self._blocks))]
                spans = self.segments.spans(int(first), int(stop))
                self._blocks[block] = {s.song: (s.first, self._read(s)) for s in spans}
            return self._blocks[block]

    def _read(self, span: Span) -> np.ndarray:
        """Read frames of a training song, zeros behind its end."""
        song = self.train[span.song]
        shape = (span.stop - span.first, len(self.rows), self.spectra.channels, self.spectra.bins)
        frames = np.zeros(shape, np.float32)
        for at in range(span.first, min(span.stop, song.frames), PIECE):
            piece = self._piece(song, at, min(at + PIECE, span.stop, song.frames))
            frames[at - span.first :][: len(piece)] = piece
        return frames

    def _piece(self, song: FeatureSong, first: int, stop: int) -> np.ndarray:
        frames = song.read(first, stop)[:, self.rows]
        bad = ~np.isfinite(frames).all(axis=(1, 2, 3))
        if bad.any():
            place = first + int(bad.argmax())
            raise UserError(f"{song.name} holds NaN or Inf in frame {place}; make it again")
        return frames

    def inputs(self, key: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return mixture and sources; perhaps of some examples with sources of others."""
        mixture, sources = raw[:, : self.planes], raw[:, self.planes :]
        mixture = mixture.reshape(len(raw), -1, *raw.shape[-2:])
        if self.mix:
            on, order = jax.random.split(key)
            chosen = jax.random.bernoulli(on, self.mix, (len(raw), 1, 1, 1))
            keys = jax.random.split(order, sources.shape[1])
            others = jax.vmap(jax.random.permutation, (0, 1), 1)(keys, sources)
            sources = jnp.where(chosen[:, None], others, sources)
            mixture = jnp.where(chosen, sources.sum(axis=1), mixture)
        return mixture, sources

    def held_out(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield whole validation songs, `[1, channel, frame, bin]` and their sources."""
        for song in self.valid:
            shape = (len(self.rows), self.spectra.channels, song.frames, self.spectra.bins)
            whole = room_for(shape)
            for at in range(0, song.frames, PIECE):
                piece = self._piece(song, at, min(at + PIECE, song.frames))
                whole[:, :, at : at + len(piece)] = np.moveaxis(piece, 0, 2)
            mixture = whole[: self.planes].reshape(1, -1, *whole.shape[-2:])
            yield mixture, whole[None, self.planes :]
