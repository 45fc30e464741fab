"""Train a critic: as a prior by itself, or against a prior, which it then corrects."""

from dataclasses import dataclass
from typing import Annotated

from gensep.cli import config
from gensep.cli.options import Count, PriorName, Range, choices
from gensep.runtime.errors import run
from gensep.training.options import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Options of gensep.train_critic."""

    against: PriorName | None = None
    """Prior of the same data that the critic learns to correct, for --guide of gensep.basis. By
    default the critic is compared with a Gaussian and becomes a prior by itself."""
    samples: Count = 2048
    """Number of samples of the other prior that the critic sees in training."""
    sampling_steps: Count = 32
    """Noise levels at which each of them is denoised."""
    network: Annotated[str, choices("gensep.priors.critic_networks:CRITICS")] = "conv1d"
    """Network: conv1d for spectrograms, unet for images."""
    width: Count = 128
    """Channels of the network."""
    blocks: Count = 6
    """Number of residual blocks; their dilations cycle through 1, 2, 4, 8 in conv1d."""
    step: Annotated[float, Range(0.001, 1.0)] = 0.2
    """Distance, relative to the noise, between the examples whose order is told in training."""
    contrast: Annotated[float, Range(0)] = 0.0
    """Weight of telling data from samples of the Gaussian. It makes the log density of a critic
    nearly integrate to 1, in few dimensions; scores do not need it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.against and self.contrast:
            raise ValueError("contrast is for a critic by itself: leave it out beside --against")


def main(argv: list[str]) -> None:
    """Train, or resume training, up to `steps` updates."""
    c = config.parse(Config, argv)
    from gensep.datasets.kinds import open_examples
    from gensep.training.critic_task import CriticTask
    from gensep.training.loop import train

    train(c, CriticTask(c, open_examples(c)))


if __name__ == "__main__":
    run(main)
