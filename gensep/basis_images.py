"""Mix test images, separate them with priors, and compare with the true images.

Writes images.json (every mixture's PSNR), images.npz (the estimates) and images.png.
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

from gensep.cli import config
from gensep.cli.options import IMAGE_SETS, Count, Positional, PriorName, choices
from gensep.runtime.errors import run
from gensep.separation.settings import SamplerOptions


@dataclass(frozen=True, kw_only=True)
class Config(SamplerOptions):
    """Options of gensep.basis_images."""

    set: Positional[Annotated[str, choices(IMAGE_SETS)]]
    """Set of images that are mixed."""
    priors: tuple[PriorName, ...]
    """Run folders or files of priors of images: one for all sources, or one per source."""
    output: str = "separated/{name}"
    """Folder of the results; {name} is the name of the set."""
    preset: Annotated[str, choices("gensep.images.settings:IMAGE_PRESETS")] = "default"
    """Trade-off between speed and quality."""
    seed: int = 0
    """Seed of the sampler and of the choice of images."""
    data_dir: str | None = None
    """Folder with the files of the set of images."""
    pairs: Count = 1000
    """Number of mixtures."""
    mix: Annotated[str, choices("gensep.images.mixtures:MIXES")] = "average"
    """How images are mixed: the average or sum of two, or the grey version of one."""
    split: bool = False
    """Take the first image from the first half of the classes and the second from the other."""
    part: Literal["test", "valid"] = "test"
    """Split of the set that the images come from."""
    picture: bool = True
    """Draw mixtures, true sources and estimates."""


def main(argv: list[str]) -> None:
    """Mix, separate and compare; print the table."""
    c = config.parse(Config, argv)
    from gensep.images.run import Choice, mix_images, psnr_table, separate_mixed
    from gensep.images.settings import make_image_settings
    from gensep.runtime.files import output_folder

    settings = make_image_settings(c.preset, c.changes())
    mixed = mix_images(c.priors, Choice(*(getattr(c, name) for name in Choice._fields)))
    folder = output_folder(c.output, name=c.set)
    results = separate_mixed(mixed, settings, folder, picture=c.picture, config=c)
    print(psnr_table(results))
    print(
        f"{c.pairs} mixtures in {folder}: sampled in {results.found.run_seconds:.1f} s, compiled "
        f"in {results.found.compile_seconds:.1f} s",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run(main)
