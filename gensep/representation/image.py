"""Images in model units: what priors of images are trained on."""

from dataclasses import dataclass
from typing import ClassVar, TypeVar

import jax
import numpy as np
from jax.typing import ArrayLike

PIXEL_VALUES = 256  # an integer pixel has a value of 0..255

Pixels = TypeVar("Pixels", np.ndarray, jax.Array)


@dataclass(frozen=True)
class ImageForm:
    """Images `[height, width, channels]` of one data set, in model units of 0 to 1.

    Satisfies `gensep.representation.form.Form`.
    """

    name: str
    height: int
    width: int
    channels: int

    key: ClassVar[str] = "images"
    picture: ClassVar[str] = "images"
    unit: ClassVar[str] = "bits/dim"  # an upper bound of the bits of integer pixels
    audible: ClassVar[bool] = False
    discrete: ClassVar[bool] = True
    rescale: ClassVar[bool] = True

    @property
    def features(self) -> int:
        """Size of the last axis: the channels."""
        return self.channels

    def shape(self, frames: int = 0) -> tuple[int, int, int]:
        """Return height, width and channels; images have no frames."""
        return self.height, self.width, self.channels

    def describe(self) -> str:
        """Return what the examples are, for messages."""
        return f"images of {self.height} x {self.width} x {self.channels}"

    def encode(self, pixels: Pixels, fill: ArrayLike = 0.5) -> Pixels:
        """Convert integers v of 0..255 to model units (v + fill) / 256, same shape.

        To dequantise, `fill` is uniform noise in [0, 1), shaped like `pixels`.
        """
        return (pixels + fill) / PIXEL_VALUES

    def in_unit(self, nats: ArrayLike) -> np.ndarray:
        """Convert nats per dimension in model units to bits per dimension of pixels."""
        return np.asarray(nats) / np.log(2) + np.log2(PIXEL_VALUES)

    def describe_noise(self, sigma: float) -> str:
        """Return a noise level in steps of the pixels."""
        return f"{sigma * PIXEL_VALUES:.2f} of 255"
