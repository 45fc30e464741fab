"""Waves kept in a temporary file and cut like an array, so that memory ignores their length."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from copy import copy

import numpy as np


class _Nameless:
    """The descriptor of a temporary file, closed with the last spool that reads it."""

    def __init__(self):
        with tempfile.TemporaryFile() as file:
            self.number = os.dup(file.fileno())

    def __del__(self):
        os.close(self.number)


class Spool:
    """Float32 `[source, channel, samples]` on disk; what was not written reads as zeros.

    `spool[..., a:b]` gives an array. Reading is safe from several threads; the file has no name
    and goes with its last spool.
    """

    ndim = 3

    def __init__(self, sources: int, channels: int, samples: int):
        self.shape = (sources, channels, samples)
        self._file = _Nameless()
        self._bytes = 4 * channels
        self._order = list(range(sources))
        os.truncate(self._file.number, sources * samples * self._bytes)
        self._written = [0] * sources

    def write(self, source: int, blocks: Iterable[np.ndarray]) -> int:
        """Append blocks `[channels, n]` to a source, cut to the length; give the samples so far."""
        samples = self.shape[2]
        for block in blocks:
            at, keep = self._written[source], block[:, : max(0, samples - self._written[source])]
            data = np.ascontiguousarray(keep.T, np.float32).tobytes()
            os.pwrite(self._file.number, data, (source * samples + at) * self._bytes)
            self._written[source] += block.shape[1]
        return self._written[source]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: tuple) -> np.ndarray:
        start, stop, _ = index[-1].indices(self.shape[2])
        return np.stack([self._read(source, start, stop) for source in self._order])

    def select(self, sources: Sequence[int]) -> "Spool":
        """Give these sources in this order, from the same file; one may come several times."""
        chosen = copy(self)
        chosen._order = [self._order[source] for source in sources]
        chosen.shape = (len(chosen._order), *self.shape[1:])
        return chosen

    def blocks(self, source: int, size: int = 1 << 18) -> Iterator[np.ndarray]:
        """Read one source in blocks `[channel, n]`."""
        for start in range(0, self.shape[2], size):
            yield self._read(self._order[source], start, min(start + size, self.shape[2]))

    def _read(self, source: int, start: int, stop: int) -> np.ndarray:
        place = (source * self.shape[2] + start) * self._bytes
        data = _pread(self._file.number, max(0, stop - start) * self._bytes, place)
        return np.frombuffer(data, np.float32).reshape(-1, self.shape[1]).T


Waves = np.ndarray | Spool  # what metrics take: `[source, channel, samples]`


def _pread(file: int, size: int, place: int) -> bytes:
    """Read `size` bytes; the system gives 2 GB at most at once."""
    parts = []
    while size and (part := os.pread(file, min(size, 1 << 30), place)):
        parts.append(part)
        size, place = size - len(part), place + len(part)
    return b"".join(parts)
