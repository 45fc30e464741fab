"""Features of songs on disk: an ArrayRecord data set of tensorflow-datasets for every song.

A folder of features holds features.json, which says what they are, and songs/NAME/. A record is at
most RECORD_FRAMES successive frames, float32:

    magnitude   [frame, 1 + source, channel, bin], the mixture first
    phase       [frame, channel, bin], the mixture's in radians, if it was asked for
    roll        [frame, source, pitch], 1 where a source plays a pitch, if there are scores

A song appears whole or not at all; song.json in its folder says of what and how it was made.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gensep.cli.records import Json, __version__
from gensep.representation.magnitude import Spectra
from gensep.runtime.errors import UserError
from gensep.runtime.files import write_atomically

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

METADATA, SONG = "features.json", "song.json"
RECORD_FRAMES = 64
OPTIONS = {"phase": "--phase", "roll": "--scores auto"}  # with which features are made
SPLIT = "song"  # the only split of the data set of a song


class StoredSong(NamedTuple):
    """Features of one song."""

    name: str
    split: str
    frames: int
    folder: Path

    def read(self, first: int, stop: int) -> np.ndarray:
        """Read magnitudes of some frames, float32 `[frame, 1 + source, channel, bin]`."""
        return self.field("magnitude", first, stop)

    def field(self, name: str, first: int, stop: int) -> np.ndarray:
        """Read some frames of a feature.

        Raises:
            UserError: if the song has no such feature, or its files are damaged.
        """
        import tensorflow_datasets as tfds

        try:
            records = tfds.builder_from_directory(str(self.folder)).as_data_source(split=SPLIT)
            parts = [
                records[i][name] for i in range(first // RECORD_FRAMES, -(-stop // RECORD_FRAMES))
            ]
        except KeyError:
            problem = f"the features of {self.name} have no {name}"
            raise UserError(f"{problem}; run make_features again with {OPTIONS[name]}") from None
        except (OSError, ValueError, IndexError, RuntimeError) as error:
            problem = f"{self.folder} is damaged ({str(error).splitlines()[0]})"
            raise UserError(f"{problem}; delete it and run make_features again") from None
        skipped = first // RECORD_FRAMES * RECORD_FRAMES
        return np.concatenate(parts)[first - skipped : stop - skipped]


def has_features(folder: Path) -> bool:
    """Tell whether a folder holds features."""
    return (folder / METADATA).is_file()


def open_features(
    folders: Sequence[str], spectra: Spectra, names: Sequence[str] = ()
) -> tuple[list[StoredSong], tuple[str, ...]]:
    """Open folders of features; return songs and the names of their sources.

    Raises:
        UserError: if a folder holds no features or is not complete, or the features are of other
            sources or of another transform than `spectra`.
    """
    songs: list[StoredSong] = []
    sources: tuple[str, ...] = ()
    for folder in map(Path, folders):
        about = read_features(folder)
        _check_transform(folder, about["spectra"], spectra)
        there = tuple(about["sources"])
        if there != (sources or there) or (names and set(names) != set(there)):
            wanted = ", ".join(names or sources)
            problem = f"{folder} has the sources {', '.join(there)}, not {wanted}"
            raise UserError(f"{problem}; run make_features again with --stems")
        sources = there
        for song in about["songs"]:
            place = folder / "songs" / song["folder"]
            songs.append(StoredSong(song["name"], song["split"], song["frames"], place))
    return songs, sources


def read_features(folder: Path) -> Json:
    """Read features.json: spectra, sources, names and frames of the songs, `compat` of scores.

    Raises:
        UserError: if there is none, or it was written by a run that did not end.
    """
    try:
        about = json.loads((folder / METADATA).read_text())
    except (OSError, ValueError):
        how = "make them with 'python -m gensep.make_features SONGS OUT'"
        raise UserError(f"{folder} holds no features (no readable {METADATA}); {how}") from None
    if not about["complete"]:
        raise UserError(f"{folder} is not complete; the same make_features goes on with it")
    return about


def _check_transform(folder: Path, stored: Mapping[str, object], wanted: Spectra) -> None:
    for name, value in asdict(wanted).items():
        if stored.get(name) != value:
            problem = f"{folder} has {name} = {stored.get(name)}, the network wants {value}"
            raise UserError(f"{problem}; run make_features with --{name} {value}")


def write_song(
    folder: Path,
    blocks: Iterable[dict[str, np.ndarray]],
    about: Json,
) -> None:
    """Write features of a song, whole or not at all; replace older ones.

    Args:
        folder: of the song; its parent exists.
        blocks: features by name, `[frame, ...]`, each of RECORD_FRAMES frames but the last one.
        about: what song.json says besides the number of frames.

    Raises:
        UserError: if the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder.parent) as temporary:
        made, frames = Path(temporary) / "new", 0
        made.mkdir()
        writer = None
        for block in blocks:
            with _full_disk(folder):
                writer = writer or _writer(made, block)
                writer.add_examples({SPLIT: [block]})
            frames += len(block["magnitude"])
        with _full_disk(folder):
            if writer:
                writer.close_all()
        (made / SONG).write_text(json.dumps(about | {"frames": frames}, indent=1) + "\n")
        if folder.exists():
            os.replace(folder, Path(temporary) / "old")
        os.replace(made, folder)


@contextlib.contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    """Turn what the writer of records raises into a line for the user."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).split(";")[0].removeprefix("write() failed: ")
        remedy = "free some space and run the same command, which goes on from here"
        raise UserError(f"cannot write {folder}: {reason}; {remedy}") from None


def read_song(folder: Path) -> Json:
    """Read song.json; nothing if there is no readable one."""
    try:
        return json.loads((folder / SONG).read_text())
    except (OSError, ValueError):
        return {}


def write_features(
    folder: Path, spectra: Spectra, about: Json, songs: Sequence[Json] | None = None
) -> None:
    """Write features.json; without songs, it says that the features are not complete."""
    about = {"spectra": asdict(spectra), "complete": songs is not None, **about}
    about |= {"songs": songs or [], "gensep": __version__}
    write_atomically(folder / METADATA, json.dumps(about, indent=1) + "\n")


def _writer(folder: Path, block: Mapping[str, np.ndarray]) -> "tfds.core.SequentialWriter":
    """Start to write a data set whose records are like `block`, one by one."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity
    from tensorflow_datasets.core.sequential_writer import SequentialWriter

    features = tfds.features.FeaturesDict(
        {
            name: tfds.features.Tensor(
                shape=(None, *values.shape[1:]), dtype=np.float32, encoding="bytes"
            )
            for name, values in block.items()
        }
    )
    identity = DatasetIdentity(
        name="features",
        version=tfds.core.Version("1.0.0"),
        data_dir=str(folder),
        module_name="gensep",
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features, disable_shuffling=True)
    writer = SequentialWriter(info, max_examples_per_shard=1 << 30, file_format="array_record")
    writer.initialize_splits([SPLIT])
    return writer
