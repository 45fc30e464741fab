"""Train a RealNVP: masked couplings with residual networks; see gensep.train_glow."""

from dataclasses import dataclass

from gensep.cli import config
from gensep.cli.options import Count
from gensep.runtime.errors import run
from gensep.training.options import FlowConfig


@dataclass(frozen=True, kw_only=True)
class Config(FlowConfig):
    """Options of gensep.train_realnvp."""

    scales: Count = 2
    """Number of scales; the last has 4 couplings, each of the others 6."""
    blocks: Count = 4
    """Residual blocks of each coupling network."""
    width: Count = 32
    """Channels of the coupling networks."""


def main(argv: list[str]) -> None:
    """Train, or resume training, up to `steps` updates."""
    c = config.parse(Config, argv)
    from gensep.datasets.kinds import open_examples
    from gensep.training.flow_task import FlowTask
    from gensep.training.loop import train

    train(c, FlowTask(c, open_examples(c), "realnvp"))


if __name__ == "__main__":
    run(main)
