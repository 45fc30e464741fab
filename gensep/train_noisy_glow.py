"""Fine-tune a flow of plain data to every noise level, serially from small to large.

RESTORE is a run of gensep.train_glow (or train_realnvp, train_flowpp) --schedule none; its data,
windows and variations are used again. Each level is a run of its own, RUN/level_00 ..., resumed by
the same command; at the end RUN/prior.npz holds them all. One flow that knows sigma, which
gensep.train_glow makes by default, is smaller and does not want this.
"""

from dataclasses import dataclass

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import run


@dataclass(frozen=True)
class Config:
    """Options of `gensep.train_noisy_glow`."""

    restore: str = option(..., "run folder or prior file of a flow of plain data", positional=True)
    run: str = option(..., "run folder; resumed if there")
    data_dir: str | None = option(None, "folder with the files of a set of images, if it moved")
    noise_levels: int = option(10, "levels, geometric")
    sigma_min: float = option(0.01, "smallest noise level, model units")
    sigma_max: float = option(1.0, "largest noise level, model units")
    steps: int = option(2000, "updates a level")
    batch: int = option(32, "examples an update")
    denoising: float = option(1.0, "weight of the denoising loss beside the likelihood")
    rate: float = option(3e-4, "peak learning rate of Adam")
    warmup: int = option(100, "updates of linear warm-up, at every level")
    clip: float = option(1.0, "largest gradient norm")
    ema: float = option(0.999, "decay of the weight average")
    seed: int = option(0, "seed of everything random")
    validate_every: int = option(500, "updates between validations")
    valid_windows: int = option(256, "examples of the fixed validation batch")
    save_every: int = option(500, "updates between checkpoints")
    max_minutes: float = option(0.0, "stop a level, resumable, after so many minutes; 0 never")

    def __post_init__(self):
        for name in (
            "noise_levels",
            "steps",
            "batch",
            "validate_every",
            "valid_windows",
            "save_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"expected 0 < sigma_min < sigma_max, not {self.sigma_min} and {self.sigma_max}"
            )


def main(argv: list[str]) -> None:
    """Train all levels, or go on."""
    c = config.parse(Config, argv, prog="python -m gensep.train_noisy_glow", about=__doc__ or "")
    from gensep.training.noisy_flows import fine_tune

    fine_tune(c)


if __name__ == "__main__":
    run(main)
