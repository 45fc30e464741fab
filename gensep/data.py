"""Data sets of mel spectrograms: written and read by tensorflow-datasets without TensorFlow.

A data set is one folder: ArrayRecord files, what tensorflow-datasets keeps beside them, and
`gensep.json`. A record is a stretch of at most 2048 frames of one track, stored as int16 in
hundredths of a decibel of mel power, so that training may choose floor and scale later.
"""

import contextlib
import io
import itertools
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow_datasets as tfds

from gensep.errors import UserError

T = TypeVar("T")
Tracks = Iterable[tuple[str, np.ndarray]]

RECORD_FRAMES = 2048
SILENCE = -12000  # -120 dB
METADATA = "gensep.json"
# the fields that decide the mel power; floor, centre and scale are applied after reading
POWER_FIELDS = ("sample_rate", "n_fft", "hop_length", "n_mels", "fmin", "fmax")


def to_db(power: np.ndarray) -> np.ndarray:
    """Turn mel power into 10 log10 decibels, clipped to [-120, 200], same shape."""
    return np.clip(10 * np.log10(np.maximum(power, 1e-12)), -120, 200)


def to_int16(power: np.ndarray) -> np.ndarray:
    """Turn mel power into int16 hundredths of a decibel, same shape."""
    return np.rint(100 * to_db(power)).astype(np.int16)


def to_power(stored: np.ndarray) -> np.ndarray:
    """Turn int16 hundredths of a decibel into float32 mel power, same shape."""
    return 10 ** (stored.astype(np.float32) / 1000)


class Spectrograms(tfds.core.GeneratorBasedBuilder):
    """Mel power in decibels, one record a stretch of a track."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, splits: Mapping[str, Tracks], n_mels: int, data_dir: str):
        """Take for each split its (track, int16 `[frames, n_mels]`) pairs."""
        self._tracks, self._n_mels = splits, n_mels
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        level = tfds.features.Tensor(shape=(None, self._n_mels), dtype=np.int16, encoding="zlib")
        features = {"power_db": level, "track": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # records stay in track order, so windows can span two
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(t) for split, t in self._tracks.items()}

    def _generate_examples(self, tracks: Tracks):
        key = itertools.count()
        for track, stored in tracks:
            for start in range(0, len(stored), RECORD_FRAMES):
                stretch = np.ascontiguousarray(stored[start : start + RECORD_FRAMES])
                yield next(key), {"power_db": stretch, "track": track}


def write_dataset(
    folder: str | os.PathLike,
    splits: Mapping[str, Tracks],
    representation: Any,
    describe: Callable[[], Mapping[str, Any]] = dict,
) -> None:
    """Write (track, int16 `[frames, n_mels]`) pairs as the data set `folder`, all or nothing.

    `describe` is asked for further metadata once all is written. Replaces an older data set.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / METADATA).is_file() and any(folder.iterdir()):
        raise UserError(f"{folder} exists and is no data set; move it or choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    lengths: dict[str, dict] = {split: {} for split in splits}
    counted = {split: _counted(tracks, split, lengths[split]) for split, tracks in splits.items()}
    fields = {name: getattr(representation, name) for name in POWER_FIELDS}
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        builder = Spectrograms(counted, fields["n_mels"], temporary)
        tfds.disable_progress_bar()  # the caller shows one with the time left
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
        made = Path(builder.data_dir)
        metadata = {"representation": fields, **describe(), "splits": lengths}
        (made / METADATA).write_text(json.dumps(metadata, indent=1) + "\n")
        if folder.exists():
            os.replace(folder, Path(temporary) / "old")
        os.replace(made, folder)


def read_metadata(folder: str | os.PathLike) -> dict[str, Any]:
    """Read what `write_dataset` noted: representation, tracks and frames of each split, source."""
    try:
        return json.loads((Path(folder) / METADATA).read_text())
    except (OSError, ValueError):
        raise UserError(
            f"{folder} is no data set (it has no readable {METADATA}); make one with "
            "'python -m gensep.wav_to_spec IN OUT' and name OUT/SOURCE"
        ) from None


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


def prefetch(
    make_batch: Callable[[int], T], start: int, stop: int, depth: int = 4, threads: int = 2
) -> Iterator[T]:
    """Yield make_batch(start), ..., make_batch(stop - 1) in order, computed ahead in threads."""
    waiting: deque = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for step in range(start, stop):
                waiting.append(pool.submit(make_batch, step))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for batch in waiting:
                batch.cancel()


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


def _counted(tracks: Tracks, split: str, lengths: dict[str, int]) -> Tracks:
    """Pass tracks on, noting the frames of each; refuse a split without a track."""
    for track, stored in tracks:
        lengths[track] = len(stored)
        yield track, stored
    if not lengths:
        raise UserError(f"the split '{split}' has no readable audio; add some or remove its folder")
