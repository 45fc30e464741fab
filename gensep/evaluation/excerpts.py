"""Excerpts at random of the songs that are scored, drawn with a seed."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np

from gensep.evaluation.measures import Protocol
from gensep.evaluation.scoring import Pair


def draw_excerpts(pairs: Sequence[Pair], protocol: Protocol) -> list[Pair]:
    """Cut songs to excerpts of `protocol.excerpt` seconds; return songs as they are for 0 s.

    There are `protocol.excerpts` of them, of different songs as long as there are any left, then
    again of different songs; 0 stands for one per song. Starts are uniform on whole samples. A
    song's excerpts depend on the seed, its split and its name alone, so that methods that were
    applied to other songs besides are still scored on the same excerpts. A song that is not longer
    than an excerpt is taken whole, once. Excerpts are named "SONG START s".

    Raises:
        UserError: if the stems of a song differ in rate, channels or length.
    """
    if not protocol.excerpt:
        return list(pairs)
    count, drawn = protocol.excerpts or len(pairs), []
    for turn in range(-(-count // len(pairs))):
        chances = []
        for pair in pairs:
            name = f"{pair.reference.split}/{pair.reference.name}"
            rng = np.random.default_rng([protocol.seed, turn, crc32(name.encode())])
            chances.append((rng.random(), rng.random(), pair))
        chances.sort(key=lambda chance: chance[0])
        drawn += [_cut(pair, place, protocol.excerpt) for _, place, pair in chances]
    unique = {(p.reference.split, p.reference.name): p for p in drawn[:count]}
    return [unique[key] for key in sorted(unique)]


def _cut(pair: Pair, place: float, seconds: float) -> Pair:
    """Return the excerpt at `place`, from 0 at the earliest start to 1 after the last one."""
    rate, _, samples = pair.reference.shape()
    start = int(place * (max(0, samples - round(seconds * rate)) + 1)) / rate
    name = f"{pair.reference.name} {start:.3f} s"
    return Pair(*(song.part(start, seconds)._replace(name=name) for song in pair))
