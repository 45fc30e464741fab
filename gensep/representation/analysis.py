"""Mel power and loudness of waves of any length, block by block, for training and separation.

The frames are those of the centred transform of the whole file. Only the power is kept, 43 MB per
hour, so that the wave of a file need not fit in memory.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gensep.audio.excerpt import Excerpt
from gensep.representation.mel import Representation

CHUNK_FRAMES = 512
SHORT_FRAMES = 64  # for the last chunks of a file, so that jit compiles two lengths only
SILENT_DBFS = -80.0
RANGE_DB = 60.0  # blocks softer than the loudest by more than this count as silence


class Analysis(NamedTuple):
    """Mel power of a wave and its loudness."""

    power: np.ndarray  # float32 [frames, n_mels], frames = 1 + samples // hop_length
    level: float  # dBFS RMS over the sounding 100 ms blocks; -inf for silence
    samples: int

    def at_level(self, level: float) -> np.ndarray:
        """Return the power of the wave scaled to `level` dBFS; silence is left as it is."""
        if not np.isfinite(self.level):
            return self.power
        return self.power * np.float32(10 ** ((level - self.level) / 10))


def analyse(blocks: Iterable[np.ndarray], representation: Representation) -> Analysis:
    """Analyse a mono wave, given as blocks `[n]` at the sample rate of the representation."""
    hop, n_fft = representation.hop_length, representation.n_fft
    buffer = np.zeros(n_fft // 2, np.float32)  # the centred transform starts half a frame early
    samples, parts = 0, []
    loudness = _Loudness(max(1, representation.sample_rate // 10))
    reach = (CHUNK_FRAMES - 1) * hop + n_fft

    def power(piece: np.ndarray) -> np.ndarray:
        return np.asarray(representation.mel_power(piece, center=False))

    for block in blocks:
        samples += len(block)
        loudness.add(block)
        buffer = np.concatenate([buffer, block])
        while len(buffer) >= reach:
            parts.append(power(buffer[:reach]))
            buffer = buffer[CHUNK_FRAMES * hop :]
    frames = 1 + samples // hop
    left = frames - sum(len(part) for part in parts)
    while left > 0:
        count = CHUNK_FRAMES if left > CHUNK_FRAMES // 2 else SHORT_FRAMES
        piece = buffer[: (count - 1) * hop + n_fft]
        piece = np.pad(piece, (0, (count - 1) * hop + n_fft - len(piece)))
        parts.append(power(piece)[:left])
        buffer = buffer[count * hop :]
        left -= count
    return Analysis(np.concatenate(parts), loudness.level(), samples)


def analyse_excerpt(excerpt: Excerpt, representation: Representation) -> Analysis:
    """Analyse the mean of an excerpt's channels, resampled to the representation's sample rate."""
    return analyse(excerpt.mid(representation.sample_rate), representation)


class _Loudness:
    """Mean power of blocks of `size` samples of a wave that comes in pieces of any length."""

    def __init__(self, size: int) -> None:
        self.size, self.rest = size, np.zeros(0, np.float32)
        self.powers: list[np.ndarray] = []

    def add(self, block: np.ndarray) -> None:
        joined = np.concatenate([self.rest, block])
        whole = len(joined) // self.size * self.size
        rows = joined[:whole].reshape(-1, self.size)
        self.powers.append(np.einsum("ij,ij->i", rows, rows, dtype=np.float64) / self.size)
        self.rest = joined[whole:]

    def level(self) -> float:
        """Return the level of the sounding blocks in dBFS RMS; -inf for silence."""
        powers = np.concatenate(self.powers) if self.powers else np.zeros(0)
        if not len(powers) and len(self.rest):
            powers = np.array([np.mean(self.rest.astype(np.float64) ** 2)])
        if not len(powers) or np.max(powers) < 10 ** (SILENT_DBFS / 10):
            return -np.inf
        sounding = powers[powers > np.max(powers) * 10 ** (-RANGE_DB / 10)]
        return float(10 * np.log10(sounding.mean()))
