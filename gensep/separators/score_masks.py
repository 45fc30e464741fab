"""Harmonic masks from notes: where in the spectrogram a source can sound, by its score.

Score-informed separation gives a network the mixture filtered by the mask of every source instead
of the mixture itself (Miron, Janer, Gomez 2017, "Monaural score-informed source separation for
classical music using convolutional neural networks", ISMIR). Notes become rows

    begin, end, midi, s0, e0, s1, e1, ...

of whole numbers: the note sounds in the frames begin..end-1 and in the bins s0..e0-1, s1..e1-1, ...
of its partials. Unused places are 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gensep.rendering.notation import Note

FLOOR = 1e-18  # of a mask where its source has no partial
SHORTEST = 0.01  # seconds; shorter notes are left out
HEAD = 3  # columns of a row before its bins


@dataclass(frozen=True)
class NoteGrid:
    """How notes become frames and bins of a spectrogram.

    Notes are made longer, since scores and players disagree: they begin `onset` seconds early and
    end `offset` seconds late. A note that no other note follows within these times may ring on for
    `fermata` seconds, up to `onset` seconds before the next one. A partial covers `tolerance_cents`
    on both sides of its frequency.

    `compat` reproduces DeepConvSep, which divided the sample rate by the hop length as integers (86
    instead of 86.13 frames per second, 60 ms in 40 s) and left out the last partial.
    """

    sample_rate: int = 44_100
    hop_length: int = 512
    n_fft: int = 4096
    partials: int = 20
    tolerance_cents: float = 50.0
    onset: float = 0.2
    offset: float = 0.2
    fermata: float = 0.5
    compat: bool = False

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        if self.compat:
            return self.sample_rate // self.hop_length
        return self.sample_rate / self.hop_length

    @property
    def bins(self) -> int:
        """Bins of the spectrogram."""
        return self.n_fft // 2 + 1


def partial_bins(grid: NoteGrid, midi: float) -> list[tuple[int, int]]:
    """Return the ranges (first bin, last bin + 1) of the partials of a pitch, lowest first.

    The range of the k-th partial is floor(k f0 / c N / rate) + 1, ceil(k f0 c N / rate) + 1, where
    c is the tolerance as a ratio and N the length of the transform. Ranges that meet are one; a
    range that ends above the spectrum is left out.
    """
    ratio = 2 ** (grid.tolerance_cents / 1200)
    f0 = 440 * 2 ** ((midi - 69) / 12) * grid.n_fft / grid.sample_rate  # in bins
    merged: list[tuple[int, int]] = []
    for k in range(1, grid.partials + (not grid.compat)):
        first, stop = math.floor(k * f0 / ratio) + 1, math.ceil(k * f0 * ratio) + 1
        if merged and first <= merged[-1][1]:
            first = merged.pop()[0]
        merged.append((first, stop))
    return [(first, stop) for first, stop in merged if stop <= grid.bins]


def note_rows(
    notes: Sequence[Note],
    grid: NoteGrid,
    frames: int,
    start: float = 0.0,
    stop: float = math.inf,
) -> np.ndarray:
    """Return the rows `[note, 3 + 2 partials]` of the notes between `start` and `stop` seconds.

    Notes are clipped to this window, whose first frame is number 0 of `frames`. Notes that are
    shorter than 10 ms then, or begin after the last frame, are left out. Notes of unknown pitch
    have no row, but the note before them ends where it would.
    """
    window = stop - start
    clipped = [(max(n.on - start, 0.0), min(n.off - start, window), n.pitch) for n in notes]
    last = frames * grid.hop_length / grid.sample_rate
    heard = [n for n in clipped if n[1] - n[0] >= SHORTEST and n[0] < last]
    most = min(frames, int(window * grid.frame_rate)) if window < math.inf else frames
    onsets = [on for on, _, _ in heard]
    rows = []
    for on, off, pitch in heard:
        if math.isnan(pitch):
            continue
        row = np.zeros(HEAD + 2 * grid.partials, np.int64)
        begin = int(on * grid.frame_rate) - round(grid.onset * grid.frame_rate)
        row[:HEAD] = max(begin, 0), min(_end(grid, on, off, onsets), most), round(pitch)
        flat = [bin for range_ in partial_bins(grid, pitch) for bin in range_]
        row[HEAD : HEAD + len(flat)] = flat
        rows.append(row)
    return np.array(rows).reshape(len(rows), HEAD + 2 * grid.partials)


def _end(grid: NoteGrid, on: float, off: float, onsets: Sequence[float]) -> int:
    """Return the frame at which a note ends, among the onsets of all notes (all in seconds)."""
    later = [x - grid.onset for x in onsets if x > on]
    if any(x <= off + grid.offset for x in later):
        return int(off * grid.frame_rate) + round(grid.offset * grid.frame_rate)
    ring = off + max(grid.offset, grid.fermata)
    return int(min([ring, *(max(x, 0.0) for x in later)]) * grid.frame_rate)


def harmonic_masks(
    rows: Sequence[np.ndarray],
    grid: NoteGrid,
    frames: int,
    first: int = 0,
    normalise: Literal["sources", "maximum"] = "sources",
    timbre: np.ndarray | None = None,
) -> np.ndarray:
    """Return the masks of a segment of a score: float32 `[source, frame, bin]`.

    Every source has 1 in the bins of its notes and 1e-18 elsewhere. Then each bin is divided by
    its sum over the sources ("sources", Mask2 of DeepConvSep, which its results used: where nobody
    plays, all sources have equal shares), or each source by its maximum in the segment ("maximum",
    Mask1: a source that is silent there is 1 everywhere).

    Args:
        rows: of every source, from `note_rows`.
        grid: what the rows were made with.
        frames: of the segment.
        first: the segment's first frame.
        normalise: "sources" or "maximum".
        timbre: strength `[source, midi, partial]` of every range of partials, in the order of the
            row. It is added up over the notes that share a bin; without it a bin is just 1.

    Raises:
        ValueError: if `timbre` lacks a source, pitch or partial.
    """
    if timbre is not None and not (
        timbre.ndim == 3
        and timbre.shape[0] == len(rows)
        and timbre.shape[1] > max((int(r[:, 2].max(initial=0)) for r in rows), default=0)
        and timbre.shape[2] >= grid.partials - grid.compat
    ):
        need = f"[{len(rows)}, 128, {grid.partials}]"
        raise ValueError(f"timbre must be [source, midi, partial], {need}, not {timbre.shape}")
    masks = np.full((len(rows), frames, grid.bins), FLOOR, np.float32)
    for source, notes in enumerate(rows):
        for begin, end, midi, *flat in np.asarray(notes, np.int64).tolist():
            here = slice(max(begin - first, 0), max(end - first, 0))
            for k, (low, high) in enumerate(zip(flat[::2], flat[1::2], strict=True)):
                if not high:
                    break
                if timbre is None:
                    masks[source, here, low:high] = 1
                else:
                    masks[source, here, low:high] += timbre[source, midi, k]
    if normalise == "sources":
        return masks / masks.sum(axis=0)
    return masks / masks.max(axis=(1, 2), keepdims=True)


def piano_roll(rows: np.ndarray, frames: int, first: int = 0, pitches: int = 128) -> np.ndarray:
    """Return which pitches a source plays in a segment: float32 `[frame, pitch]` of 0 and 1."""
    roll = np.zeros((frames, pitches), np.float32)
    for begin, end, midi, *_ in np.asarray(rows, np.int64).tolist():
        if end:
            roll[max(begin - first, 0) : max(end - first, 0), midi] = 1
    return roll
