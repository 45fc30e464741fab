"""New songs from the stems of others: stems of different songs, a source dropped, sources shifted.

These are the augmentations that DeepConvSep used for hip hop. The mixture is always the sum of the
stems that are written.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.audio.excerpt import Excerpt
from gensep.audio.files import BLOCK, Shape
from gensep.audio.stems import StemWriter
from gensep.datasets.songs import Song
from gensep.rendering.combinations import arrangement, distinct, sample, variants
from gensep.runtime.errors import UserError


class Part(NamedTuple):
    """What one stem of a remix is made of."""

    sound: Excerpt
    origin: str  # name of its song
    delay: float = 0.0  # seconds of silence in front
    silent: bool = False


class Remix(NamedTuple):
    """A song to be written: the parts of its stems, and the factor of all samples."""

    name: str
    parts: dict[str, Part]
    gain: float = 1.0
    split: str = ""

    def describe(self) -> Iterator[tuple[str, str]]:
        """Yield each source and what it is made of, in words."""
        for name, part in self.parts.items():
            yield name, "silent" if part.silent else f"from={part.origin} time={part.delay:g}"


def remix_songs(
    kind: str,
    songs: Sequence[Song],
    times: Sequence[float],
    share: float,
    size: int,
    rng: np.random.Generator,
) -> list[Remix]:
    """List the remixes of one kind: mix, drop or shift."""
    if kind == "mix":
        return mix_songs(songs, share, size, rng)
    return drop_sources(songs) if kind == "drop" else shift_sources(songs, times, size, rng)


def mix_songs(
    songs: Sequence[Song], share: float, size: int, rng: np.random.Generator
) -> list[Remix]:
    """Mix stems of different songs, each divided by the number J of sources.

    So many mixes are drawn as `share` of the sets of J songs, at least one and at most `size`; each
    is cut to its shortest stem. The sources are those that every song has.

    Raises:
        UserError: if there are fewer than two common sources, or fewer songs than sources.
    """
    names = sorted(set.intersection(*(set(song.stems) for song in songs)))
    if len(names) < 2:
        raise UserError(f"the songs share {len(names)} sources; mixing them needs two or more")
    if len(songs) < len(names):
        have = f"{len(songs)} songs for {len(names)} sources"
        raise UserError(f"every source comes from another song, but there are {have}; add songs")
    wanted = min(size, max(1, round(share * math.comb(len(songs), len(names)))))
    numbers = islice(distinct(math.perm(len(songs), len(names)), rng), wanted)
    made = []
    for number in numbers:
        chosen = zip(names, arrangement(songs, len(names), number), strict=True)
        parts = {name: Part(song.stems[name], song.name) for name, song in chosen}
        made.append(Remix(f"mix_{number:06d}", parts, 1 / len(names)))
    return made


def drop_sources(songs: Sequence[Song]) -> list[Remix]:
    """Make every song without each of its J sources in turn, divided by J.

    The stem of that source is silent.
    """
    return [
        Remix(
            f"{song.name}_no_{dropped}",
            {name: Part(s, song.name, silent=name == dropped) for name, s in song.stems.items()},
            1 / len(song.stems),
            song.split,
        )
        for song in songs
        for dropped in song.stems
    ]


def shift_sources(
    songs: Sequence[Song], times: Sequence[float], size: int, rng: np.random.Generator
) -> list[Remix]:
    """Delay the sources of songs by combinations of `times` (seconds), at most `size` per song.

    Songs keep their length less the longest delay. See `rendering.combinations` for which there
    are: two times and four sources make 14.
    """
    made = []
    for song in songs:
        for number, combination in sample(variants(times, ("M",)), len(song.stems), size, rng):
            parts = {
                name: Part(sound, song.name, variant.time)
                for (name, sound), variant in zip(song.stems.items(), combination, strict=True)
            }
            made.append(Remix(f"{song.name}_{number:06d}", parts, split=song.split))
    return made


def write_remix(remix: Remix, folder: Path, ext: str, subtype: str | None) -> float:
    """Write stems and mixture into a folder, in constant memory; return its length in seconds.

    Raises:
        UserError: if stems differ in rate or channels, or nothing remains of them.
    """
    shape = _shape(remix)
    paths = [folder / f"{name}.{ext}" for name in (*remix.parts, "mixture")]
    streams = [_blocks(part, shape) for part in remix.parts.values()]
    with StemWriter(paths, *shape, subtype) as writer:
        for blocks in zip(*streams, strict=True):
            scaled = [block * np.float32(remix.gain) for block in blocks]
            for stem, block in enumerate([*scaled, np.sum(scaled, axis=0)]):
                writer.write(stem, block)
    return shape.samples / shape.rate


def _shape(remix: Remix) -> Shape:
    """Return rate, channels and samples of all stems: of the shortest, less the longest delay."""
    shapes = {name: part.sound.shape() for name, part in remix.parts.items()}
    first = next(iter(shapes))
    for name, shape in shapes.items():
        if shape[:2] != shapes[first][:2]:
            both = f"{first} has {shapes[first]}, {name} {shape}"
            raise UserError(f"{remix.name}: {both}; give all songs one rate and one channel count")
    rate, channels, _ = shapes[first]
    latest = max(round(part.delay * rate) for part in remix.parts.values())
    samples = min(shape.samples for shape in shapes.values()) - latest
    if samples < 1:
        raise UserError(f"{remix.name}: a delay of {latest / rate:g} s leaves nothing of its stems")
    return Shape(rate, channels, samples)


def _blocks(part: Part, shape: Shape) -> Iterator[np.ndarray]:
    """Read a part in blocks `[channels, n]` that have the same lengths for all parts."""
    held = np.zeros((shape.channels, round(part.delay * shape.rate)), np.float32)
    incoming, left = part.sound.blocks(), shape.samples
    while left:
        length = min(BLOCK, left)
        while held.shape[1] < length:
            held = np.concatenate([held, next(incoming)], axis=1)
        block, held = held[:, :length], held[:, length:]
        yield np.zeros_like(block) if part.silent else block
        left -= length
