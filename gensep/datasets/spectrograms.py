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
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from gensep.runtime.errors import UserError

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


def _counted(tracks: Tracks, split: str, lengths: dict[str, int]) -> Tracks:
    """Pass tracks on, noting the frames of each; refuse a split without a track."""
    for track, stored in tracks:
        lengths[track] = len(stored)
        yield track, stored
    if not lengths:
        raise UserError(f"the split '{split}' has no readable audio; add some or remove its folder")
