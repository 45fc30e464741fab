"""Choose the noise levels of a score network from its training data.

Prints a table for the config of gensep.train_ncsn with the reason for every number, by the
techniques of NCSNv2 (Song and Ermon 2020): the largest level from the largest distance between two
examples, the number of levels from the dimension, the step of annealed Langevin dynamics from both.

Examples:
  python -m gensep.noise_levels data/spec/violin
  python -m gensep.noise_levels mnist --data_dir data/mnist --examples 60000
"""

from dataclasses import dataclass
from typing import Annotated

from gensep.cli import config
from gensep.cli.options import Count, DataName, Positional, Range
from gensep.runtime.errors import run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of gensep.noise_levels."""

    data: Positional[DataName]
    """Data set written by gensep.wav_to_spec, or the name of a set of images."""
    data_dir: str | None = None
    """Folder with the files of a set of images."""
    examples: Annotated[int, Range(2)] = 5000
    """Number of random training examples to compare. The time grows with its square: 60000 digits
    take some minutes."""
    frames: Count = 64
    """Frames of a window of spectrograms."""
    sigma_min: float = 0.01
    """Smallest noise level in model units, at which noise is no longer noticeable."""
    langevin: Count = 5
    """Langevin steps per noise level."""
    seed: int = 0
    """Seed of the choice of examples."""

    def __post_init__(self) -> None:
        if self.sigma_min <= 0:
            raise ValueError(f"expected sigma_min above 0, not {self.sigma_min}")


def main(argv: list[str]) -> None:
    """Measure the data and print the table."""
    c = config.parse(Config, argv)
    from gensep.datasets.examples import Request
    from gensep.datasets.kinds import read_examples
    from gensep.priors.noise_levels import advise

    x = read_examples(c.data, Request(c.examples, c.seed, "train", c.frames, c.data_dir)).x
    print(advise(x, c.sigma_min, c.langevin))


if __name__ == "__main__":
    run(main)
