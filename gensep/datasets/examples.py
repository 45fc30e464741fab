"""What priors are trained and judged on: examples of one data set in model units."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gensep.representation.form import Form

VALID_SEED = 7919  # held-out examples are the same in every run and at every step
Options = Any  # a TrainingConfig of gensep.training.options, which rooms above this one define


class Examples(Protocol):
    """Training and held-out examples of one data set, `[batch, ..., features]` in model units."""

    @property
    def form(self) -> Form:
        """What the arrays mean."""

    @property
    def features(self) -> int:
        """Size of the last axis."""

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Return raw training examples: a pure function of the arguments."""

    def inputs(self, key: jax.Array, raw: jax.Array) -> jax.Array:
        """Vary raw examples at random and encode them in model units; traced."""

    def held_out(self) -> np.ndarray:
        """Return fixed validation examples in model units."""


class Request(NamedTuple):
    """Which unvaried examples of a data set are read."""

    examples: int  # how many; images are fewer if the set has no more
    seed: int = 0  # of the choice and of the noise that dequantises
    split: str | None = None  # by default "test" of images, "valid" of spectrograms
    frames: int = 64  # of a window
    data_dir: str | None = None  # folder with the files of a set of images
    form: Form | None = None  # that the examples must have, as a prior's; by default the data's own
    dequantise: bool = False  # fill integers by uniform noise rather than by 1/2


class Selection(NamedTuple):
    """Unvaried examples and what they mean."""

    x: np.ndarray  # float32 [example, ..., features], model units
    form: Form


def measured(examples: Examples) -> jax.Array:
    """Return 1,024 varied training examples to be measured, the same ones every time."""
    return jax.jit(examples.inputs)(jax.random.key(0), examples.batch(VALID_SEED, 0, 1024))


def extent(examples: Examples) -> tuple[list[float], list[float]]:
    """Measure the least and the largest value of every feature in varied training examples."""
    x = measured(examples)
    axes = tuple(range(x.ndim - 1))
    return x.min(axes).tolist(), x.max(axes).tolist()


def moments(examples: Examples) -> tuple[list[float], float]:
    """Measure the mean of every feature, and one standard deviation about these means."""
    x = measured(examples)
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    sd = float(jnp.sqrt(((x - jnp.expand_dims(mean, axes)) ** 2).mean()))
    return [round(float(m), 4) for m in mean], round(sd, 4)
