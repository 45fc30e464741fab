"""Combinations of time, intensity, style and timbre: many renditions of a piece by few sounds.

Every source of a piece gets one variant, a choice of (time, intensity, style, timbre). If there are
as many variants as sources or more, all sources get different ones: n variants and J sources have
n! / (n - J)! combinations. With fewer, variants may repeat, as long as the sources do not all share
one time and one intensity. If that leaves nothing, all sources get the first variant. (Miron,
Janer, Gomez 2017, "Generating data to train convolutional neural networks for classical music
source separation", SMC.)
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from gensep.rendering.notation import CORPUS, piece_name
from gensep.rendering.rendition import random
from gensep.runtime.errors import UserError

Item = TypeVar("Item")
MOST = 2**63  # combinations


class Variant(NamedTuple):
    """How one source plays."""

    time: float = 0.0  # seconds that all its notes are late
    intensity: str = "M"  # P, M or F
    style: str = "NO"  # of RWC's; other sounds have one style
    timbre: int = 1  # number of its sound in the instruments file, from 1


class Combination(NamedTuple):
    """One combination of a score: the variants of its sources, in their order."""

    score: str  # path
    number: int  # see `sample`
    sources: tuple[str, ...]
    variants: tuple[Variant, ...]

    @property
    def name(self) -> str:
        """Name of its song: that of the score, with the number."""
        return f"{score_name(self.score)}_{self.number:06d}"

    @property
    def split(self) -> str:
        """Songs from scores have no split."""
        return ""

    def describe(self) -> Iterator[tuple[str, str]]:
        """Yield each source and its variant in words."""
        for source, v in zip(self.sources, self.variants, strict=True):
            words = f"time={v.time:g} intensity={v.intensity} style={v.style} timbre={v.timbre}"
            yield source, words


def variants(
    times: Iterable[float],
    intensities: Iterable[str],
    styles: Iterable[str] = ("NO",),
    timbres: Iterable[int] = (1,),
) -> list[Variant]:
    """List all variants, times in the outermost order and timbres in the innermost."""
    return [Variant(*choice) for choice in itertools.product(times, intensities, styles, timbres)]


def count(variants: Sequence[Variant], sources: int) -> int:
    """Return the number of combinations for so many sources, at least 1."""
    n = len(variants)
    if n >= sources:
        return math.perm(n, sources)
    loud = len({(v.time, v.intensity) for v in variants})
    return n**sources - loud * (n // loud) ** sources or 1


def sample(
    variants: Sequence[Variant], sources: int, size: int, rng: np.random.Generator
) -> list[tuple[int, tuple[Variant, ...]]]:
    """Choose `size` combinations at random, all if there are no more: (number, combination).

    The combinations are numbered in the order of `itertools.permutations` or `itertools.product`,
    and never all in memory. A larger `size` adds combinations to those of a smaller one.

    Raises:
        UserError: if there are 2^63 combinations or more.
    """
    n = len(variants)
    total = math.perm(n, sources) if n >= sources else n**sources
    if total >= MOST:
        raise UserError(f"{n} variants of {sources} sources are too many; choose fewer")
    there = count(variants, sources)
    if there == 1:
        return [(0, (variants[0],) * sources)]
    numbers: Iterable[int] = range(total) if size >= there else distinct(total, rng)
    found = ((number, arrangement(variants, sources, number)) for number in numbers)
    kept = (pair for pair in found if n >= sources or _differ(pair[1]))
    return list(itertools.islice(kept, size))


def _differ(combination: Sequence[Variant]) -> bool:
    return len({(v.time, v.intensity) for v in combination}) > 1


def arrangement(items: Sequence[Item], places: int, number: int) -> tuple[Item, ...]:
    """Return one of the ways to fill places with items, by its number.

    Items are not repeated if there are enough of them: number is the index in
    `itertools.permutations(items, places)`, else in `itertools.product(items, repeat=places)`.
    """
    left, repeat = list(items), len(items) < places
    chosen = []
    for after in range(places - 1, -1, -1):
        size = len(left) ** after if repeat else math.perm(len(left) - 1, after)
        place, number = divmod(number, size)
        chosen.append(left[place] if repeat else left.pop(place))
    return tuple(chosen)


def distinct(total: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield all of 0..total-1 in random order; memory grows with what was yielded."""
    seen: set[int] = set()
    while len(seen) < total:
        for number in rng.integers(total, size=1024).tolist():
            if number not in seen:
                seen.add(number)
                yield number


def score_name(path: str) -> str:
    """Return the name of a piece: that of its folder, or of its file without the ending."""
    is_folder = not path.startswith(CORPUS) and Path(path).is_dir()
    return Path(path).resolve().name if is_folder else piece_name(path)


def combine_scores(
    scores: Iterable[str], sources: Sequence[str], variants: Sequence[Variant], size: int, seed: int
) -> list[Combination]:
    """Choose at most `size` combinations of every score."""
    return [
        Combination(path, number, tuple(sources), combination)
        for path in scores
        for number, combination in sample(
            variants, len(sources), size, random(seed, "combinations", score_name(path))
        )
    ]
