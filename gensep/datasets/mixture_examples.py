"""What separators are trained on: magnitudes of mixtures and of their sources."""

from collections.abc import Iterator
from typing import Protocol

import jax
import numpy as np

from gensep.representation.magnitude import Spectra


class MixtureExamples(Protocol):
    """Training and validation examples of one data set of mixtures with their sources."""

    @property
    def spectra(self) -> Spectra:
        """The transform."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, in the order of the axis."""

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Return raw training examples, a pure function of the arguments; leading axis `size`."""

    def inputs(self, key: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the mixture and its sources, as magnitudes; traced.

        The mixture is `[batch, plane, frame, bin]` and the sources are
        `[batch, source, channel, frame, bin]`. What needs no more than the raw examples and a key
        to be varied at random is varied here.
        """

    def held_out(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield validation examples, not varied, like `inputs` but of one song each, batch 1."""
