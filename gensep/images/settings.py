"""Settings of the sampling and judging of mixed images, and the table of presets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gensep.runtime.errors import UserError
from gensep.separation.settings import SamplerSettings

if TYPE_CHECKING:
    import numpy as np

# judge -> noise levels at which it compares posterior samples, one draw of noise per entry.
# Denoising errors separate candidates at high noise, exact densities at low noise; a single draw
# at low noise is too random, hence sixteen
JUDGES: dict[str, tuple[float, ...]] = {
    "denoising": (1.0, 0.5, 0.25),
    "likelihood": (0.05,) * 16,
}


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
    judge: str = "denoising"  # or likelihood, for priors that know their density
    judges: tuple[float, ...] | None = None  # noise levels of the judge; None: those of JUDGES
    temperature: float = 3.0  # of the weights; 0 takes the likeliest sample, inf makes all equal

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.judge not in JUDGES:
            raise UserError(f"judge must be {' or '.join(JUDGES)}, not '{self.judge}'")
        if self.tau <= 0 or self.temperature < 0 or any(sigma <= 0 for sigma in self.judged_at):
            raise UserError(
                "expected tau > 0, a temperature >= 0 and judges at noise levels > 0, not "
                f"{self.tau}, {self.temperature} and {self.judged_at}"
            )

    @property
    def weighed(self) -> bool:
        """Whether samples are judged before they are averaged."""
        return self.samples > 1 and bool(self.judged_at) and math.isfinite(self.temperature)

    @property
    def judged_at(self) -> tuple[float, ...]:
        """Noise levels at which samples are weighed."""
        return JUDGES[self.judge] if self.judges is None else self.judges

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
