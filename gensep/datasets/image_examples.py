"""Images as training examples: pixels dequantised afresh at every step."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gensep.datasets.examples import VALID_SEED
from gensep.datasets.images import SETS, load_images
from gensep.representation.image import LEVELS, ImageForm


def open_image_examples(c: Any) -> "ImageExamples":
    """Open the set of images named `c.data` in `c.data_dir`."""
    train, valid = (
        load_images(c.data, split, c.data_dir, download=c.download)[0]
        for split in ("train", "valid")
    )
    return ImageExamples(ImageForm(c.data, *SETS[c.data].shape), train, valid[: c.valid_windows])


class ImageExamples:
    """Examples `[height, width, channels]`; satisfies gensep.datasets.examples.Examples."""

    def __init__(self, form: ImageForm, train: np.ndarray, valid: np.ndarray):
        self.form, self.features = form, form.channels
        self.train, self.valid = train, valid

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Give images of bytes, uniformly drawn."""
        return self.train[np.random.default_rng((seed, step)).integers(len(self.train), size=size)]

    def inputs(self, key: jax.Array, raw: jax.Array) -> jax.Array:
        """Dequantise bytes v, x = (v + u) / 256 with u uniform in [0, 1)."""
        return (raw + jax.random.uniform(key, raw.shape)) / LEVELS

    def held_out(self) -> np.ndarray:
        """Give validation images with fixed u."""
        return np.asarray(self.inputs(jax.random.key(VALID_SEED), jnp.asarray(self.valid)))

    def plot(self, path: Path, rows: dict[str, np.ndarray]) -> None:
        """Draw rows of images."""
        from gensep.plots.images import plot_images

        plot_images(path, rows)
