"""Features as DeepConvSep leaves them: arrays of float64 in .data files, their sizes in .shape.

`NAME_SUFFIX_m_.data` holds magnitudes, `_p_` phases, `_g_` piano rolls and `_e_` notes. The .shape
file beside it is one line such as `#5<TAB>2586<TAB>513`. The first axis of magnitudes counts the
mixture and its sources; with several channels all channels of the mixture come before those of the
first source.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.representation.magnitude import Spectra
from gensep.runtime.errors import UserError

MAGNITUDES = "_m_.data"


def map_raw(path: Path) -> np.memmap:
    """Map an array of float64 whose sizes are in the .shape file; nothing is read yet.

    Raises:
        UserError: if there is no such file or no sizes, or the file has another size.
    """
    shape = _sizes(path)
    try:
        there = path.stat().st_size
    except OSError:
        raise UserError(f"there is no file {path}; check the name") from None
    if there != 8 * math.prod(shape):
        sizes = " x ".join(map(str, shape))
        problem = f"{path} has {there} bytes, {8 * math.prod(shape)} were expected"
        raise UserError(f"{problem} for {sizes} numbers of float64; write it again")
    return np.memmap(path, np.float64, "r", shape=shape)


def _sizes(path: Path) -> tuple[int, ...]:
    beside = path.with_suffix(".shape")
    try:
        text = beside.read_text(encoding="utf-8")
        sizes = tuple(int(word) for word in text.strip().removeprefix("#").split("\t"))
    except FileNotFoundError:
        raise UserError(f"there is no {beside}, which says the sizes of {path.name}") from None
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UserError(f"{beside} does not state sizes such as '#5<TAB>2586<TAB>513'")
    return sizes


class RawSong(NamedTuple):
    """Magnitudes of one song."""

    name: str
    path: Path
    split: str
    frames: int
    channels: int

    def read(self, first: int, stop: int) -> np.ndarray:
        """Read some frames, float32 `[frame, 1 + source, channel, bin]`.

        The file is mapped anew each time, so that pages that were read do not stay in memory.
        """
        stored = map_raw(self.path)
        rows = stored.reshape(-1, self.channels, *stored.shape[-2:])[:, :, first:stop]
        return np.moveaxis(rows, 2, 0).astype(np.float32)


def has_raw_features(folder: Path) -> bool:
    """Tell whether a folder holds raw magnitudes."""
    return next(folder.rglob("*" + MAGNITUDES), None) is not None


def open_raw_songs(
    folders: Sequence[str], spectra: Spectra, names: Sequence[str] = ()
) -> tuple[list[RawSong], tuple[str, ...]]:
    """Find raw magnitudes below folders; return songs and the names of their sources.

    Without names, sources are called source1, source2, ... A song in a folder train, valid or the
    like belongs to that split.

    Raises:
        UserError: if there are none, or their sizes are not those of the transform and the names.
    """
    songs = []
    for folder in map(Path, folders):
        for path in sorted(folder.rglob("*" + MAGNITUDES)):
            shape = map_raw(path).shape
            rows, rest = divmod(math.prod(shape[:-2]), spectra.channels)
            wanted = 1 + len(names) if names else rows
            expected = f"[{wanted} x {spectra.channels} channels, frames, {spectra.bins} bins]"
            if len(shape) < 3 or rest or rows != wanted or rows < 2 or shape[-1] != spectra.bins:
                problem = f"{path} is {list(shape)}, expected {expected}"
                raise UserError(f"{problem}; check --stems and the transform")
            split = "" if path.parent == folder else path.relative_to(folder).parts[0]
            name = path.name.removesuffix(MAGNITUDES)
            songs.append(RawSong(name, path, split, shape[-2], spectra.channels))
            names = names or [f"source{i}" for i in range(1, rows)]
    if not songs:
        raise UserError(f"{', '.join(folders)} hold no *{MAGNITUDES}; check the folder")
    return songs, tuple(names)
