"""What a separator is: the contract of a network of mixtures, and of its row in the table.

A network maps magnitudes of a mixture `[batch, plane, frame, bin]` to those of its sources
`[batch, source, channel, frame, bin]`, all non-negative and linear. The planes are the channels of
the mixture, or, for networks informed by a score, the mixture filtered by the score of each source.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from gensep.cli.options import Scalar
from gensep.cli.records import Json

if TYPE_CHECKING:  # commands read the table for their options, without waiting for JAX
    import jax
    from flax import nnx

# `settings` of a separator file: `network` (a key of SEPARATORS), `sources` (names), `spectra`
# (fields of gensep.representation.magnitude.Spectra), and what the row of the network reads
Settings = Json


class Separator(Protocol):
    """What a network is."""

    def __call__(self, mixture: "jax.Array") -> "jax.Array":
        """Return `[batch, source, channel, frame, bin]` for `mixture: [batch, plane, frame, bin]`.

        Both are magnitudes, on a linear scale.
        """


@runtime_checkable
class Trainable(Separator, Protocol):
    """A network that works in another way while it is trained."""

    def in_training(
        self, mixture: "jax.Array", key: "jax.Array"
    ) -> tuple["jax.Array", "Separator"]:
        """Return estimates with dropout and statistics of the batch, and the moved network."""


@runtime_checkable
class Measuring(Separator, Protocol):
    """A network with statistics of its training data, which are measured before training."""

    def measured(self, examples: Iterable[tuple["jax.Array", "jax.Array"]]) -> "Separator":
        """Return the network for data like the examples: batches of mixtures and their sources."""


@runtime_checkable
class Streaming(Separator, Protocol):
    """A network that can go on where it stopped, if it looks only backwards."""

    @property
    def streams(self) -> bool:
        """Whether it can: no estimate depends on later frames."""

    def stream(self, mixture: "jax.Array", states: Any = None) -> tuple["jax.Array", Any]:
        """Return estimates, and the states to give with the frames that follow."""


def in_training(
    network: Separator, mixture: "jax.Array", key: "jax.Array"
) -> tuple["jax.Array", Separator]:
    """Return estimates as in training, and the network with its running statistics moved.

    Networks with dropout or batch normalisation have a method `in_training(mixture, key)` that does
    so; others are applied as they are.
    """
    if isinstance(network, Trainable):
        return network.in_training(mixture, key)
    return network(mixture), network


class Family(NamedTuple):
    """A row of the table: how a network is built, trained and applied."""

    build: Callable[[Settings, "nnx.Rngs"], Separator]
    spectra: Mapping[str, str | int]  # default fields of Spectra
    sources: tuple[str, ...]  # by default
    loss: str  # a row of gensep.separators.losses.LOSSES
    frames: int | None = None  # of the window that the network takes; None: any number
    overlap: int = 0  # frames by which windows overlap when a file is separated
    context: int = 0  # frames on either side that a network of any length should see as well
    # settings that the network reads, with their defaults; options of gensep.train_separator
    defaults: Mapping[str, Scalar | None] = MappingProxyType({})
    sums: bool = False  # the estimates add up to the mixture
    scored: bool = False  # its planes are the mixture filtered by the score of each source
