"""What separates: a method, which makes the stems of a mixture, and the sounds it is given."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from gensep.audio.files import Shape, mid_stream
from gensep.cli.records import Json
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.separation.collected import Masks

Progress = Callable[[int, int], None]  # called with what is done and how much there is in all


class Sound(Protocol):
    """A mixture that can be read several times, such as `gensep.audio.excerpt.Excerpt`."""

    @property
    def start(self) -> float:
        """Seconds of the recording before the mixture begins."""

    def shape(self) -> Shape:
        """Return rate, channels and samples."""

    def blocks(self) -> Iterator[np.ndarray]:
        """Read float32 blocks `[channel, n]`."""

    def mid(self, rate: int) -> Iterator[np.ndarray]:
        """Read the mean of the channels, resampled to `rate` Hz, in float32 blocks `[n]`."""


class Wave(NamedTuple):
    """A mixture in memory, a `Sound`."""

    channels: np.ndarray  # float32 [channel, samples]
    rate: int
    start: float = 0.0

    def shape(self) -> Shape:
        """Return rate, channels and samples."""
        return Shape(self.rate, *self.channels.shape)

    def blocks(self) -> Iterator[np.ndarray]:
        """Give the whole at once."""
        return iter([self.channels])

    def mid(self, rate: int) -> Iterator[np.ndarray]:
        """Give the mean of the channels at `rate` Hz, in blocks `[n]`."""
        return mid_stream([self.channels], self.rate, rate)


@dataclass
class Separated:
    """What a method makes of one mixture."""

    blocks: Iterator[np.ndarray]  # float32 [source, channel, n], made as they are read
    facts: Json = field(default_factory=dict)  # for the record, whole when all blocks are read
    masks: Masks | None = None  # of methods that apply masks of mel bands
    power: np.ndarray | None = None  # of the mixture, [frame, mel], where there are masks
    levels_db: np.ndarray | None = None  # noise levels that the masks were sampled at, if any


class Method(Protocol):
    """A way to separate. It is prepared once, and used for any number of mixtures."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources."""

    @property
    def form(self) -> Representation:
        """Representation of pictures and of the oracle that scores are compared with."""

    @property
    def masked(self) -> bool:
        """Whether the sources are the mixture under masks of mel bands, which can be kept."""

    @property
    def settings(self) -> Json:
        """What decides the result besides the options of a command, for the record."""

    def separate(self, mixture: Sound, progress: Progress) -> Separated:
        """Separate a mixture.

        Raises:
            UserError: if the method cannot be applied to this mixture.
        """


def wave_of(audio: np.ndarray, rate: int) -> Wave:
    """Return a mixture in memory, `[samples]` or `[channel, samples]`.

    Raises:
        UserError: if it is empty, has other axes, or holds NaN or Inf.
    """
    audio = np.asarray(audio, np.float32)
    if audio.ndim not in (1, 2) or not audio.size:
        raise UserError(
            "expected audio [samples] or [channels, samples] with at least one "
            f"sample, got shape {audio.shape}"
        )
    if not np.isfinite(audio).all():
        raise UserError("audio holds values that are not finite; repair it first")
    return Wave(audio[None] if audio.ndim == 1 else audio, rate)
