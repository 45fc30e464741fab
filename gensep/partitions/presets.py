"""How songs become a partition: the rules of published experiments, and shares of paired songs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.audio.excerpt import Excerpt
from gensep.datasets.layouts import MIXTURES, TEST, VALID, audio_files, find_songs
from gensep.datasets.songs import Song
from gensep.partitions.partition import MIXTURE, PairedSong, Partition, Sum
from gensep.runtime.errors import UserError

TRAIN = ("train", "Dev", "")
UNPAIRED = "train_unsup"  # the folder of unpaired recordings in the folders of DSSGAN


class Division(NamedTuple):
    """The songs of every part; of `mixtures` the mixture is used, of `solos` every stem."""

    paired: list[Song]
    mixtures: list[Song]
    solos: list[Song]
    valid: list[Song]
    test: list[Song]


class Rules(NamedTuple):
    """What the user chooses about a division."""

    seed: int = 0
    share: float = 0.5  # of the songs for training that is paired
    disjoint: bool = True  # no unpaired solo belongs to an unpaired mixture
    layout: str = "auto"


class Stems(NamedTuple):
    """Which stems are the sources."""

    sources: tuple[str, ...] = ()  # by default all stems
    rest: str | None = None  # the source that is the sum of all stems that are no other source
    renamed: Mapping[str, str] = {}  # name of a stem -> the source that it is
    silence: bool = False  # take silence for a source that a song lacks


def _aas(folders: Sequence[Path], rules: Rules) -> Division:
    """Songs in Dev are paired, those in Test halved; songs of other sets are cut into thirds."""
    parts = Division([], [], [], [], [])
    rng = np.random.default_rng(rules.seed)
    for folder in folders:
        songs = find_songs(folder, rules.layout)
        test = [song for song in songs if song.split in TEST]
        if test:
            paired = [song for song in songs if song.split not in TEST]
            valid, test = _cut(rng, test, 2)
            unpaired: list[Song] = []
        else:
            paired = []
            unpaired, valid, test = _cut(rng, songs, 3)
        mixtures, solos = _unpaired(rng, unpaired, rules)
        for part, more in zip(parts, (paired, mixtures, solos, valid, test), strict=True):
            part += more
    return parts


def _share(folders: Sequence[Path], rules: Rules) -> Division:
    """A share of the songs for training is paired, the mixtures and stems of the others are not.

    If all are paired, they are also the unpaired ones. Sets without splits are cut into one half
    for training and quarters for validation and test; sets with a split for testing alone are
    validated on one half of it.
    """
    rng = np.random.default_rng(rules.seed)
    songs = [song for folder in folders for song in find_songs(folder, rules.layout)]
    train = [song for song in songs if song.split not in (*VALID, *TEST)]
    valid = [song for song in songs if song.split in VALID]
    test = [song for song in songs if song.split in TEST]
    if not valid and not test:
        first, second = _cut(rng, train, 2)
        train, (valid, test) = first, _cut(rng, second, 2)
    elif not valid:
        valid, test = _cut(rng, test, 2)
    # one order for all shares, so that the songs of a small one are among those of a large one
    (train,) = _cut(rng, train, 1)
    count = max(1, round(rules.share * len(train)))
    paired, others = train[:count], train[count:]
    return Division(paired, *_unpaired(rng, others or paired, rules), valid, test)


def _folders(folders: Sequence[Path], rules: Rules) -> Division:
    """FOLDER/{train_sup,valid,test}/SONG/{mix,SOURCE,...}.wav, FOLDER/train_unsup/unsup_NAME/**.

    These are the folders of DSSGAN, whose accompaniment is called acc.
    """
    parts = Division([], [], [], [], [])
    for folder in folders:
        for part, names in (
            (parts.paired, ("train_sup",)),
            (parts.valid, ("valid", "train_valid")),
            (parts.test, ("test", "train_test")),
        ):
            place = next((folder / name for name in names if (folder / name).is_dir()), None)
            if place is None:
                raise UserError(f"there is no folder {folder / names[0]}; see --preset")
            part += find_songs(place, "tree")
        for place in sorted((folder / UNPAIRED).glob("unsup_*")):
            name = place.name.removeprefix("unsup_")
            sounds = [(path.stem, Excerpt(path)) for path in audio_files(place)]
            if name in MIXTURES:
                parts.mixtures.extend(Song(stem, sound, {}) for stem, sound in sounds)
            else:
                parts.solos.extend(Song(stem, None, {name: sound}) for stem, sound in sounds)
    return parts


class Preset(NamedTuple):
    """A way to divide songs, and the sources that it is for."""

    divide: Callable[[Sequence[Path], Rules], Division]
    sources: tuple[str, ...] = ()  # none: all stems


PRESETS: dict[str, Preset] = {
    "aas": Preset(_aas, ("vocals", "accompaniment")),
    "dssgan": Preset(_folders, ("drums", "accompaniment")),
    "share": Preset(_share),
}


def make_partition(division: Division, stems: Stems) -> Partition:
    """Turn songs into the sounds of a partition.

    Raises:
        UserError: if a part has no songs, or a song lacks a source.
    """
    for part in ("paired", "valid"):
        if not getattr(division, part):
            raise UserError(f"no songs are left for the part {part}; add songs, see --preset")
    paired, mixtures, solos, valid, test = (
        [_renamed(song, stems) for song in songs] for songs in division
    )
    if not stems.sources:
        stems = stems._replace(sources=tuple(paired[0].stems))
    if stems.rest and stems.rest not in stems.sources:
        raise UserError(f"--rest must be one of the sources {', '.join(stems.sources)}")
    unpaired = {MIXTURE: [_mixture(song) for song in mixtures]}
    for name in stems.sources:
        found = (_source(song, name, stems) for song in solos)
        unpaired[name] = [sound for sound in found if sound]
    empty = [name for name, sounds in unpaired.items() if not sounds]
    if empty and len(empty) < len(unpaired):
        raise UserError(f"no unpaired recordings of {empty[0]} are left; add songs, see --preset")
    songs = ([_paired(song, stems) for song in part] for part in (paired, valid, test))
    return Partition(stems.sources, next(songs), {} if empty else unpaired, *songs)


def _renamed(song: Song, stems: Stems) -> Song:
    """Rename stems whose new name is wanted and not there."""

    def name(stem: str) -> str:
        new = stems.renamed.get(stem, stem)
        wanted = stem not in stems.sources and new in stems.sources and new not in song.stems
        return new if wanted else stem

    return song._replace(stems={name(stem): sound for stem, sound in song.stems.items()})


def _mixture(song: Song) -> Sum:
    return Sum((song.mixture,)) if song.mixture else Sum(tuple(song.stems.values()))


def _source(song: Song, name: str, stems: Stems) -> Sum | None:
    """Return a source of a song, None if it lacks it."""
    if name in song.stems:
        return Sum((song.stems[name],))
    others = tuple(sound for stem, sound in song.stems.items() if stem not in stems.sources)
    return Sum(others) if name == stems.rest and others else None


def _paired(song: Song, stems: Stems) -> PairedSong:
    found = {name: _source(song, name, stems) for name in stems.sources}
    lacks = [name for name, sound in found.items() if not sound]
    if lacks and not stems.silence:
        has = f"has no stem {lacks[0]} (it has {', '.join(song.stems)})"
        raise UserError(f"{song.name} {has}; see --rest, --rename and --missing")
    if len(lacks) == len(found):
        raise UserError(f"{song.name} has none of the sources; leave it out")
    length = 0.0
    if lacks:
        shape = next(iter(song.stems.values())).shape()
        length = shape.samples / shape.rate
    sounds = {name: sound or Sum(silence=length) for name, sound in found.items()}
    return PairedSong(song.name, Sum((song.mixture,)) if song.mixture else None, sounds)


def _unpaired(
    rng: np.random.Generator, songs: Sequence[Song], rules: Rules
) -> tuple[list[Song], list[Song]]:
    """Return the songs whose mixtures, and those whose stems, are unpaired recordings."""
    if not rules.disjoint:
        return list(songs), list(songs)
    mixtures, solos = _cut(rng, songs, 2)
    return mixtures, solos


def _cut(rng: np.random.Generator, songs: Sequence[Song], parts: int) -> list[list[Song]]:
    """Shuffle songs and cut them into equal parts; the first parts take what is left over."""
    order = rng.permutation(len(songs))
    return [[songs[i] for i in part] for part in np.array_split(order, parts)]
