"""Data sets of mel spectrograms, written by tensorflow-datasets without TensorFlow.

A data set is one folder: ArrayRecord files, the metadata of tensorflow-datasets, and `gensep.json`.
A record holds at most 2048 successive frames of one track: mel power as int16 hundredths of a
decibel. Floor and scale are applied after reading, so that training can choose them.
"""

import contextlib
import io
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow_datasets as tfds

from gensep.cli.records import Json
from gensep.runtime.errors import UserError

if TYPE_CHECKING:
    from gensep.representation.mel import Representation

Tracks = Iterable[tuple[str, np.ndarray]]  # name of a track, int16 [frames, n_mels]
RECORD_FRAMES = 2048
SILENCE = -12000  # -120 dB in hundredths of a decibel
METADATA = "gensep.json"

# the fields of a representation that determine the mel power; the others apply after reading
POWER_FIELDS = ("sample_rate", "n_fft", "hop_length", "n_mels", "fmin", "fmax")


def to_int16(power: np.ndarray) -> np.ndarray:
    """Convert mel power to int16 hundredths of a decibel, clipped to [-120, 200] dB, same shape."""
    decibels = np.clip(10 * np.log10(np.maximum(power, 1e-12)), -120, 200)
    return np.rint(100 * decibels).astype(np.int16)


def to_power(stored: np.ndarray) -> np.ndarray:
    """Convert int16 hundredths of a decibel to float32 mel power, same shape."""
    return 10 ** (stored.astype(np.float32) / 1000)


class Spectrograms(tfds.core.GeneratorBasedBuilder):
    """Mel power in hundredths of a decibel, in records of successive frames of a track."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, splits: Mapping[str, Tracks], n_mels: int, data_dir: str) -> None:
        """Set the tracks of each split."""
        self._tracks, self._n_mels = splits, n_mels
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        level = tfds.features.Tensor(shape=(None, self._n_mels), dtype=np.int16, encoding="zlib")
        features = tfds.features.FeaturesDict({"power_db": level, "track": tfds.features.Text()})
        # Records stay in order, so that windows can span two of them.
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: object) -> "dict[str, Iterator[tuple[int, Json]]]":
        return {split: self._generate_examples(t) for split, t in self._tracks.items()}

    def _generate_examples(self, tracks: Tracks) -> Iterator[tuple[int, Json]]:
        key = itertools.count()
        for track, stored in tracks:
            for start in range(0, len(stored), RECORD_FRAMES):
                frames = np.ascontiguousarray(stored[start : start + RECORD_FRAMES])
                yield next(key), {"power_db": frames, "track": track}


def write_dataset(
    folder: str | os.PathLike,
    splits: Mapping[str, Tracks],
    representation: "Representation",
    describe: Callable[[], Json] = dict,
) -> None:
    """Write tracks by split as the data set `folder`, whole or not at all; replace an older one.

    `describe` returns further metadata; it is called after all tracks were read.

    Raises:
        UserError: if the folder holds something else, or a split has no track.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / METADATA).is_file() and any(folder.iterdir()):
        raise UserError(f"{folder} exists and is no data set; move it or choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    lengths: dict[str, dict[str, int]] = {split: {} for split in splits}
    counted = {split: _counted(tracks, split, lengths[split]) for split, tracks in splits.items()}
    fields = {name: getattr(representation, name) for name in POWER_FIELDS}
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        builder = Spectrograms(counted, fields["n_mels"], temporary)
        tfds.disable_progress_bar()  # the caller shows one
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
        made = Path(builder.data_dir)
        metadata = {"representation": fields, **describe(), "splits": lengths}
        (made / METADATA).write_text(json.dumps(metadata, indent=1) + "\n")
        if folder.exists():
            os.replace(folder, Path(temporary) / "old")
        os.replace(made, folder)


def read_metadata(folder: str | os.PathLike) -> Json:
    """Read gensep.json: representation, source, names and frames of the tracks of each split.

    Raises:
        UserError: if the folder is no data set.
    """
    try:
        return json.loads((Path(folder) / METADATA).read_text())
    except (OSError, ValueError):
        how = "make one with 'python -m gensep.wav_to_spec IN OUT' and name OUT/SOURCE"
        raise UserError(f"{folder} is no data set (no readable {METADATA}); {how}") from None


def _counted(tracks: Tracks, split: str, lengths: dict[str, int]) -> Tracks:
    """Yield the tracks and note the frames of each; refuse a split without a track."""
    for track, stored in tracks:
        lengths[track] = len(stored)
        yield track, stored
    if not lengths:
        raise UserError(f"the split '{split}' has no readable audio; add some or remove its folder")
