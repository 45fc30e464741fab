"""Which songs are trained on, and which ones validation measures."""

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

from gensep.datasets.layouts import TEST, VALID
from gensep.mixtures.options import Splitting
from gensep.runtime.errors import UserError

T = TypeVar("T")


class Named(Protocol):
    """A song, wherever its sound is."""

    @property
    def name(self) -> str:
        """Its name, which versions of one piece share."""

    @property
    def split(self) -> str:
        """The split that it lies in; empty if there are none."""


Music = TypeVar("Music", bound=Named)


# the songs of MUSDB18 that Open-Unmix validates on
MUSDB_VALID = frozenset(
    {
        "Actions - One Minute Smile",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Johnny Lokke - Promises & Lies",
        "Patrick Talbot - A Reason To Leave",
        "Triviul - Angelsaint",
        "Alexander Ross - Goodbye Bolero",
        "Fergessen - Nos Palpitants",
        "Leaf - Summerghost",
        "Skelpolu - Human Mistakes",
        "Young Griffo - Pennies",
        "ANiMAL - Rockshow",
        "James May - On The Line",
        "Meaxic - Take A Step",
        "Traffic Experiment - Sirens",
    }
)


def split_songs(songs: Sequence[Music], c: Splitting) -> tuple[list[Music], list[Music]]:
    """Return the songs for training and those for validation, as the options of splits say.

    Songs of a split for testing are used only if the options name that split. With
    `c.valid_share` = 0, or with one song, validation takes the songs of training.

    Raises:
        UserError: if the data have no such split, or no song is left.
    """
    there = sorted({song.split for song in songs} - {""})
    for wanted in (c.train_split, c.valid_split):
        if wanted is not None and wanted not in there:
            has = ", ".join(there) or "none"
            raise UserError(f"the data have no split '{wanted}'; they have {has}")
    names = (c.valid_split,) if c.valid_split is not None else VALID
    valid = [song for song in songs if song.split in names]
    if c.train_split is not None:
        train = [song for song in songs if song.split == c.train_split]
    else:
        train = [song for song in songs if song.split not in (*names, *TEST)]
    if not train:
        has = ", ".join(there) or "none"
        raise UserError(f"no songs are left for training; the splits are {has}, see --train_split")
    if valid:
        return train, valid
    valid = [song for song in train if song.name in MUSDB_VALID]
    if valid and len(valid) < len(train):
        return [song for song in train if song.name not in MUSDB_VALID], valid
    return hold_out(train, [song.name for song in train], c.valid_share)


def hold_out(items: Sequence[T], names: Sequence[str], share: float) -> tuple[list[T], list[T]]:
    """Split items by a digest of their names: those for training, and about `share` held out.

    Items of one name stay together. At least one name is held out and at least one is kept, so that
    a single one is both; with share 0 all are both.
    """
    order = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).digest())
    if share == 0 or len(order) == 1:
        return list(items), list(items)
    held = set(order[: min(max(1, round(share * len(order))), len(order) - 1)])
    named = list(zip(names, items, strict=True))
    return (
        [item for name, item in named if name not in held],
        [item for name, item in named if name in held],
    )
