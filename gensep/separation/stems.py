"""Which stems are written: some of the sources, sums of them, and what is left of the mixture."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gensep.cli.options import StemChoice
from gensep.runtime.errors import UserError


class Stem(NamedTuple):
    """A stem: a sum of sources, or the mixture without them."""

    name: str
    sources: tuple[int, ...]
    rest: bool = False  # the mixture minus the sum


class Stems(NamedTuple):
    """The stems of a separation."""

    each: tuple[Stem, ...]
    sources: tuple[str, ...]  # of the method

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the stems."""
        return tuple(stem.name for stem in self.each)

    @property
    def derived(self) -> tuple[str, ...]:
        """Names of the stems that are no source of the method."""
        return tuple(s.name for s in self.each if s.rest or s.name not in self.sources)

    @property
    def of_mixture(self) -> bool:
        """Whether a stem is what is left of the mixture."""
        return any(stem.rest for stem in self.each)

    def mix(self, sources: np.ndarray, mixture: np.ndarray) -> np.ndarray:
        """Return the stems `[stem, channel, n]` of `[source, channel, n]` and `[channel, n]`."""
        sums = [sources[list(stem.sources)].sum(0) for stem in self.each]
        pairs = zip(self.each, sums, strict=True)
        return np.stack([mixture - total if stem.rest else total for stem, total in pairs])


def choose_stems(names: Sequence[str], choice: StemChoice = StemChoice()) -> Stems:  # noqa: B008, frozen
    """Return the stems that `choice` asks for, of a method that gives these sources.

    What is left of a mixture is called accompaniment if the only source is vocals, else residual.

    Raises:
        UserError: for an unknown source, options that exclude each other, or two stems of one name.
    """
    targets = choice.targets or tuple(names)
    if choice.two_stems is not None:
        if choice.targets or choice.aggregate or choice.residual:
            raise UserError(
                "two_stems already says which stems there are; leave targets, aggregate and "
                "residual away"
            )
        one = _place(choice.two_stems, names, "two_stems")
        stems = [Stem(choice.two_stems, (one,)), Stem(f"no_{choice.two_stems}", (one,), rest=True)]
        return Stems(tuple(stems), tuple(names))
    chosen = [_place(name, names, "targets") for name in targets]
    sums = [_aggregate(text, names, targets) for text in choice.aggregate]
    joined = {source for one in sums for source in one.sources}
    stems = [Stem(names[i], (i,)) for i in chosen if i not in joined] + sums
    if choice.residual:
        only = targets[0] if len(targets) == 1 else ""
        name = "accompaniment" if only == "vocals" else "residual"
        stems.append(Stem(name, tuple(chosen), rest=True))
    found = Stems(tuple(stems), tuple(names))
    if len(set(found.names)) < len(found.names):
        raise UserError(f"two stems have one name: {', '.join(found.names)}; rename one")
    return found


def _aggregate(text: str, names: Sequence[str], targets: Sequence[str]) -> Stem:
    name, equals, parts = text.partition("=")
    listed = [part.strip() for part in parts.split(",") if part.strip()]
    if not (name.strip() and equals and listed):
        raise UserError(
            f"aggregate must be NAME=SOURCE,SOURCE, such as accompaniment=drums,bass, not '{text}'"
        )
    places = [_place(part, names, "aggregate") for part in listed]
    if away := [part for part in listed if part not in targets]:
        raise UserError(f"aggregate needs {away[0]}, which is not among the targets; add it there")
    return Stem(name.strip(), tuple(dict.fromkeys(places)))


def _place(name: str, names: Sequence[str], option: str) -> int:
    if name not in names:
        raise UserError(f"{option}: there is no source {name}; the model gives {', '.join(names)}")
    return list(names).index(name)
