"""Mix test images, separate the mixtures with priors of images, and compare with the truth.

Writes images.json (every mixture's PSNR), images.npz (the estimates) and images.png.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import run

PROG = "python -m gensep.basis_images"


@dataclass(frozen=True)
class Config:
    """Options of `gensep.basis_images`."""

    set: str = option(
        ..., "set of images: mnist, fashion_mnist, cifar10 or digits", positional=True
    )
    priors: tuple[str, ...] = option(
        ..., "run folders or files of priors of images: one for all sources, or one per source"
    )
    output: str = option("separated/{name}", "folder of the results; {name} is the set's name")
    preset: Literal["fast", "default", "best"] = option("default", "speed against quality")
    sampler: str | None = option(None, "sampler, in place of the preset's")
    steps: int | None = option(None, "noise levels, in place of the preset's")
    samples: int | None = option(None, "posterior samples to average, in place of the preset's")
    constraint: Literal["soft", "hard"] = option(
        "soft", "hard moves the sources onto the mixing law at every noise level"
    )
    seed: int = option(0, "seed of the sampler and of the choice of images")
    data_dir: str | None = option(None, "folder with the files of the set of images")
    pairs: int = option(1000, "mixtures")
    mix: Literal["average", "sum", "grey"] = option(
        "average", "of two images, or the mean of one image's channels, to be coloured"
    )
    split: bool = option(
        False, "first image from the first half of the classes, second from the second"
    )
    part: Literal["test", "valid"] = option("test", "images that are mixed")
    judge: Literal["denoising", "likelihood"] = option(
        "denoising", "how the samples of a mixture are weighed; likelihood is for flows"
    )
    picture: bool = option(True, "draw mixtures, true sources and estimates")

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"pairs must be at least 1, not {self.pairs}")


def main(argv: list[str]) -> None:
    """Mix, separate and compare; print the table."""
    c = config.parse(Config, argv, prog=PROG, about=__doc__ or "")
    from gensep.images.run import mix_images, psnr_table, separate_mixed
    from gensep.images.settings import make_image_settings

    names = ("sampler", "steps", "samples", "seed", "constraint", "judge")
    changed = {name: getattr(c, name) for name in names if getattr(c, name) is not None}
    settings = make_image_settings(c.preset, changed)
    mixed = mix_images(
        c.set,
        c.priors,
        part=c.part,
        data_dir=c.data_dir,
        mix=c.mix,
        split=c.split,
        pairs=c.pairs,
        seed=c.seed,
    )
    folder = Path(c.output.replace("{name}", c.set))
    results = separate_mixed(mixed, settings, folder, picture=c.picture, config=c)
    print(psnr_table(results))
    print(
        f"{c.pairs} mixtures in {folder}: sampled in {results.found.run_seconds:.1f} s, compiled "
        f"in {results.found.compile_seconds:.1f} s",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run(main)
