"""Mixtures of images: which images are mixed, how, and what problem that is to a sampler."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from basis import Linear, Problem
from basis.rotated import Rotated, sum_and_differences
from gensep.representation.image import PIXEL_VALUES

HIDDEN = 1e12  # variance of what is not observed


class Mix(Protocol):
    """A way to mix images `[source, n, height, width, channels]` in model units."""

    @property
    def sources(self) -> int:
        """Sources of a mixture."""
        ...

    def observe(self, images: np.ndarray) -> np.ndarray:
        """Give mixtures `[n, height, width, channels]` as the problem takes them."""
        ...

    def problem(self, priors: tuple[Any, ...], mixture: Any, tau: float) -> Problem:
        """Make the problem of mixtures `[n, ...]` that were observed with noise `tau`."""
        ...

    def images(self, sources: np.ndarray) -> np.ndarray:
        """Give sources of the problem as images, like `observe` took them."""
        ...

    def unprocessed(self, mixture: np.ndarray) -> np.ndarray:
        """Give what the mixture itself is worth as an estimate, `[source, n, ...]`."""
        ...

    def picture(self, mixture: np.ndarray) -> np.ndarray:
        """Give mixtures as images that can be looked at."""
        ...


@dataclass(frozen=True)
class Weighted:
    """All sources times one gain, added up."""

    gain: float
    sources: int = 2

    def observe(self, images: np.ndarray) -> np.ndarray:
        """Mix."""
        return self.gain * images.sum(0)

    def problem(self, priors: tuple[Any, ...], mixture: Any, tau: float) -> Problem:
        """Make the problem."""
        gains = jnp.full(len(priors), self.gain)
        return Problem(priors, Linear(gains), mixture, jnp.asarray(tau**2))

    def images(self, sources: np.ndarray) -> np.ndarray:
        """Give the sources as they are."""
        return sources

    def unprocessed(self, mixture: np.ndarray) -> np.ndarray:
        """Give the mixture in place of every source."""
        return np.stack([mixture] * self.sources)

    def picture(self, mixture: np.ndarray) -> np.ndarray:
        """Give the average of the sources."""
        return mixture / (self.gain * self.sources)


@dataclass(frozen=True)
class Grey:
    """One image of which the mean over its channels is seen: colour is to be found.

    The problem lives in the coordinates of `basis.rotated`: the first is seen, the others are not.
    """

    sources: int = 1

    def observe(self, images: np.ndarray) -> np.ndarray:
        """Give the first coordinate, and zeros for the others."""
        seen = np.zeros_like(images[0])
        seen[..., 0] = images[0].mean(-1) * np.sqrt(images.shape[-1])
        return seen

    def problem(self, priors: tuple[Any, ...], mixture: Any, tau: float) -> Problem:
        """Make the problem; `tau` is of the mean."""
        channels = mixture.shape[-1]
        axes = sum_and_differences(channels)
        variance = jnp.full(channels, HIDDEN).at[0].set(channels * tau**2)
        rotated = tuple(Rotated(prior, axes) for prior in priors)
        return Problem(rotated, Linear(jnp.ones(1)), mixture, variance)

    def images(self, sources: np.ndarray) -> np.ndarray:
        """Give colours."""
        return sources @ np.asarray(sum_and_differences(sources.shape[-1]))

    def unprocessed(self, mixture: np.ndarray) -> np.ndarray:
        """Give the grey image."""
        return self.picture(mixture)[None]

    def picture(self, mixture: np.ndarray) -> np.ndarray:
        """Give the grey image in all channels."""
        channels = mixture.shape[-1]
        return np.repeat(mixture[..., :1] / np.sqrt(channels), channels, -1)


# a new way to mix is one row
MIXES: dict[str, Mix] = {"average": Weighted(0.5), "sum": Weighted(1.0), "grey": Grey()}


class Chosen(NamedTuple):
    """Images that were chosen to be mixed."""

    truth: np.ndarray  # float32 [source, n, height, width, channels], model units
    places: np.ndarray  # int [source, n], in the set
    labels: np.ndarray  # int [source, n]


def choose(
    images: np.ndarray, labels: np.ndarray, sources: int, n: int, seed: int, *, split: bool
) -> Chosen:
    """Choose `n` mixtures of different images by a seed; the first m of n are those of m.

    Args:
        images: uint8 `[image, height, width, channels]`.
        labels: `[image]`.
        sources: of a mixture.
        n: mixtures; an image comes in a second one only where there are too few.
        seed: of the choice.
        split: the first source from the first part of the classes, the second from the second, as
            0-4 and 5-9 of ten; otherwise from all.

    Raises:
        ValueError: where a part has no images, or fewer than a mixture needs.
    """
    part = labels * sources // (int(labels.max()) + 1) if split else np.zeros_like(labels)
    rows = []
    for k in range(sources):
        pool = np.flatnonzero(part == (k if split else 0))
        per_round = len(pool) if split else len(pool) // sources
        if per_round < 1:
            raise ValueError(f"too few images to mix {sources} of them")
        decks = [
            np.random.default_rng((seed, k if split else 0, i)).permutation(pool)
            for i in range(-(-n // per_round))
        ]
        # without classes the sources take turns in one deck, so that no image meets itself
        dealt = [deck if split else deck[k : per_round * sources : sources] for deck in decks]
        rows.append(np.concatenate(dealt)[:n])
    index = np.stack(rows)
    return Chosen(((images[index] + 0.5) / PIXEL_VALUES).astype(np.float32), index, labels[index])
