"""Separate songs with masks made from their true stems: the upper bounds of masks of a kind."""

from dataclasses import dataclass, fields

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import run

DEFAULT = ("ibm1", "ibm2", "irm1", "irm2", "mwf", "psm", "mix", "mel_irm", "mel_ibm")


@dataclass(frozen=True)
class Config:
    """Options of `gensep.oracle`."""

    folder: str = option(
        ..., "songs with stems: a data set, a split of it, or one song", positional=True
    )
    method: tuple[str, ...] = option(
        DEFAULT, "oracles; also ibm1_sum, ibm2_sum, ibm_max, mwf_compat"
    )
    output: str = option("oracles", "folder of the results: METHOD/SONG/SOURCE.wav")
    layout: str = option("auto", "layout of the folder: auto, or one that the error names")
    split: str | None = option(None, "only songs of this split")
    stems: tuple[str, ...] = option((), "only these stems; by default all")
    start: float = option(0.0, "seconds to skip")
    duration: float | None = option(None, "seconds of every song; all by default")
    window: float = option(1.0, "seconds of a frame of the framewise SDR")
    ext: str = option("wav", "format of the stems: wav, flac, ogg, ...")
    subtype: str | None = option(None, "sample format, e.g. PCM_16")


def main(argv: list[str]) -> None:
    """Separate and score every song by every oracle; results that are there already are kept."""
    c = config.parse(Config, argv, prog="python -m gensep.oracle", about=__doc__ or "")
    from gensep.evaluation.ideal_separation import Options, oracle_table, separate_ideally

    options = Options(**{field.name: getattr(c, field.name) for field in fields(Options)})
    print(oracle_table(separate_ideally(options, c.method, c.output, c.layout, c.split)))


if __name__ == "__main__":
    run(main)
