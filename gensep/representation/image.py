"""What the priors of images see."""

from dataclasses import dataclass

LEVELS = 256


@dataclass(frozen=True)
class ImageForm:
    """Images `[height, width, channels]` of one data set, in model units of 0 to 1.

    An integer v of 0..255 becomes (v + u) / 256, u uniform in [0, 1), or 1/2 where nothing random
    is wanted.
    """

    name: str
    height: int
    width: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.height, self.width, self.channels
