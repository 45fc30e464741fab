"""Train a Flow++: mixture-of-logistics couplings with attention; see gensep.train_glow."""

from dataclasses import dataclass

from gensep.cli import config
from gensep.cli.options import Count
from gensep.runtime.errors import run
from gensep.training.options import FlowConfig


@dataclass(frozen=True, kw_only=True)
class Config(FlowConfig):
    """Options of gensep.train_flowpp."""

    blocks: Count = 4
    """Blocks of each coupling network."""
    width: Count = 96
    """Channels of the coupling networks, a multiple of 4."""
    components: Count = 16
    """Components of each mixture of logistic distributions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 4:
            raise ValueError(f"width must be a multiple of 4, not {self.width}")


def main(argv: list[str]) -> None:
    """Train, or resume training, up to `steps` updates."""
    c = config.parse(Config, argv)
    from gensep.datasets.kinds import open_examples
    from gensep.training.flow_task import FlowTask
    from gensep.training.loop import train

    train(c, FlowTask(c, open_examples(c), "flowpp"))


if __name__ == "__main__":
    run(main)
