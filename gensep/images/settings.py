"""Settings of the sampling and judging of mixed images, and the table of presets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gensep.runtime.errors import UserError
from gensep.separation.samplers import check_sampler, make_kernel

if TYPE_CHECKING:
    import numpy as np

    from basis import Kernel

# judge -> noise levels at which it compares posterior samples, one draw of noise per entry.
# Denoising errors separate candidates at high noise, exact densities at low noise; a single draw
# at low noise is too random, hence sixteen
JUDGES: dict[str, tuple[float, ...]] = {
    "denoising": (1.0, 0.5, 0.25),
    "likelihood": (0.05,) * 16,
}


@dataclass(frozen=True)
class ImageSettings:
    """How images are sampled; every field affects the result.

    Raises:
        UserError: for values out of range.
    """

    sampler: str = "mmps-cg1"
    steps: int = 35  # noise levels
    samples: int = 2
    constraint: str = "soft"
    schedule: str = "karras"  # or geometric
    rho: float = 3.0  # of the schedule of Karras et al.
    sigma_max: float = 2.0
    sigma_min: float = 0.05
    tau: float = 0.01  # standard deviation of the observation, model units
    judge: str = "denoising"  # or likelihood, for priors that know their density
    judges: tuple[float, ...] | None = None  # noise levels of the judge; None: those of JUDGES
    temperature: float = 3.0  # of the weights; 0 takes the likeliest sample, inf makes all equal
    seed: int = 0

    def __post_init__(self) -> None:
        check_sampler(self.sampler, self.constraint)
        for name in ("steps", "samples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (0 < self.sigma_min <= self.sigma_max and self.tau > 0 and self.rho > 0):
            raise UserError(
                "expected 0 < sigma_min <= sigma_max, tau > 0 and rho > 0, not "
                f"{self.sigma_min}, {self.sigma_max}, {self.tau} and {self.rho}"
            )
        if self.judge not in JUDGES:
            raise UserError(f"judge must be {' or '.join(JUDGES)}, not '{self.judge}'")
        if self.temperature < 0 or any(sigma <= 0 for sigma in self.judged_at):
            raise UserError(
                "expected a temperature >= 0 and judges at noise levels > 0, not "
                f"{self.temperature} and {self.judged_at}"
            )

    @property
    def weighed(self) -> bool:
        """Whether samples are judged before they are averaged."""
        return self.samples > 1 and bool(self.judged_at) and math.isfinite(self.temperature)

    @property
    def judged_at(self) -> tuple[float, ...]:
        """Noise levels at which samples are weighed."""
        return JUDGES[self.judge] if self.judges is None else self.judges

    def kernel(self) -> "Kernel":
        """Make the kernel of the sampler."""
        return make_kernel(self.sampler, self.constraint)

    def levels(self) -> "np.ndarray":
        """Return the noise levels, largest first."""
        from score import geometric, karras

        if self.schedule == "geometric":
            return geometric(self.steps, self.sigma_min, self.sigma_max)
        return karras(self.steps, self.sigma_min, self.sigma_max, self.rho)


# name -> the settings that it changes
IMAGE_PRESETS: dict[str, dict[str, str | int]] = {
    "fast": {"steps": 12, "samples": 1},
    "default": {},
    "best": {"steps": 40, "samples": 6},
}


def make_image_settings(preset: str, changes: Mapping[str, str | float]) -> ImageSettings:
    """Return the settings of a preset with some fields changed."""
    return ImageSettings(**{**IMAGE_PRESETS[preset], **changes})  # type: ignore[arg-type]
