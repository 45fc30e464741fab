"""Random windows of a data set of spectrograms."""

import itertools
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Protocol

import numpy as np
import tensorflow_datasets as tfds

from gensep.cli.records import Json
from gensep.datasets.spectrograms import METADATA, RECORD_FRAMES, SILENCE, read_metadata
from gensep.runtime.errors import UserError

if TYPE_CHECKING:
    from gensep.representation.form import Form


class Records(Protocol):
    """Random access to the records of a split."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...


def open_windows(
    folder: str | os.PathLike,
    split: str,
    frames: int,
    *,
    representation: "Form | None" = None,
    training: bool = True,
) -> "Windows":
    """Open a split of a data set for windows of `frames` frames.

    The `representation` is that of the model which the windows are for; `training` says whether
    something is fitted to the windows or chosen by them.

    Raises:
        UserError: if there is no such split, the representation has other frames or bands, or the
            split is "test" in training.
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
            problem = f"{folder} has {name} = {stored}, the model wants {wanted}"
            remedy = f"change the model's or run wav_to_spec again with --{name} {wanted}"
            raise UserError(f"{problem}; {remedy}")
    records = tfds.builder_from_directory(str(folder)).as_data_source(split=split)
    return Windows(records, metadata["splits"][split], frames, metadata["representation"])


class Windows:
    """Random windows of one split; records are decoded on first use and kept as int16."""

    def __init__(
        self, records: Records, tracks: dict[str, int], frames: int, representation: Json
    ) -> None:
        """Set the records, and the number of frames of each track that they hold."""
        self.frames, self.representation = frames, representation
        self.tracks = tuple(tracks)
        self._records = records
        lengths = np.array(list(tracks.values()))
        self._first = np.r_[0, np.cumsum(lengths)]  # first frame of each track in the store
        starts = [np.arange(a, b, RECORD_FRAMES) for a, b in itertools.pairwise(self._first)]
        self._record_first = np.concatenate(starts)
        if len(self._record_first) != len(records):
            stated = f"its {METADATA} names {len(self._record_first)}"
            problem = f"the data set has {len(records)} records, {stated}"
            raise UserError(f"{problem}; run wav_to_spec again with --force")
        # every start whose window lies within its track; one for a track that is too short
        self._last_start = np.cumsum(np.maximum(lengths - frames + 1, 1))
        self._decoded = np.zeros(len(records), bool)
        self._store = _store((int(self._first[-1]), representation["n_mels"]))

    def __len__(self) -> int:
        """Return the number of different windows."""
        return int(self._last_start[-1])

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Return random windows, int16 `[size, frames, n_mels]`: a function of the arguments only.

        They are uniform over all windows within a track; a shorter track is padded with -120 dB.
        """
        return self.at(np.random.default_rng((seed, step)).integers(len(self), size=size))

    def at(self, number: np.ndarray) -> np.ndarray:
        """Return the windows of these numbers, 0 <= number < len(self)."""
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
        """Decode the records that hold the frames from `first` to `last`, `[window]`."""
        if self._decoded.all():
            return
        begin = np.searchsorted(self._record_first, first, side="right") - 1
        end = np.searchsorted(self._record_first, last, side="right")
        wanted = {record for span in map(range, begin, end) for record in span}
        # two threads may decode one record at once: they write the same numbers
        for record in (r for r in wanted if not self._decoded[r]):
            stored = self._records[record]["power_db"]
            start = self._record_first[record]
            self._store[start : start + len(stored)] = stored
            self._decoded[record] = True


def _store(shape: tuple[int, int]) -> np.ndarray:
    """Allocate a split in memory, or in an unnamed file where memory is too small."""
    size, place = 2 * shape[0] * shape[1], tempfile.gettempdir()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size <= memory // 2:
        return np.empty(shape, np.int16)
    if size > shutil.disk_usage(place).free:
        room = f"{memory / 1e9:.1f} GB of memory and less free space in {place}"
        raise UserError(f"the split takes {size / 1e9:.1f} GB; there are {room}; set TMPDIR")
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.int16, "w+", shape=shape)
