"""Settings of the sampling of masks, and the table of presets."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from gensep.cli.options import choices
from gensep.runtime.errors import UserError
from gensep.separation.judges import JUDGES, Weighting
from gensep.separation.samplers import check_sampler, make_kernel

if TYPE_CHECKING:
    import jax
    import numpy as np

    from basis import Kernel

    Measure = Callable[..., jax.Array]

# name -> number of sources -> the settings that it changes; more than four sources get more noise
# levels in proportion. The more sources, the more explanations of a mixture and the more levels
# until they are told apart
PRESETS: dict[str, dict[int, dict[str, str | int]]] = {
    "fast": {
        2: {"steps": 6, "samples": 3},
        3: {"steps": 8, "samples": 4},
        4: {"steps": 10, "samples": 5},
    },
    "default": {2: {}, 3: {"steps": 13, "samples": 10}, 4: {"steps": 16, "samples": 12}},
    "best": {
        2: {"steps": 16, "samples": 20},
        3: {"steps": 22, "samples": 16},
        4: {"steps": 28, "samples": 16},
    },
}


def preset_of(name: str, sources: int) -> dict[str, str | int]:
    """Return the settings that a preset changes for a number of sources.

    Raises:
        UserError: for an unknown preset.
    """
    if name not in PRESETS:
        raise UserError(f"preset must be one of {', '.join(PRESETS)}, not '{name}'")
    changes = PRESETS[name][min(max(sources, 2), 4)]
    if sources <= 4:
        return changes
    return changes | {"steps": int(changes["steps"]) * sources // 4}


WINDOW = 128  # frames


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """Settings that all samplings share.

    Raises:
        UserError: for values out of range.
    """

    sampler: str
    steps: int  # noise levels
    samples: int
    constraint: str = "soft"  # hard: conditioned sources are moved onto the mixing law
    sigma_max: float = 2.0
    sigma_min: float
    rho: float  # of the noise levels of Karras et al.; 1000 makes them geometric
    seed: int = 0
    judge: str = "evidence"  # a row of `gensep.separation.judges.JUDGES`
    judges: tuple[float, ...] | None = None  # noise levels of the judge; None: those of the row
    temperature: float | None = None  # of the weights, nats; None: that of the row

    kind: ClassVar[str]  # of what is separated, a column of JUDGES

    def __post_init__(self) -> None:
        check_sampler(self.sampler, self.constraint)
        able = [name for name, row in JUDGES.items() if name == "none" or row.of(self.kind).levels]
        if self.judge not in able:
            raise UserError(
                f"judge must be one of {', '.join(able)} for {self.kind}, not '{self.judge}'"
            )
        if self.weighting.temperature < 0 or any(sigma <= 0 for sigma in self.weighting.levels):
            raise UserError(
                "expected a temperature >= 0 and judges at noise levels > 0, not "
                f"{self.weighting.temperature} and {self.weighting.levels}"
            )
        for name in ("steps", "samples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (0 < self.sigma_min <= self.sigma_max and self.rho > 0):
            raise UserError(
                "expected 0 < sigma_min <= sigma_max and rho > 0, not "
                f"{self.sigma_min}, {self.sigma_max} and {self.rho}"
            )

    @property
    def weighting(self) -> Weighting:
        """Noise levels and temperature of the judge."""
        levels, temperature = JUDGES[self.judge].of(self.kind)
        return Weighting(
            levels if self.judges is None else self.judges,
            temperature if self.temperature is None else self.temperature,
        )

    @property
    def weighed(self) -> bool:
        """Whether samples are judged before they are averaged."""
        some = self.judge != "none" and bool(self.weighting.levels)
        return self.samples > 1 and some and math.isfinite(self.weighting.temperature)

    def measure(self) -> "Measure | None":
        """Return the function of `basis` that measures samples, or None if none does."""
        import basis

        return getattr(basis, JUDGES[self.judge].function) if self.weighed else None

    def levels(self) -> "np.ndarray":
        """Return the noise levels, largest first."""
        from score import karras

        return karras(self.steps, self.sigma_min, self.sigma_max, self.rho)

    def kernel(self) -> "Kernel":
        """Make the kernel of the sampler."""
        return make_kernel(self.sampler, self.constraint)


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """Sampler."""

    sampler: Annotated[str | None, choices("gensep.separation.samplers:SAMPLERS")] = None
    """Posterior sampler, instead of that of the preset."""
    steps: int | None = None
    """Number of noise levels, instead of that of the preset, which for stems grows with the
    sources."""
    samples: int | None = None
    """Number of posterior samples to average, instead of that of the preset."""
    judge: Annotated[str | None, choices("gensep.separation.judges:JUDGES")] = None
    """How posterior samples are weighted before they are averaged: by evidence, which is the error
    that the priors make when they denoise them again, or by likelihood (flows of images only)."""
    constraint: Literal["soft", "hard"] = "soft"
    """Use hard to make the sources satisfy the mixing law exactly at every noise level."""
    seed: int = 0
    """Seed of the sampler."""

    def changes(self, *more: str) -> dict[str, Any]:
        """Return what these options, and some of the command's own, change in a preset."""
        names = (*(f.name for f in fields(SamplerOptions)), *more)
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}


@dataclass(frozen=True, kw_only=True)
class Settings(SamplerSettings):
    """How masks are sampled; every field affects the result."""

    sampler: str = "mmps"
    steps: int = 11
    samples: int = 8
    sigma_min: float = 0.2
    rho: float = 5.0
    stretch: float = 8.0  # frames, standard deviation of the windows that are judged
    tau_db: float = 1.0  # standard deviation of the mixing law's error
    # frames that a prior sees at once; None: a block, if the prior takes any length, or 128
    window: int | None = None
    overlap: float = 0.25  # share of a window
    block: int = 512  # frames of a chain, at most

    kind: ClassVar[str] = "audio"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.overlap <= 0.9 or self.seen < 16:
            raise UserError(
                "expected 0 <= overlap <= 0.9 and window >= 16 frames, "
                f"not {self.overlap} and {self.seen}"
            )
        if self.block < self.seen or self.block % 32:
            raise UserError(
                "expected a block divisible by 32 and no shorter than the window, "
                f"not {self.block} and {self.seen} frames"
            )
        if self.tau_db <= 0 or self.stretch <= 0:
            raise UserError(
                f"expected tau_db and stretch > 0, not {self.tau_db} and {self.stretch}"
            )

    @property
    def seen(self) -> int:
        """Frames that a prior of short windows sees at once."""
        return WINDOW if self.window is None else self.window

    @property
    def fade(self) -> int:
        """Frames that neighbouring blocks share."""
        return min(self.seen, WINDOW) // 2
