"""Songs with their stems on disk; nothing is read until it is asked for."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gensep.audio.excerpt import Excerpt
from gensep.audio.files import Shape
from gensep.runtime.errors import UserError
from gensep.runtime.spool import Spool, spooled


class Song(NamedTuple):
    """A piece of music with its stems, sorted by name.

    Where there is no mixture, the sum of the stems is the mixture.
    """

    name: str
    mixture: Excerpt | None
    stems: dict[str, Excerpt]
    split: str = ""  # the folder between the root and the song: train, test, Dev, ...

    def part(self, start: float = 0.0, duration: float | None = None) -> "Song":
        """Return the song from `start` seconds on, for `duration` seconds at most."""
        return self._replace(
            mixture=self.mixture and self.mixture.part(start, duration),
            stems={name: stem.part(start, duration) for name, stem in self.stems.items()},
        )

    def shape(self) -> Shape:
        """Return rate, channels and samples, which all stems share.

        Raises:
            UserError: if stems differ in rate, channels or length.
        """
        first, *rest = shapes = {name: stem.shape() for name, stem in self.stems.items()}
        for name in rest:
            if shapes[name] != shapes[first]:
                both = f"{first} has {shapes[first]}, {name} {shapes[name]}"
                raise UserError(f"{self.name}: {both}; make the stems alike")
        return shapes[first]

    def mixture_blocks(self) -> Iterator[np.ndarray]:
        """Read the mixture, or the sum of the stems, in float32 blocks `[channels, samples]`."""
        if self.mixture is not None:
            return self.mixture.blocks()
        together = zip(*(stem.blocks() for stem in self.stems.values()), strict=True)
        return (np.sum(blocks, axis=0) for blocks in together)

    def to_disk(self) -> tuple[Spool, Spool]:
        """Copy stems and mixture to disk: `[source, channel, samples]`, `[1, channel, samples]`.

        The mixture is cut, or padded with zeros, to the length of the stems.

        Raises:
            UserError: if stems differ in rate, channels or length.
        """
        _, *shape = self.shape()
        stems = spooled([stem.blocks() for stem in self.stems.values()], *shape)
        return stems, spooled([self.mixture_blocks()], *shape)
