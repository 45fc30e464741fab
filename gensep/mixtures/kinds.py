"""Mixtures by what their folders hold: the table of the kinds of data."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from gensep.datasets.mixture_examples import MixtureExamples
from gensep.mixtures.feature_examples import FeatureExamples, FeatureSong
from gensep.mixtures.feature_store import has_features, open_features, read_features
from gensep.mixtures.options import Drawing, Excerpts, Splitting
from gensep.mixtures.raw_features import has_raw_features, open_raw_songs
from gensep.mixtures.recordings import Target
from gensep.mixtures.scored_songs import ScoredSong, grid_of, harmonics_of
from gensep.mixtures.solo_waves import find_solos, has_solos, open_solos
from gensep.mixtures.song_waves import SongWaves, find_all_songs, open_tracks
from gensep.mixtures.splits import split_songs
from gensep.mixtures.unpaired import open_songs
from gensep.mixtures.wave_examples import WaveExamples
from gensep.partitions.partition import Partition, read_partition
from gensep.representation.magnitude import Spectra
from gensep.runtime.errors import UserError


class Request(NamedTuple):
    """What a network asks of its data."""

    spectra: Spectra
    sources: tuple[str, ...]  # that are estimated; they come first in the axis of sources
    frames: int | None  # of its window; None for any length
    scored: bool = False  # it sees the mixture filtered by the score of every source

    @property
    def _margin(self) -> int:
        """Frames from the beginning of a wave to the first one that lies within it."""
        return -(-self.spectra.n_fft // (2 * self.spectra.hop_length))

    @property
    def kept(self) -> slice:
        """Frames of an excerpt that training sees: for a window, those within the excerpt."""
        return slice(self._margin, self._margin + self.frames) if self.frames else slice(None)

    def samples(self, c: Excerpts) -> int:
        """Return the length of an excerpt."""
        if self.frames:
            return (self.frames + 2 * self._margin - 1) * self.spectra.hop_length
        return round(c.seconds * self.spectra.sample_rate)

    def window(self, c: Drawing) -> int:
        """Return how many frames of features an example has."""
        return self.frames or self.spectra.frames(self.samples(c))

    @property
    def target(self) -> Target:
        """Rate and channels."""
        return Target(self.spectra.sample_rate, self.spectra.channels)

    def ordered(self, there: Sequence[str]) -> tuple[str, ...]:
        """Return the names of all sources of the data, those that are estimated first."""
        if missing := [name for name in self.sources if name not in there]:
            raise UserError(f"the data have no source {missing[0]}; they have {', '.join(there)}")
        return (*self.sources, *(name for name in there if name not in self.sources))


def _open_songs(c: Drawing, request: Request) -> MixtureExamples:
    tracks, there = open_tracks(find_all_songs(c.data, c.layout), c)
    names, samples = request.ordered(there), request.samples(c)
    train, valid = (
        SongWaves(chosen, names, samples, request.target, c) for chosen in split_songs(tracks, c)
    )
    return WaveExamples(request.spectra, names, train, valid, c, request.kept)


def _open_solos(c: Drawing, request: Request) -> MixtureExamples:
    solos = find_solos(c)
    names, samples = request.ordered(tuple(solos)), request.samples(c)
    train, valid = (
        open_solos({n: getattr(solos[n], split) for n in names}, samples, request.target, c)
        for split in ("train", "valid")
    )
    return WaveExamples(request.spectra, names, train, valid, c, request.kept)


# What leaves waves as they are: a config file may say so for features too.
PLAIN = {"gain_low": 1, "gain_high": 1, "swap": 0, "mute_source": 0, "mute_channel": 0, "shift": 0}


def _refuse_changes_of_waves(c: Drawing) -> None:
    """Refuse options that ask for changes of waves, which features would leave unread."""
    for f in dataclasses.fields(Excerpts):
        if f.name in PLAIN and getattr(c, f.name) not in (f.default, PLAIN[f.name]):
            problem = f"{f.name} changes waves, but {c.data[0]} holds features"
            raise UserError(f"{problem}; leave it out, or name the songs with --data")


def _open_features(c: Drawing, request: Request) -> MixtureExamples:
    _refuse_changes_of_waves(c)
    songs, there = open_features(c.data, request.spectra, c.stems)
    names = request.ordered(there)
    if not request.scored:
        return _examples(songs, there, c, request)
    if c.mix_features or request.spectra.channels > 1:
        raise UserError("mixtures are filtered by scores: leave out --mix_features, take 1 channel")
    compat = {read_features(Path(folder)).get("compat") for folder in c.data}
    if None in compat or len(compat) > 1:
        problem = f"not all of {', '.join(c.data)} have piano rolls of one kind"
        raise UserError(f"{problem}; write them again with make_features --scores auto")
    harmonics = harmonics_of(grid_of(request.spectra, compat=True in compat))
    order = tuple(there.index(name) for name in names)
    train, valid = split_songs([ScoredSong(song, order, harmonics) for song in songs], c)
    rows, window = range(2 * len(names)), request.window(c)
    return FeatureExamples(request.spectra, names, rows, train, valid, c, window, len(names))


def _open_raw(c: Drawing, request: Request) -> MixtureExamples:
    _refuse_changes_of_waves(c)
    return _examples(*open_raw_songs(c.data, request.spectra, c.stems), c, request)


def _examples(
    songs: Sequence[FeatureSong], there: Sequence[str], c: Drawing, request: Request
) -> MixtureExamples:
    names = request.ordered(there)
    rows = [0, *(1 + there.index(name) for name in names)]
    train, valid = split_songs(songs, c)
    return FeatureExamples(request.spectra, names, rows, train, valid, c, request.window(c))


def open_paired(c: Excerpts, request: Request, partition: Partition) -> MixtureExamples:
    """Open the paired songs of a partition; its songs for validation are used whole.

    Raises:
        UserError: if a file cannot be read, or a source is missing.
    """
    names, samples = request.ordered(partition.sources), request.samples(c)
    train, valid = (
        SongWaves(open_songs(songs), names, samples, request.target, c)
        for songs in (partition.train_sup, partition.valid)
    )
    return WaveExamples(request.spectra, names, train, valid, c, request.kept)


def _open_partition(c: Drawing, request: Request) -> MixtureExamples:
    plain = [f for f in dataclasses.fields(Splitting) if f.name not in ("data", "kind")]
    if changed := [f.name for f in plain if getattr(c, f.name) != f.default]:
        raise UserError(f"{changed[0]} is for folders, but {c.data[0]} says itself; leave it out")
    return open_paired(c, request, read_partition(c.data[0]))


class Kind(NamedTuple):
    """A kind of data: whether a path is of this kind, and how its examples are read."""

    knows: Callable[[Path], bool]
    open: Callable[[Drawing, Request], MixtureExamples]
    scored: bool = False  # its songs may have scores


# The kind "auto" is the first that knows the first path.
KINDS: dict[str, Kind] = {
    "partition": Kind(Path.is_file, _open_partition),
    "features": Kind(has_features, _open_features, scored=True),
    "raw_features": Kind(has_raw_features, _open_raw),
    "solos": Kind(has_solos, _open_solos),
    "songs": Kind(lambda folder: True, _open_songs),
}


def open_mixtures(
    c: Drawing,
    spectra: Spectra,
    sources: Sequence[str] = (),
    frames: int | None = None,
    *,
    scored: bool = False,
) -> MixtureExamples:
    """Open the data `c.data` of a training command for a network that estimates `sources`.

    The examples have all sources of the data, the estimated ones first. With `frames`, training
    excerpts have so many frames, all of them within the recordings. With `scored`, the planes of
    the mixture are the mixture filtered by the score of every source, in the order of the sources.

    Raises:
        UserError: if the data are not there, cannot be read, or lack a source or its score.
    """
    folder = Path(c.data[0]) if c.data else None
    if folder is None or not folder.exists():
        raise UserError(f"there is no folder {folder}; give one with --data")
    name = c.kind
    if name == "auto":
        name = next(name for name, kind in KINDS.items() if kind.knows(folder))
    if (name == "partition") != folder.is_file() or (folder.is_file() and len(c.data) > 1):
        raise UserError(f"{folder}: expected folders, or one partition file; see --kind")
    if scored and not KINDS[name].scored:
        problem = f"{folder} holds no features with scores, which the network needs"
        raise UserError(f"{problem}; write them with make_features --scores auto")
    return KINDS[name].open(c, Request(spectra, tuple(sources), frames, scored))
