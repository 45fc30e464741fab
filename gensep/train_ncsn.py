"""Train a score network, which denoises at every noise level, as a prior."""

from dataclasses import dataclass
from typing import Annotated, Literal

from gensep.cli import config
from gensep.cli.options import Count, PriorName, choices
from gensep.priors.score_networks import NETWORKS
from gensep.runtime.errors import run
from gensep.training.options import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Options of gensep.train_ncsn."""

    init: PriorName | None = None
    """Prior to start from: shipped name, run folder or prior file with the same network. For other
    data or other noise levels."""
    network: Annotated[str, choices("gensep.priors.score_networks:NETWORKS")] = "conv1d"
    """Network: conv1d for spectrograms, unet for images, ncsnv1 and ncsnv2 for both."""
    width: Count = 208
    """Channels of the network."""
    blocks: Count = 8
    """Number of residual blocks; their dilations cycle through 1, 2, 4, 8 in conv1d."""
    compat: bool = False
    """Reproduce ncsnv1 and ncsnv2 as in AudioSourceSep, including its errors."""
    schedule: Literal["lognormal", "geometric"] = "lognormal"
    """Distribution of noise levels in training: lognormal, or a fixed geometric series."""
    noise_levels: Count = 10
    """Number of noise levels of the geometric schedule."""

    def __post_init__(self) -> None:
        super().__post_init__()
        network = NETWORKS[self.network]
        if network.geometric and self.schedule != "geometric":
            raise ValueError(
                f"{self.network} has fixed noise levels: use --schedule geometric and choose "
                "--noise_levels (python -m gensep.noise_levels recommends a number)"
            )
        if self.compat and "compat" not in network.of_options:
            takers = [name for name, row in NETWORKS.items() if "compat" in row.of_options]
            raise ValueError(f"compat is for {' and '.join(takers)}, not {self.network}")


def main(argv: list[str]) -> None:
    """Train, or resume training, up to `steps` updates."""
    c = config.parse(Config, argv)
    from gensep.datasets.kinds import open_examples
    from gensep.training.loop import train
    from gensep.training.score_task import ScoreTask

    train(c, ScoreTask(c, open_examples(c)))


if __name__ == "__main__":
    run(main)
