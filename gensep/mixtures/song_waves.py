"""Excerpts of songs with stems: all stems at one place, or every source from another song."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.audio.excerpt import Excerpt
from gensep.datasets.layouts import find_songs
from gensep.datasets.songs import Song
from gensep.mixtures.options import Excerpts, Songs
from gensep.mixtures.recordings import Recording, Sound, Target, open_recording
from gensep.runtime.errors import UserError

RESIDUAL = "residual"  # name of mixture minus stem where a song has one stem only
BLOCK = 1 << 18  # samples of a song that are read at once


class Piece(NamedTuple):
    """A piece of music as waves that are read as they are asked for."""

    samples: int
    blocks: Iterator[np.ndarray]  # `[1 + source, channel, n]`, the mixture first


class Track(NamedTuple):
    """A song whose headers were read; stems that it lacks are silent."""

    name: str
    split: str
    mixture: Sound | None
    stems: dict[str, Sound]
    residual: str | None  # name of a further source: mixture minus stems

    @property
    def first(self) -> Sound:
        """A recording, which tells the length and rate of all."""
        return next(iter(self.stems.values()))

    @property
    def folder(self) -> Path:
        """Where its stems are."""
        return next(iter(self.sounds().values())).path.parent

    def sounds(self) -> dict[str, Excerpt]:
        """Return the files of its stems by name, and that of a mixture as ""."""
        of_song = self.stems | ({"": self.mixture} if self.mixture else {})
        return {name: one.sound for name, one in of_song.items() if isinstance(one, Recording)}

    def read(self, names: Sequence[str], at: int, samples: int, target: Target) -> np.ndarray:
        """Read sources, `[source, channel, samples]`, see `Recording.read`."""
        waves = np.zeros((len(names), target.channels, samples), np.float32)
        for wave, name in zip(waves, names, strict=True):
            if name == self.residual and self.mixture:
                wave += self.mixture.read(at, samples, target)
                for other in self.stems.values():
                    wave -= other.read(at, samples, target)
            elif stem := self.stems.get(name):
                wave += stem.read(at, samples, target)
        return waves

    def whole(self, names: Sequence[str], target: Target) -> Piece:
        """Return mixture and sources from beginning to end.

        The mixture is that on disk if the names are all sources of the song, else their sum.
        """
        sources = set(self.stems) | ({self.residual} if self.residual else set())
        own = self.mixture if sources <= set(names) else None
        samples, grid = self.first.samples(target.rate), self.first.grid(target.rate)
        step = max(grid, BLOCK // grid * grid)

        def block(at: int) -> np.ndarray:
            length = min(step, samples - at)
            waves = self.read(names, at, length, target)
            mixture = own.read(at, length, target) if own else waves.sum(axis=0)
            return np.concatenate([mixture[None], waves])

        return Piece(samples, map(block, range(0, samples, step)))


def find_all_songs(folders: Iterable[str], layout: str) -> list[Song]:
    """Find the songs of all folders, or raise UserError if one has none."""
    return [song for folder in folders for song in find_songs(Path(folder), layout)]


def open_tracks(songs: Sequence[Song], c: Songs) -> tuple[list[Track], tuple[str, ...]]:
    """Read the headers of songs; return them with the names of all their sources, sorted.

    Raises:
        UserError: if a song lacks a stem that is not to be taken as silent, has no mixture where a
            residual is asked for, or its files differ in rate or length.
    """
    residual = c.residual
    if residual is None and all(song.mixture and len(song.stems) == 1 for song in songs):
        residual = RESIDUAL
    names = sorted({name for song in songs for name in song.stems})
    wanted = c.stems or (*names, *([residual] if residual else []))
    if unknown := [name for name in wanted if name not in (*names, residual)]:
        raise UserError(f"no song has a stem {unknown[0]}; there are {', '.join(names)}")
    return [_open(song, wanted, residual, c.missing) for song in songs], tuple(wanted)


def _open(song: Song, wanted: Sequence[str], residual: str | None, missing: str) -> Track:
    lacks = [name for name in wanted if name not in (*song.stems, residual)]
    if lacks and missing == "refuse":
        has = f"has no stem {lacks[0]} (it has {', '.join(song.stems)})"
        raise UserError(f"{song.name} {has}; add the file, or take --missing silence")
    if residual and song.mixture is None:
        remedy = "add the file mixture.wav or leave out --residual"
        raise UserError(f"{song.name} has no mixture to take the residual of; {remedy}")
    shape = song.shape()  # refuses unequal stems
    stems = {name: Recording(sound, shape) for name, sound in song.stems.items()}
    mixture = open_recording(song.mixture) if song.mixture else None
    if mixture and mixture.shape.rate != shape.rate:
        both = f"the mixture has {mixture.shape}, a stem {shape}"
        raise UserError(f"{song.name}: {both}; make the files alike")
    return Track(song.name, song.split, mixture, dict(stems), residual)


class SongWaves:
    """Random excerpts of songs, `[source, channel, samples]`."""

    def __init__(
        self,
        tracks: Sequence[Track],
        names: Sequence[str],
        samples: int,
        target: Target,
        c: Excerpts,
    ) -> None:
        self.tracks, self.names, self.samples, self.target = tracks, names, samples, target
        self.positions, self.mix_songs = c.positions, c.mix_songs

    def draw(self, rng: np.random.Generator, seed: int, number: int) -> np.ndarray:
        """Return excerpt `number` of a training, whose random numbers come from `rng`."""
        track = self._track(rng, seed, number)
        if rng.random() >= self.mix_songs:
            return track.read(self.names, self._place(rng, track), self.samples, self.target)
        waves = []
        for name in self.names:
            track = self.tracks[int(rng.integers(len(self.tracks)))]
            place = self._place(rng, track)
            waves.append(track.read([name], place, self.samples, self.target))
        return np.concatenate(waves)

    def _track(self, rng: np.random.Generator, seed: int, number: int) -> Track:
        """Return a random song, or, with positions, the one whose turn it is."""
        count = len(self.tracks)
        if not self.positions:
            return self.tracks[int(rng.integers(count))]
        epoch, turn = divmod(number, count * self.positions)
        order = np.random.default_rng((seed, epoch)).permutation(count * self.positions)
        return self.tracks[order[turn] % count]

    def _place(self, rng: np.random.Generator, track: Track) -> int:
        return random_place(rng, track.first, self.samples, self.target.rate)

    def whole(self) -> Iterator[Piece]:
        """Return every song in turn."""
        return (track.whole(self.names, self.target) for track in self.tracks)


def random_place(rng: np.random.Generator, sound: Sound, samples: int, rate: int) -> int:
    """Draw the first sample of an excerpt, uniformly over those that lie within the sound."""
    grid = sound.grid(rate)
    return int(rng.integers(max(0, sound.samples(rate) - samples) // grid + 1)) * grid
