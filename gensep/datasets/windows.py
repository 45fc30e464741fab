"""Random windows of a data set of spectrograms."""

import itertools
import os
import shutil
import tempfile
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from gensep.datasets.spectrograms import METADATA, RECORD_FRAMES, SILENCE, read_metadata
from gensep.runtime.errors import UserError


def open_windows(
    folder: str | os.PathLike,
    split: str,
    frames: int,
    *,
    representation: Any = None,
    training: bool = True,
) -> "Windows":
    """Open a split for windows of `frames` frames; checked against `representation` if given.

    Refuses "test" unless `training` is False: nothing may be fitted or chosen on it.
    """
    metadata = read_metadata(folder)
    there = [name for name, tracks in metadata["splits"].items() if tracks]
    if split == "test" and training:
        raise UserError("training may not open the split 'test'; use 'train' or 'valid'")
    if split not in there:
        raise UserError(f"{folder} has no split '{split}'; it has {', '.join(there) or 'none'}")
    if frames < 1:
        raise UserError(f"windows must have at least 1 frame, not {frames}")
    for name, stored in metadata["representation"].items():
        wanted = getattr(representation, name, stored)
        if wanted != stored:
            raise UserError(
                f"{folder} has {name} = {stored}, the model wants {wanted}; change the "
                f"model's or run wav_to_spec again with --{name} {wanted}"
            )
    records = tfds.builder_from_directory(str(folder)).as_data_source(split=split)
    return Windows(records, metadata["splits"][split], frames, metadata["representation"])


class Windows:
    """Random windows of one split; its records are decoded on first use and kept as int16."""

    def __init__(
        self, records: Any, tracks: dict[str, int], frames: int, representation: dict[str, Any]
    ):
        """Take random-access `records` and the frames of the tracks they make up."""
        self.frames, self.representation = frames, representation
        self.tracks = tuple(tracks)
        self._records = records
        lengths = np.array(list(tracks.values()))
        self._first = np.r_[0, np.cumsum(lengths)]  # first frame of each track in the store
        self._record_first = np.concatenate(
            [np.arange(a, b, RECORD_FRAMES) for a, b in itertools.pairwise(self._first)]
        )
        if len(self._record_first) != len(records):
            raise UserError(
                f"the data set has {len(records)} records, its {METADATA} tells of "
                f"{len(self._record_first)}; run wav_to_spec again with --force"
            )
        # every start whose window lies inside its track, and one for a track that is too short
        self._last_start = np.cumsum(np.maximum(lengths - frames + 1, 1))
        self._decoded = np.zeros(len(records), bool)
        self._store = _store((int(self._first[-1]), representation["n_mels"]))

    def __len__(self) -> int:
        """Count the different windows."""
        return int(self._last_start[-1])

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Draw windows, int16 `[size, frames, n_mels]`: a pure function of its arguments.

        Starts are uniform over the windows that lie inside a track; a shorter track is padded
        by -120 dB.
        """
        return self.at(np.random.default_rng((seed, step)).integers(len(self), size=size))

    def at(self, number: np.ndarray) -> np.ndarray:
        """Get the windows with these numbers, 0 <= number < len(self)."""
        track = np.searchsorted(self._last_start, number, side="right")
        before = np.r_[0, self._last_start][track]
        start = self._first[track] + number - before
        length = np.minimum(self.frames, self._first[track + 1] - start)
        self._decode(start, start + length - 1)
        index = start[:, None] + np.arange(self.frames)
        windows = self._store[np.minimum(index, len(self._store) - 1)]
        for i in np.flatnonzero(length < self.frames):
            windows[i, length[i] :] = SILENCE
        return windows

    def _decode(self, first: np.ndarray, last: np.ndarray) -> None:
        """Fill the store with the records that hold the frames first..last (arrays)."""
        if self._decoded.all():
            return
        begin = np.searchsorted(self._record_first, first, side="right") - 1
        end = np.searchsorted(self._record_first, last, side="right") - 1
        wanted: set[int] = set()
        for a, b in zip(begin, end, strict=True):
            wanted.update(range(a, b + 1))
        # two threads may decode the same record: they write the same numbers
        for record in (r for r in wanted if not self._decoded[r]):
            stretch = self._records[record]["power_db"]
            start = self._record_first[record]
            self._store[start : start + len(stretch)] = stretch
            self._decoded[record] = True


def _store(shape: tuple[int, int]) -> np.ndarray:
    """Make room for a split: in memory, or in an unnamed file where memory is too small."""
    size = 2 * shape[0] * shape[1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size <= memory // 2:
        return np.empty(shape, np.int16)
    if size > shutil.disk_usage(tempfile.gettempdir()).free:
        raise UserError(
            f"the split takes {size / 1e9:.1f} GB; this machine has {memory / 1e9:.1f} "
            f"GB of memory and less free in {tempfile.gettempdir()}; set TMPDIR"
        )
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.int16, "w+", shape=shape)
