"""Separate songs by ideal masks, made from their true stems: an upper bound."""

from dataclasses import dataclass, fields
from typing import Annotated

from gensep.cli import config
from gensep.cli.options import Layout, Positional, StemFormat, choices
from gensep.runtime.errors import run

DEFAULT = ("ibm1", "ibm2", "irm1", "irm2", "mwf", "psm", "mix", "mel_irm", "mel_ibm")


@dataclass(frozen=True, kw_only=True)
class Config(StemFormat):
    """Options of gensep.oracle."""

    folder: Positional[str]
    """Folder of songs with stems: a data set, a split of it, or one song."""
    method: tuple[Annotated[str, choices("gensep.evaluation.oracles:ORACLES")], ...] = DEFAULT
    """Oracle masks to apply."""
    output: str = "oracles"
    """Folder of the results, OUTPUT/METHOD/SONG/SOURCE.wav."""
    layout: Layout = "auto"
    """Layout of the folder."""
    split: str | None = None
    """Separate only songs of this split."""
    stems: tuple[str, ...] = ()
    """Use only these stems; by default all."""
    start: float = 0.0
    """Seconds to skip at the start of each song."""
    duration: float | None = None
    """Seconds of each song to separate; by default all."""
    window: float = 1.0
    """Length of a frame of the framewise SDR in seconds."""


def main(argv: list[str]) -> None:
    """Separate and score every song by every oracle; results that are there already are kept."""
    c = config.parse(Config, argv)
    from gensep.evaluation.ideal_separation import Options, oracle_table, separate_ideally

    options = Options(**{field.name: getattr(c, field.name) for field in fields(Options)})
    print(oracle_table(separate_ideally(options, c.method, c.output, c.layout, c.split)))


if __name__ == "__main__":
    run(main)
