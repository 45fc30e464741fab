"""What score priors are trained on: one object a kind of data, found by the name of the data."""

from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

VALID_SEED = 7919  # held-out examples are the same in every run and at every step


class Examples(Protocol):
    """Training and held-out examples of one data set, `[batch, ..., features]` in model units."""

    form: Any  # what the arrays mean, a row of gensep.priors.files.FORMS
    features: int  # size of the last axis

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Give raw training examples: a pure function of the arguments."""
        ...

    def inputs(self, key: jax.Array, raw: jax.Array) -> jax.Array:
        """Vary and encode raw examples into model units; traced."""
        ...

    def held_out(self) -> np.ndarray:
        """Give fixed validation examples in model units."""
        ...

    def plot(self, path: Path, rows: dict[str, np.ndarray]) -> None:
        """Draw rows of examples under their titles."""
        ...


def draw(examples: Examples) -> jax.Array:
    """Draw varied training examples to be measured, the same ones every time."""
    return jax.jit(examples.inputs)(jax.random.key(0), examples.batch(VALID_SEED, 0, 1024))


def extent(examples: Examples) -> tuple[list[float], list[float]]:
    """Measure the least and the largest value of every feature in varied training examples."""
    drawn = draw(examples)
    axes = tuple(range(drawn.ndim - 1))
    return drawn.min(axes).tolist(), drawn.max(axes).tolist()


def moments(examples: Examples) -> tuple[list[float], float]:
    """Measure the mean of every feature and the sd about it of varied training examples."""
    drawn = draw(examples)
    mean = drawn.mean(tuple(range(drawn.ndim - 1)))
    sd = float(jnp.sqrt(((drawn - mean) ** 2).mean()))
    return [round(float(m), 4) for m in mean], round(sd, 4)
