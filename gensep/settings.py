"""How sources are sampled: the settings of a separation, the tables of samplers and presets."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import basis
from basis import Kernel
from gensep.errors import UserError

# name -> maker of a kernel; a new sampler is one file in basis/ and one row here
SAMPLERS: dict[str, Callable[..., Kernel]] = {
    "mmps": partial(basis.mmps, cg_iterations=2, memory=0.0),
    "mmps-cg1": partial(basis.mmps, cg_iterations=1, memory=0.0),
    "mmps-cg4": partial(basis.mmps, cg_iterations=4, memory=0.0),
    "mmps-sde": partial(basis.mmps, cg_iterations=2, memory=1.0),
    "mmps-heun": basis.mmps_heun,
    "mmps-pc": basis.mmps_pc,
    "mmps-draws": basis.mmps_draws,
    "pigdm": basis.pigdm,
    "pigdm-free": partial(basis.pigdm, vjp=False),
    "dps": basis.dps,
    "daps": partial(basis.daps, variance="spread"),
    "split-gibbs": basis.split_gibbs,
    "msdm-gaussian": partial(basis.msdm, likelihood="gaussian"),
    "basis": partial(basis.langevin, at="denoised"),
    "basis-noisy": partial(basis.langevin, at="noisy"),
    "mala": basis.mala,
}

# name -> the settings it changes; `steps` are those of two sources
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"sampler": "mmps", "samples": 2, "steps": 8},
    "default": {},
    "best": {"steps": 44, "samples": 6},
}


@dataclass(frozen=True)
class Settings:
    """How masks are sampled; every field decides the result."""

    sampler: str = "mmps-cg4"
    steps: int = 22  # noise levels
    samples: int = 3
    constraint: str = "soft"  # hard: conditioned sources are moved onto the mixing law
    sigma_max: float = 2.0
    sigma_min: float = 0.2
    rho: float = 5.0  # of the levels of Karras et al.; 1000 makes them geometric
    tau_db: float = 1.0  # sd of the mixing law's error
    window: int = 128  # frames that a prior sees at once
    overlap: float = 0.25  # of a window
    block: int = 512  # frames of a chain, at most
    seed: int = 0

    def __post_init__(self):
        check_sampler(self.sampler, self.constraint)
        for name in ("steps", "samples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.overlap <= 0.9 or self.window < 16:
            raise UserError(
                "expected 0 <= overlap <= 0.9 and window >= 16 frames, "
                f"not {self.overlap} and {self.window}"
            )
        if self.block < self.window or self.block % 32:
            raise UserError(
                "expected a block divisible by 32 and no shorter than the window, "
                f"not {self.block} and {self.window} frames"
            )
        if not (0 < self.sigma_min <= self.sigma_max and self.tau_db > 0 and self.rho > 0):
            raise UserError(
                "expected 0 < sigma_min <= sigma_max, tau_db > 0 and rho > 0, not "
                f"{self.sigma_min}, {self.sigma_max}, {self.tau_db} and {self.rho}"
            )

    def levels(self) -> Any:
        """Give the noise levels, falling."""
        from score import karras

        return karras(self.steps, self.sigma_min, self.sigma_max, self.rho)

    def kernel(self) -> Kernel:
        """Make the kernel."""
        return make_kernel(self.sampler, self.constraint)


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


def check_sampler(sampler: str, constraint: str) -> None:
    """Refuse a sampler that is not in the table, or one that knows no hard constraint.

    Raises:
        UserError: with those that do.
    """
    if sampler not in SAMPLERS:
        raise UserError(f"sampler must be one of {', '.join(SAMPLERS)}, not '{sampler}'")
    if constraint not in ("soft", "hard"):
        raise UserError(f"constraint must be soft or hard, not '{constraint}'")
    able = [name for name, make in SAMPLERS.items() if "hard" in inspect.signature(make).parameters]
    if constraint == "hard" and sampler not in able:
        raise UserError(
            f"sampler {sampler} knows no hard constraint; those that do: {', '.join(able)}"
        )


def make_kernel(sampler: str, constraint: str) -> Kernel:
    """Make the kernel of a row of the table."""
    make = SAMPLERS[sampler]
    return make(hard=True) if constraint == "hard" else make()
