"""Choose the noise levels of a score network from its training data.

Prints a table for the config of gensep.train_ncsn with the reason for every number, after the
techniques of NCSNv2 (Song and Ermon 2020): the largest level from the largest distance between two
examples, the number of levels from the dimension, the step of annealed Langevin dynamics from both.

Examples:
  python -m gensep.noise_levels data/spec/violin
  python -m gensep.noise_levels mnist --data_dir data/mnist --examples 60000
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import run

if TYPE_CHECKING:
    import numpy as np

PROG = "python -m gensep.noise_levels"


@dataclass(frozen=True)
class Config:
    """Options of `gensep.noise_levels`."""

    data: str = option(
        ..., "data set that gensep.wav_to_spec wrote, or a set of images by name", positional=True
    )
    data_dir: str | None = option(None, "folder with the files of a set of images")
    examples: int = option(
        5000,
        "training examples to compare, drawn by the seed; n take time as "
        "n^2, 60000 digits some minutes",
    )
    frames: int = option(64, "frames a window of spectrograms")
    sigma_min: float = option(0.01, "smallest level, model units: where noise does no more harm")
    langevin: int = option(5, "Langevin steps a level")
    seed: int = option(0, "seed of the examples")

    def __post_init__(self):
        if self.examples < 2 or self.frames < 1 or self.langevin < 1 or self.sigma_min <= 0:
            raise ValueError(
                "expected examples of 2 or more, frames and langevin of 1 or more and "
                f"sigma_min above 0, not {self.examples}, {self.frames}, "
                f"{self.langevin} and {self.sigma_min}"
            )


def main(argv: list[str]) -> None:
    """Measure the data and print the table."""
    c = config.parse(Config, argv, prog=PROG, about=__doc__ or "")
    x = read_examples(c)
    print(table(x, c))


def read_examples(c: Config) -> "np.ndarray":
    """Give training examples in model units, `[n, ...]`."""
    import numpy as np

    from gensep.datasets.images import SETS, load_images

    if c.data in SETS:
        from gensep.representation.image import LEVELS

        images, _ = load_images(c.data, "train", c.data_dir)
        order = np.random.default_rng(c.seed).permutation(len(images))[: c.examples]
        return (images[np.sort(order)].astype(np.float32) + 0.5) / LEVELS
    import jax.numpy as jnp

    from gensep.datasets.spectrograms import to_power
    from gensep.datasets.windows import open_windows
    from gensep.representation.mel import Representation

    windows = open_windows(c.data, "train", c.frames)
    form = Representation(**windows.representation)
    power = to_power(windows.batch(c.seed, 0, c.examples))
    return np.asarray(form.encode(jnp.asarray(power)))


def table(x: "np.ndarray", c: Config) -> str:
    """Give TOML for gensep.train_ncsn, with what its numbers come from."""
    from gensep.runtime.errors import UserError
    from score.noise import (
        largest_distance,
        technique2_levels,
        technique2_ratio,
        technique4_step,
        technique4_variance,
    )

    dimension = x[0].size
    sigma_max = largest_distance(x)
    if sigma_max <= c.sigma_min:
        raise UserError(
            f"expected examples that lie farther apart than sigma_min = {c.sigma_min}, "
            f"not {sigma_max:.4g}; give a smaller --sigma_min or other data"
        )
    ratio = technique2_ratio(dimension)
    levels = technique2_levels(dimension, c.sigma_min, sigma_max)
    growth = (sigma_max / c.sigma_min) ** (1 / (levels - 1))
    step = technique4_step(c.sigma_min, growth, c.langevin)
    variance = technique4_variance(step / c.sigma_min**2, growth, c.langevin)
    sd = float((x - x.mean(0)).std())
    middle, wide = math.log(sd) - 0.5, 1.2
    return f"""\
# {len(x)} examples of {dimension} numbers
schedule = "geometric"
sigma_max = {sigma_max:.4g}  # technique 1: the largest distance between two examples
sigma_min = {c.sigma_min:g}  # given; the data's own error, or half a step of their quantisation
noise_levels = {levels}  # technique 2: neighbours overlap by half, ratio {ratio:.5f}

# or, for networks that take any level (unet, conv1d):
# schedule = "lognormal"
# log_sigma_mean = {middle:.2f}  # ln of 0.6 times the data's sd, {sd:.3f}
# log_sigma_sd = {wide:g}  # Karras et al. 2022

# annealed Langevin dynamics, {c.langevin} steps a level
# technique 4: epsilon = {step:.3g}, steps of {step / c.sigma_min**2:.4f} sigma^2, keep each level's
# variance at {variance:.3f} sigma^2; {levels * c.langevin} evaluations in all"""


if __name__ == "__main__":
    run(main)
