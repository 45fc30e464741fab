"""Turn folders of audio into data sets of mel spectrograms: `python -m gensep.wav_to_spec IN OUT`.

IN holds SOURCE/{train,valid,test}/**, or train, valid and test of one source. OUT/SOURCE is the
data set; one that exists and was made of the same files with the same options is left as it is.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gensep.cli.config import option, parse
from gensep.runtime import errors
from gensep.runtime.errors import UserError

PROG = "python -m gensep.wav_to_spec"


@dataclass(frozen=True)
class Config:
    """Options of wav_to_spec."""

    input: str = option(
        ..., "folder with SOURCE/{train,valid,test}/**, or one source", positional=True
    )
    output: str = option(..., "folder for the data sets OUTPUT/SOURCE", positional=True)
    level: float = option(-26.0, "bring each track to this RMS in dBFS over its sounding 100 ms")
    keep_level: bool = option(False, "leave the tracks at their own levels")
    on_bad: Literal["skip", "refuse"] = option("skip", "what to do about an unreadable file")
    jobs: int = option(0, "threads; 0 for one a core")
    force: bool = option(False, "write data sets again that are up to date")
    sample_rate: int = option(16000, "Hz; every file is resampled to it")
    n_fft: int = option(2048, "samples of a frame")
    hop_length: int = option(512, "samples from frame to frame")
    n_mels: int = option(96, "mel bands")
    fmin: float = option(30.0, "lowest frequency in Hz")
    fmax: float = option(8000.0, "highest frequency in Hz")

    def __post_init__(self) -> None:
        if self.jobs < 0:
            raise ValueError(f"jobs must be 0 or more, not {self.jobs}")
        if not -100 <= self.level <= 0:
            raise ValueError(f"level must lie in -100 ... 0 dBFS, not {self.level}")


def main(argv: list[str]) -> None:
    """Write every source that is not up to date; list the skipped files at the end."""
    c = parse(Config, argv, prog=PROG, about=__doc__ or "")
    from gensep.datasets.ingest import ingest
    from gensep.datasets.spectrograms import POWER_FIELDS
    from gensep.representation.mel import Representation

    try:
        representation = Representation(**{name: getattr(c, name) for name in POWER_FIELDS})
    except ValueError as error:
        raise UserError(str(error)) from None
    bad = ingest(
        Path(c.input),
        Path(c.output),
        representation,
        level_db=None if c.keep_level else c.level,
        skip_bad=c.on_bad == "skip",
        threads=c.jobs,
        force=c.force,
    )
    for line in bad:
        print(f"skipped: {line}", file=sys.stderr)


if __name__ == "__main__":
    errors.run(main)
