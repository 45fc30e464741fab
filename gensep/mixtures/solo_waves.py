"""Random products of solo recordings: an independent excerpt of every source."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.audio.excerpt import Excerpt
from gensep.datasets.layouts import VALID, audio_files
from gensep.mixtures.options import Drawing, Splitting
from gensep.mixtures.recordings import Recording, Target, open_recording
from gensep.mixtures.song_waves import Piece, random_place
from gensep.mixtures.splits import hold_out
from gensep.runtime.errors import UserError

VALID_SEED = 7919  # validation mixtures are the same in every run


class SoloFiles(NamedTuple):
    """The files of one source."""

    train: list[Path]
    valid: list[Path]


def find_solos(c: Splitting) -> dict[str, SoloFiles]:
    """Find FOLDER/SOURCE/{train,valid}/**, or Open-Unmix's FOLDER/{train,valid}/SOURCE/**.

    A source without a folder for validation has a share of its files held out. Files under a folder
    for testing are never used. Only the sources named in `c.stems` are kept, in that order.

    Raises:
        UserError: if there is no folder, no source, or no file of a source for training.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    for folder in map(Path, c.data):
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}; check the name")
        for source, split, files in _by_split(folder):
            found.setdefault(source, {}).setdefault(split, []).extend(files)
    names = c.stems or sorted(found)
    if missing := [name for name in names if not found.get(name, {}).get("train")]:
        there = ", ".join(sorted(found)) or "none"
        raise UserError(f"no recordings of {missing[0]} for training; the sources are {there}")
    if not names:
        raise UserError(f"{', '.join(c.data)} hold no audio in SOURCE/train; sort it so")
    solos = {}
    for name in names:
        train, valid = (found[name].get(split, []) for split in ("train", "valid"))
        if not valid:
            base = os.path.commonpath([path.parent for path in train])
            inner = [path.relative_to(base).as_posix() for path in train]
            train, valid = hold_out(train, inner, c.valid_share)
        solos[name] = SoloFiles(train, valid)
    return solos


def has_solos(folder: Path) -> bool:
    """Tell whether a folder holds SOURCE/train; {train,valid}/SOURCE looks like songs."""
    return any((source / "train").is_dir() for source in _folders(folder))


def _by_split(folder: Path) -> Iterator[tuple[str, str, list[Path]]]:
    """Yield source, split ("train" or "valid") and files of every folder that holds any."""
    outer = _folders(folder)
    splits = [place for place in outer if place.name in ("train", *VALID)]
    pairs = [(source, split) for split in splits for source in _folders(split)]
    if not splits:
        pairs = [(source, split) for source in outer for split in _folders(source)]
    for source, split in pairs:
        kind = "valid" if split.name in VALID else split.name
        if kind in ("train", "valid") and (files := audio_files(split if not splits else source)):
            yield source.name, kind, files


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")


class SoloWaves:
    """Random products of excerpts, `[source, channel, samples]`."""

    def __init__(
        self,
        recordings: Mapping[str, Sequence[Recording]],
        samples: int,
        target: Target,
        excerpts: int,
    ) -> None:
        self.recordings, self.samples, self.target = dict(recordings), samples, target
        self.excerpts = excerpts  # that `whole` returns
        # long recordings are heard more often than short ones
        self._until = {
            name: np.cumsum([each.samples(target.rate) for each in there])
            for name, there in self.recordings.items()
        }

    def draw(self, rng: np.random.Generator, seed: int, number: int) -> np.ndarray:
        """Return excerpt `number` of a training, whose random numbers come from `rng`."""
        waves = []
        for name, there in self.recordings.items():
            until = self._until[name]
            chosen = there[np.searchsorted(until, rng.integers(until[-1]), side="right")]
            place = random_place(rng, chosen, self.samples, self.target.rate)
            waves.append(chosen.read(place, self.samples, self.target))
        return np.stack(waves)

    def whole(self) -> Iterator[Piece]:
        """Return fixed random products."""
        for number in range(self.excerpts):
            waves = self.draw(np.random.default_rng((VALID_SEED, number)), 0, number)
            yield Piece(self.samples, iter([np.concatenate([waves.sum(axis=0)[None], waves])]))


def open_solos(
    files: Mapping[str, Sequence[Path]], samples: int, target: Target, c: Drawing
) -> SoloWaves:
    """Read the headers of the recordings of every source."""
    opened = {
        name: [open_recording(Excerpt(path)) for path in paths] for name, paths in files.items()
    }
    return SoloWaves(opened, samples, target, c.valid_excerpts)
