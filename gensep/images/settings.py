"""How mixtures of images are sampled and judged: settings and presets."""

import math
from dataclasses import dataclass
from typing import Any

from basis import Kernel
from gensep.runtime.errors import UserError
from gensep.separation.samplers import check_sampler, make_kernel

# who judges samples -> noise levels at which it tells best which one is right, one draw of noise
# each: denoisers where shapes are decided, exact densities where details show. There a draw moves
# the difference of two samples by half of what the samples of a mixture differ
JUDGES: dict[str, tuple[float, ...]] = {
    "denoising": (1.0, 0.5, 0.25),
    "likelihood": (0.05,) * 16,
}


@dataclass(frozen=True)
class ImageSettings:
    """How images are sampled; every field decides the result."""

    sampler: str = "mmps-cg1"
    steps: int = 35
    samples: int = 2
    constraint: str = "soft"
    schedule: str = "karras"  # or geometric
    rho: float = 3.0  # of the schedule of Karras et al.
    sigma_max: float = 2.0
    sigma_min: float = 0.05
    tau: float = 0.01  # sd of the observation, model units
    judge: str = "denoising"  # of samples, or likelihood, for priors that know their density
    judges: tuple[float, ...] | None = None  # noise levels where samples are weighed; None: JUDGES
    temperature: float = 3.0  # of the weights; 0 takes the likeliest sample, inf weighs all alike
    seed: int = 0

    def __post_init__(self):
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
                "expected a temperature of 0 or more and judges above 0, not "
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

    def kernel(self) -> Kernel:
        """Make the kernel."""
        return make_kernel(self.sampler, self.constraint)

    def levels(self) -> Any:
        """Give the noise levels, falling."""
        from score import geometric, karras

        if self.schedule == "geometric":
            return geometric(self.steps, self.sigma_min, self.sigma_max)
        return karras(self.steps, self.sigma_min, self.sigma_max, self.rho)


IMAGE_PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"steps": 12, "samples": 1},
    "default": {},
    "best": {"steps": 40, "samples": 6},
}
