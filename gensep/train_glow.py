"""Train a Glow: the exact density of one source at every noise level.

One flow that knows sigma covers all levels with one set of weights. `--schedule none` trains the
ordinary Glow of plain data, whose bits per dimension compare with published ones and from which
gensep.train_noisy_glow starts. The published size is --scales 3 --depth 32 --width 512 --layout
image --latents free.
"""

from dataclasses import dataclass

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import run
from gensep.training.options import FlowConfig


@dataclass(frozen=True)
class Config(FlowConfig):
    """Options of `gensep.train_glow`."""

    scales: int = option(3, "levels of scale (L)")
    depth: int = option(8, "steps a scale (K)")
    width: int = option(128, "channels of the coupling networks")
    latents: str = option(
        "conv",
        "law of latents that leave: conv (given those that stay) or free "
        "(a mean and sd for each, windows of one length only)",
    )
    dtype: str = option("float32", "inside the coupling networks: float32 or bfloat16")

    def __post_init__(self):
        super().__post_init__()
        self.positive("scales", "depth", "width")
        for name, known in (("latents", ("conv", "free")), ("dtype", ("float32", "bfloat16"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be {' or '.join(known)}, not '{getattr(self, name)}'"
                )


def main(argv: list[str]) -> None:
    """Train, or go on training, to `steps`."""
    c = config.parse(Config, argv, prog="python -m gensep.train_glow", about=__doc__ or "")
    from gensep.datasets.kinds import open_examples
    from gensep.training.flow_task import FlowTask
    from gensep.training.loop import train

    train(
        c,
        FlowTask(
            c,
            open_examples(c),
            architecture="glow",
            scales=c.scales,
            depth=c.depth,
            width=c.width,
            latents=c.latents,
            dtype=c.dtype,
        ),
    )


if __name__ == "__main__":
    run(main)
