"""Train a score prior (a denoiser of any noise level) of one source."""

from dataclasses import dataclass

from gensep.cli import config
from gensep.cli.config import option
from gensep.priors.score_networks import NETWORKS
from gensep.runtime.errors import run
from gensep.training.options import TrainingConfig


@dataclass(frozen=True)
class Config(TrainingConfig):
    """Options of `gensep.train_ncsn`."""

    init: str | None = option(
        None,
        "prior to start from, of the same network: shipped name, run "
        "folder or file; for other data, or other noise levels",
    )
    network: str = option(
        "conv1d", "conv1d of spectrograms, unet of images, ncsnv1 or ncsnv2 of either"
    )
    width: int = option(208, "channels of the network")
    blocks: int = option(8, "residual blocks; dilations 1 2 4 8 repeat")
    compat: bool = option(
        False,
        "ncsnv1, ncsnv2: as AudioSourceSep built them, faults and all",
    )
    schedule: str = option("lognormal", "noise levels in training: lognormal or geometric")
    noise_levels: int = option(10, "levels of the geometric schedule")

    def __post_init__(self):
        super().__post_init__()
        self.positive("width", "blocks", "noise_levels")
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, not '{self.network}'")
        if self.schedule not in ("lognormal", "geometric"):
            raise ValueError(f"schedule must be lognormal or geometric, not '{self.schedule}'")
        network = NETWORKS[self.network]
        if network.geometric and self.schedule != "geometric":
            raise ValueError(
                f"{self.network} knows fixed noise levels: give it schedule geometric, and "
                "noise_levels (python -m gensep.noise_levels says how many)"
            )
        if self.compat and "compat" not in network.of_options:
            takers = [name for name, row in NETWORKS.items() if "compat" in row.of_options]
            raise ValueError(f"compat is for {' and '.join(takers)}, not {self.network}")


def main(argv: list[str]) -> None:
    """Train, or go on training, to `steps`."""
    c = config.parse(Config, argv, prog="python -m gensep.train_ncsn", about=__doc__)
    from gensep.datasets.kinds import open_examples
    from gensep.training.loop import train
    from gensep.training.score_task import ScoreTask

    train(c, ScoreTask(c, open_examples(c)))


if __name__ == "__main__":
    run(main)
