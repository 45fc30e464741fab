"""Settings of the sampling and judging of mixed images, and the table of presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gensep.runtime.errors import UserError
from gensep.separation.settings import SamplerSettings

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class ImageSettings(SamplerSettings):
    """How images are sampled; every field affects the result."""

    sampler: str = "mmps-cg1"
    steps: int = 35
    samples: int = 2
    schedule: str = "karras"  # or geometric
    sigma_min: float = 0.05
    rho: float = 3.0
    tau: float = 0.01  # standard deviation of the observation, model units

    kind: ClassVar[str] = "images"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau <= 0:
            raise UserError(f"expected tau > 0, not {self.tau}")

    def levels(self) -> "np.ndarray":
        """Return the noise levels, largest first."""
        from score import geometric

        if self.schedule == "geometric":
            return geometric(self.steps, self.sigma_min, self.sigma_max)
        return super().levels()


# name -> the settings that it changes
IMAGE_PRESETS: dict[str, dict[str, str | int]] = {
    "fast": {"steps": 12, "samples": 1},
    "default": {},
    "best": {"steps": 40, "samples": 6},
}


def make_image_settings(preset: str, changes: Mapping[str, str | float]) -> ImageSettings:
    """Return the settings of a preset with some fields changed."""
    return ImageSettings(**{**IMAGE_PRESETS[preset], **changes})  # type: ignore[arg-type]
