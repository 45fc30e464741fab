"""Which recordings train, validate and test a semi-supervised separator: a strict JSON file.

    {"sources": ["vocals", "accompaniment"],
     "train_sup": [{"name": "A", "mixture": "a/mix.wav",
                    "stems": {"vocals": "a/vocals.wav",
                              "accompaniment": ["a/bass.wav", "a/drums.wav"]}}],
     "train_unsup": {"mixture": ["b.wav"], "vocals": ["c.wav", 30],
                     "accompaniment": [{"path": "d.wav", "channel": 0}]},
     "valid": [...], "test": [...]}

Songs (`train_sup`, `valid`, `test`) have all stems; without a mixture, their sum is the mixture.
Recordings in `train_unsup` have nothing to do with one another. Paths are relative to the file.
A sound is a path, an object with path, channel (from 0), stream (of an MP4), start and duration
(seconds), or a list of these, which are added. Instead of a source there may be silence: a number
of seconds. `train_unsup` and `test` may be left out.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from gensep.audio.excerpt import Excerpt
from gensep.cli.records import Json
from gensep.runtime.errors import UserError
from gensep.runtime.files import check_writable, write_atomically

T = TypeVar("T")
MIXTURE = "mixture"  # the list of mixtures in train_unsup; no source can have this name
EXCERPT = ("path", "channel", "stream", "start", "duration")


class Sum(NamedTuple):
    """Sounds that are added; without any, silence of some seconds."""

    sounds: tuple[Excerpt, ...] = ()
    silence: float = 0.0


class PairedSong(NamedTuple):
    """A song with all of its sources; without a mixture, their sum is the mixture."""

    name: str
    mixture: Sum | None
    stems: dict[str, Sum]


class Partition(NamedTuple):
    """The recordings of every part."""

    sources: tuple[str, ...]
    train_sup: list[PairedSong]
    train_unsup: dict[str, list[Sum]]  # by MIXTURE and sources; empty without unpaired recordings
    valid: list[PairedSong]
    test: list[PairedSong]

    def counts(self) -> dict[str, int]:
        """Return the numbers of songs and of unpaired recordings, by part."""
        lists = {name: len(self.train_unsup.get(name, ())) for name in (MIXTURE, *self.sources)}
        ends = {"valid": len(self.valid), "test": len(self.test)}
        return {"paired": len(self.train_sup), **lists, **ends}


class _Value(NamedTuple):
    """A value of the file, and where it stands."""

    value: object
    file: Path
    place: str = ""

    def refuse(self, expected: str) -> UserError:
        shown = json.dumps(self.value)
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        return UserError(f"{self._at}expected {expected}, not {shown}")

    @property
    def _at(self) -> str:
        return f"{self.file}: {self.place}: " if self.place else f"{self.file}: "

    def fields(self, needed: Sequence[str], others: Sequence[str] = ()) -> dict[str, "_Value"]:
        """Return the fields of an object that has all needed keys and no unknown one."""
        if not isinstance(self.value, dict):
            raise self.refuse(f"an object with {', '.join(needed)}")
        known = (*needed, *others)
        if unknown := [key for key in self.value if key not in known]:
            raise UserError(f"{self._at}unknown key {unknown[0]}; known: {', '.join(known)}")
        if missing := [key for key in needed if key not in self.value]:
            raise UserError(f"{self._at}{missing[0]} is missing; add it")
        start = f"{self.place}." if self.place else ""
        return {k: self._replace(value=v, place=start + k) for k, v in self.value.items()}

    def items(self, read: Callable[["_Value"], T]) -> list[T]:
        """Read every item of a list that is not empty."""
        if not isinstance(self.value, list) or not self.value:
            raise self.refuse("a list with at least one item")
        places = enumerate(self.value)
        return [read(self._replace(value=v, place=f"{self.place}[{i}]")) for i, v in places]

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value:
            raise self.refuse("a text")
        return self.value

    def number(self) -> float:
        value = self.value
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.refuse("a number")
        if not 0 <= value < math.inf:
            raise self.refuse("a number of at least 0")
        return float(value)

    def order(self) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < 0:
            raise self.refuse("a whole number from 0 on")
        return self.value


def read_partition(path: str | Path) -> Partition:
    """Read a partition.

    Raises:
        UserError: if the file is not as described above, or a sound that it names is not there; the
            message says where.
    """
    path = Path(path)
    try:
        whole = _Value(json.loads(path.read_text("utf-8")), path)
    except OSError as error:
        remedy = "make one with gensep.partition"
        raise UserError(f"cannot read the partition {path}: {error.strerror}; {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); make it with gensep.partition") from None
    top = whole.fields(("sources", "train_sup", "valid"), ("train_unsup", "test"))
    sources = tuple(top["sources"].items(_Value.text))
    if MIXTURE in sources or len(set(sources)) < len(sources):
        raise top["sources"].refuse(f"different names, none of them {MIXTURE}")

    def songs(part: str) -> list[PairedSong]:
        return top[part].items(lambda entry: _song(entry, sources)) if part in top else []

    unpaired = {}
    if "train_unsup" in top:
        lists = top["train_unsup"].fields((MIXTURE, *sources))
        unpaired = {
            name: entry.items(lambda one, name=name: _sum(one, silent=name != MIXTURE))  # type: ignore[misc]
            for name, entry in lists.items()
        }
    return Partition(sources, songs("train_sup"), unpaired, songs("valid"), songs("test"))


def _song(entry: _Value, sources: Sequence[str]) -> PairedSong:
    fields = entry.fields(("name", "stems"), (MIXTURE,))
    stems = {k: _sum(v, silent=True) for k, v in fields["stems"].fields(sources).items()}
    if not any(stem.sounds for stem in stems.values()):
        raise fields["stems"].refuse("at least one stem that is not silent")
    mixture = _sum(fields[MIXTURE], silent=False) if MIXTURE in fields else None
    return PairedSong(fields["name"].text(), mixture, {name: stems[name] for name in sources})


def _sum(entry: _Value, *, silent: bool) -> Sum:
    """Read a sound, a list of sounds that are added, or, if `silent`, seconds of silence."""
    if silent and isinstance(entry.value, int | float):
        return Sum(silence=entry.number())
    if isinstance(entry.value, list):
        return Sum(tuple(entry.items(_excerpt)))
    return Sum((_excerpt(entry),))


def _excerpt(entry: _Value) -> Excerpt:
    if isinstance(entry.value, dict):
        fields = entry.fields(EXCERPT[:1], EXCERPT[1:])
    elif isinstance(entry.value, str):
        fields = {"path": entry}
    else:
        raise entry.refuse("a path, an object with a path, or a list of these")
    # normpath and not resolve, so that links to files keep their names
    path = Path(os.path.normpath(entry.file.parent / fields["path"].text()))
    if not path.is_file():
        remedy = "correct the path, or leave the entry out"
        raise UserError(f"{fields['path']._at}there is no file {path}; {remedy}")
    start, duration = fields.get("start"), fields.get("duration")
    stream, channel = fields.get("stream"), fields.get("channel")
    return Excerpt(
        path,
        start.number() if start else 0.0,
        duration.number() if duration else None,
        stream.order() if stream else None,
        channel.order() if channel else None,
    )


def write_partition(path: str | Path, partition: Partition) -> None:
    """Write a partition, whole or not at all, with paths relative to its folder.

    Raises:
        UserError: if the file cannot be written.
    """
    path = Path(path)
    check_writable(path.parent)

    def sound(one: Excerpt) -> Json | str:
        relative = Path(os.path.relpath(one.path.absolute(), path.parent.absolute())).as_posix()
        given = {name: getattr(one, name) for name in EXCERPT[1:]}
        plain = Excerpt(one.path)
        changed = {name: v for name, v in given.items() if v != getattr(plain, name)}
        return {"path": relative, **changed} if changed else relative

    def whole(sum_: Sum) -> object:
        if not sum_.sounds:
            return sum_.silence
        sounds = [sound(one) for one in sum_.sounds]
        return sounds if len(sounds) > 1 else sounds[0]

    def songs(part: Sequence[PairedSong]) -> list[Json]:
        return [
            {"name": song.name}
            | ({MIXTURE: whole(song.mixture)} if song.mixture else {})
            | {"stems": {name: whole(stem) for name, stem in song.stems.items()}}
            for song in part
        ]

    def lists(part: Mapping[str, Sequence[Sum]]) -> Json:
        return {name: [whole(one) for one in recordings] for name, recordings in part.items()}

    text: Json = {"sources": list(partition.sources), "train_sup": songs(partition.train_sup)}
    if partition.train_unsup:
        text["train_unsup"] = lists(partition.train_unsup)
    text["valid"] = songs(partition.valid)
    if partition.test:
        text["test"] = songs(partition.test)
    write_atomically(path, json.dumps(text, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
