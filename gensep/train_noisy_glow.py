"""Fine-tune a flow of clean data to one noise level after another.

RESTORE is a run of gensep.train_glow (or train_realnvp, train_flowpp) with --schedule none; its
data, window length and random variation are used again. Each noise level is a run of its own,
RUN/level_00 ..., which the same command resumes; at the end RUN/prior.npz holds the flows of all
levels. A flow conditioned on sigma, the default of gensep.train_glow, is smaller and needs none of
this.
"""

from dataclasses import dataclass

from gensep.cli import config
from gensep.cli.options import Count, Positional, PriorName
from gensep.runtime.errors import run
from gensep.training.options import HeldOut, Noise, Training


@dataclass(frozen=True, kw_only=True)
class Config(Training, HeldOut, Noise):
    """Options of gensep.train_noisy_glow."""

    restore: Positional[PriorName]
    """Run folder or prior file of a flow that was trained with --schedule none."""
    data_dir: str | None = None
    """Folder with the files of the set of images, if it has moved."""
    noise_levels: Count = 10
    """Number of noise levels, a geometric series."""
    denoising: float = 1.0
    """Weight of the denoising loss, added to the negative log likelihood."""
    # other defaults than in the groups
    steps: Count = 2000
    """Number of updates per noise level."""
    rate: float = 3e-4
    warmup: int = 100
    sigma_min: float = 0.01
    sigma_max: float = 1.0
    validate_every: Count = 500
    max_minutes: float = 0.0
    """Stop a noise level after so many minutes, to be resumed by the same command; 0 means no
    limit."""


def main(argv: list[str]) -> None:
    """Train the flows of all noise levels, or resume training them."""
    c = config.parse(Config, argv)
    from gensep.training.noisy_flows import fine_tune

    fine_tune(c)


if __name__ == "__main__":
    run(main)
