"""Train a Flow++: mixture-of-logistics couplings with attention; see gensep.train_glow."""

from dataclasses import dataclass

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import run
from gensep.training.options import FlowConfig


@dataclass(frozen=True)
class Config(FlowConfig):
    """Options of `gensep.train_flowpp`."""

    blocks: int = option(4, "blocks of a coupling network")
    width: int = option(96, "channels of the coupling networks, a multiple of 4")
    components: int = option(16, "of the mixtures")

    def __post_init__(self):
        super().__post_init__()
        self.positive("blocks", "width", "components")
        if self.width % 4:
            raise ValueError(f"width must be a multiple of 4, not {self.width}")


def main(argv: list[str]) -> None:
    """Train, or go on training, to `steps`."""
    c = config.parse(Config, argv, prog="python -m gensep.train_flowpp", about=__doc__ or "")
    from gensep.datasets.kinds import open_examples
    from gensep.training.flow_task import FlowTask
    from gensep.training.loop import train

    train(
        c,
        FlowTask(
            c,
            open_examples(c),
            architecture="flowpp",
            blocks=c.blocks,
            width=c.width,
            components=c.components,
        ),
    )


if __name__ == "__main__":
    run(main)
