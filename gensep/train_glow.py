"""Train a Glow: the exact density of one source at every noise level.

By default one set of weights, conditioned on sigma, serves all noise levels. `--schedule none`
trains an ordinary Glow on clean data: its bits per dimension compare with published ones, and
gensep.train_noisy_glow starts from it. The size of the paper (Kingma and Dhariwal 2018) is --scales
3 --depth 32 --width 512 --layout image --latents free.
"""

from dataclasses import dataclass
from typing import Literal

from gensep.cli import config
from gensep.cli.options import Count
from gensep.runtime.errors import run
from gensep.training.options import FlowConfig


@dataclass(frozen=True, kw_only=True)
class Config(FlowConfig):
    """Options of gensep.train_glow."""

    scales: Count = 3
    """Number of scales (L in the paper)."""
    depth: Count = 8
    """Number of steps of flow per scale (K in the paper)."""
    width: Count = 128
    """Channels of the coupling networks."""
    latents: Literal["conv", "free"] = "conv"
    """Density of the latents that leave at each scale: conditional on those that stay (conv), or
    with a learnt mean and deviation for each (free; windows of one length only)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision inside the coupling networks."""


def main(argv: list[str]) -> None:
    """Train, or resume training, up to `steps` updates."""
    c = config.parse(Config, argv)
    from gensep.datasets.kinds import open_examples
    from gensep.training.flow_task import FlowTask
    from gensep.training.loop import train

    train(c, FlowTask(c, open_examples(c), "glow"))


if __name__ == "__main__":
    run(main)
