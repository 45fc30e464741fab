"""Mixtures of images: which images are mixed, how, and the problem that a sampler solves."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from basis import Linear, Prior, Problem
from basis.rotated import Rotated, sum_and_differences
from gensep.representation.image import PIXEL_VALUES
from gensep.runtime.errors import UserError

HIDDEN = 1e12  # variance of coordinates that are not observed


@dataclass(frozen=True)
class Weighted:
    """The sum of all sources times one gain, for images `[source, n, height, width, channels]`."""

    gain: float
    sources: int = 2  # of a mixture

    def observe(self, images: np.ndarray) -> np.ndarray:
        """Return mixtures `[n, height, width, channels]` as the problem takes them."""
        return self.gain * images.sum(0)

    def problem(self, priors: tuple[Prior, ...], mixture: jax.Array, tau: ArrayLike) -> Problem:
        """Make the problem of mixtures `[n, ...]`, observed with noise of deviation `tau`."""
        gains = jnp.full(len(priors), self.gain)
        return Problem(priors, Linear(gains), mixture, jnp.asarray(tau**2))

    def images(self, sources: np.ndarray) -> np.ndarray:
        """Convert sources of the problem to images as `observe` takes them, same shape."""
        return sources

    def unprocessed(self, mixture: np.ndarray) -> np.ndarray:
        """Return the mixture itself as an estimate of every source, `[source, n, ...]`."""
        return np.stack([mixture] * self.sources)

    def picture(self, mixture: np.ndarray) -> np.ndarray:
        """Convert mixtures to images of 0 to 1 that can be shown."""
        return mixture / (self.gain * self.sources)


@dataclass(frozen=True)
class Grey:
    """One image of which the mean over its channels is observed: its colours are to be found.

    The problem has the coordinates of `basis.rotated`, of which the first is observed.
    """

    sources: int = 1

    def observe(self, images: np.ndarray) -> np.ndarray:
        """Return the first coordinate, and zeros for the others."""
        seen = np.zeros_like(images[0])
        seen[..., 0] = images[0].mean(-1) * np.sqrt(images.shape[-1])
        return seen

    def problem(self, priors: tuple[Prior, ...], mixture: jax.Array, tau: ArrayLike) -> Problem:
        """Make the problem; `tau` is the deviation of the observed mean."""
        channels = mixture.shape[-1]
        axes = sum_and_differences(channels)
        variance = jnp.full(channels, HIDDEN).at[0].set(channels * tau**2)
        rotated = tuple(Rotated(prior, axes) for prior in priors)
        return Problem(rotated, Linear(jnp.ones(1)), mixture, variance)

    def images(self, sources: np.ndarray) -> np.ndarray:
        """Return the colours."""
        return sources @ np.asarray(sum_and_differences(sources.shape[-1]))

    def unprocessed(self, mixture: np.ndarray) -> np.ndarray:
        """Return the grey image."""
        return self.picture(mixture)[None]

    def picture(self, mixture: np.ndarray) -> np.ndarray:
        """Return the grey image in all channels."""
        channels = mixture.shape[-1]
        return np.repeat(mixture[..., :1] / np.sqrt(channels), channels, -1)


Mix = Weighted | Grey  # a further way to mix is a class with these methods, and a row
MIXES: dict[str, Mix] = {"average": Weighted(0.5), "sum": Weighted(1.0), "grey": Grey()}


class Chosen(NamedTuple):
    """Images that are mixed."""

    truth: np.ndarray  # float32 [source, n, height, width, channels], model units
    places: np.ndarray  # int [source, n], numbers of the images in the set
    labels: np.ndarray  # int [source, n]


def choose(
    images: np.ndarray, labels: np.ndarray, sources: int, n: int, seed: int, *, split: bool
) -> Chosen:
    """Choose `n` mixtures of different images by a seed; the first mixtures do not depend on `n`.

    The images are uint8 `[image, height, width, channels]`, their labels `[image]`. An image is in
    two mixtures only where there are too few. With `split` each source comes from its own share of
    the classes, e.g. 0-4 and 5-9 of ten.

    Raises:
        UserError: if a share of the classes has no images, or fewer than a mixture needs.
    """
    share = labels * sources // (int(labels.max()) + 1) if split else np.zeros_like(labels)
    rows = []
    for k in range(sources):
        pool = np.flatnonzero(share == (k if split else 0))
        per_round = len(pool) if split else len(pool) // sources
        if per_round < 1:
            raise UserError(f"too few images to mix {sources} of them")
        decks = [
            np.random.default_rng((seed, k if split else 0, i)).permutation(pool)
            for i in range(-(-n // per_round))
        ]
        # without split the sources share one deck, so that no image is mixed with itself
        dealt = [deck if split else deck[k : per_round * sources : sources] for deck in decks]
        rows.append(np.concatenate(dealt)[:n])
    index = np.stack(rows)
    return Chosen(((images[index] + 0.5) / PIXEL_VALUES).astype(np.float32), index, labels[index])
