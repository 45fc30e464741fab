"""Train a RealNVP: masked couplings with residual networks; see gensep.train_glow."""

from dataclasses import dataclass

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import run
from gensep.training.options import FlowConfig


@dataclass(frozen=True)
class Config(FlowConfig):
    """Options of `gensep.train_realnvp`."""

    scales: int = option(2, "levels of scale; the last has 4 couplings, each other 6")
    blocks: int = option(4, "residual blocks of a coupling network")
    width: int = option(32, "channels of the coupling networks")

    def __post_init__(self):
        super().__post_init__()
        self.positive("scales", "blocks", "width")


def main(argv: list[str]) -> None:
    """Train, or go on training, to `steps`."""
    c = config.parse(Config, argv, prog="python -m gensep.train_realnvp", about=__doc__ or "")
    from gensep.datasets.kinds import open_examples
    from gensep.training.flow_task import FlowTask
    from gensep.training.loop import train

    train(
        c,
        FlowTask(
            c,
            open_examples(c),
            architecture="realnvp",
            scales=c.scales,
            blocks=c.blocks,
            width=c.width,
        ),
    )


if __name__ == "__main__":
    run(main)
