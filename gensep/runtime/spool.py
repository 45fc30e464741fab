"""Waves kept in a temporary file and sliced like an array: memory use is independent of length."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from types import EllipsisType

import numpy as np

BLOCK = 1 << 18  # samples


class _Nameless:
    """Descriptor of a temporary file, closed when the last spool that reads it is deleted."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            self.number = os.dup(file.fileno())

    def __del__(self) -> None:
        os.close(self.number)


class Spool:
    """Float32 `[source, channel, samples]` on disk; samples that were not written read as zeros.

    `spool[..., a:b]` is an array. Several threads may read at once. The file has no name and
    disappears with the last spool that reads it.
    """

    ndim = 3

    def __init__(self, sources: int, channels: int, samples: int) -> None:
        self.shape = (sources, channels, samples)
        self._file = _Nameless()
        self._width, self._bytes = channels, 4 * channels
        self._order = [(source, slice(None)) for source in range(sources)]  # and its channels
        os.truncate(self._file.number, sources * samples * self._bytes)
        self._written = [0] * sources

    def write(self, source: int, blocks: Iterable[np.ndarray]) -> int:
        """Append blocks `[channels, n]` to a source and return its samples so far.

        Samples beyond the length of the spool are counted but not kept.
        """
        samples = self.shape[2]
        for block in blocks:
            at, keep = self._written[source], block[:, : max(0, samples - self._written[source])]
            data = np.ascontiguousarray(keep.T, np.float32).tobytes()
            os.pwrite(self._file.number, data, (source * samples + at) * self._bytes)
            self._written[source] += block.shape[1]
        return self._written[source]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: tuple[EllipsisType, slice]) -> np.ndarray:
        start, stop, _ = index[-1].indices(self.shape[2])
        waves = np.stack([self._read(*row, start, stop) for row in self._order])
        return np.ascontiguousarray(waves)  # sums depend on the layout in their last digits

    def select(self, sources: Sequence[int]) -> "Spool":
        """Return these sources in this order, from the same file; repetitions are allowed."""
        chosen = copy(self)
        chosen._order = [self._order[source] for source in sources]
        chosen.shape = (len(chosen._order), *self.shape[1:])
        return chosen

    def by_channel(self) -> "Spool":
        """Return every channel of every source as a source of one channel, from the same file."""
        chosen = copy(self)
        channels = range(self._width)
        rows = ((source, c) for source, kept in self._order for c in channels[kept])
        chosen._order = [(source, slice(c, c + 1)) for source, c in rows]
        chosen.shape = (len(chosen._order), 1, self.shape[2])
        return chosen

    def blocks(self, source: int, size: int = BLOCK) -> Iterator[np.ndarray]:
        """Read one source in blocks `[channel, n]`, n <= size."""
        for start in range(0, self.shape[2], size):
            yield self._read(*self._order[source], start, min(start + size, self.shape[2]))

    def _read(self, source: int, channels: slice, start: int, stop: int) -> np.ndarray:
        place = (source * self.shape[2] + start) * self._bytes
        data = _pread(self._file.number, max(0, stop - start) * self._bytes, place)
        return np.frombuffer(data, np.float32).reshape(-1, self._width).T[channels]


Waves = np.ndarray | Spool  # `[source, channel, samples]`, in memory or on disk


def spooled(sources: Sequence[Iterable[np.ndarray]], channels: int, samples: int) -> Spool:
    """Write each source, blocks `[channels, n]`, to a new spool, cut or padded to `samples`."""
    spool = Spool(len(sources), channels, samples)
    for i, blocks in enumerate(sources):
        spool.write(i, blocks)
    return spool


def blocks_of(waves: Waves, source: int) -> Iterator[np.ndarray]:
    """Return one source of waves in blocks `[channel, n]`."""
    if isinstance(waves, Spool):
        return waves.blocks(source)
    starts = range(0, waves.shape[-1], BLOCK)
    return (waves[source, :, at : at + BLOCK] for at in starts)


def _pread(file: int, size: int, place: int) -> bytes:
    """Read `size` bytes in parts, since one system call returns at most 2 GB."""
    parts = []
    while size and (part := os.pread(file, min(size, 1 << 30), place)):
        parts.append(part)
        size, place = size - len(part), place + len(part)
    return b"".join(parts)
