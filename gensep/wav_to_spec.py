"""Turn folders of audio into data sets of mel spectrograms, to train priors on.

IN holds SOURCE/{train,valid,test}/**, or train, valid and test of one source. OUT/SOURCE is the
data set; one that exists and was made of the same files with the same options is left as it is.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from gensep.cli.config import parse
from gensep.cli.options import Positional, Range
from gensep.runtime import errors
from gensep.runtime.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of gensep.wav_to_spec."""

    input: Positional[str]
    """Folder with SOURCE/{train,valid,test}/**, or the folder of one source."""
    output: Positional[str]
    """Folder of the data sets OUTPUT/SOURCE."""
    level: Annotated[float, Range(-100, 0)] = -26.0
    """Scale each track to this loudness: RMS in dBFS over the parts of 100 ms that sound."""
    keep_level: bool = False
    """Keep the loudness of the tracks."""
    on_bad: Literal["skip", "refuse"] = "skip"
    """What to do with an unreadable file."""
    jobs: Annotated[int, Range(0)] = 0
    """Number of threads; 0 means one per core."""
    force: bool = False
    """Write data sets again that are up to date."""
    sample_rate: int = 16000
    """Sample rate in Hz to which every file is resampled."""
    n_fft: int = 2048
    """Length of an analysis frame in samples."""
    hop_length: int = 512
    """Distance between frames in samples."""
    n_mels: int = 96
    """Number of mel bands."""
    fmin: float = 30.0
    """Lowest frequency in Hz."""
    fmax: float = 8000.0
    """Highest frequency in Hz."""


def main(argv: list[str]) -> None:
    """Write every source that is not up to date; list the skipped files at the end."""
    c = parse(Config, argv)
    from gensep.datasets.ingest import Encoding, ingest
    from gensep.datasets.spectrograms import POWER_FIELDS
    from gensep.representation.mel import Representation

    try:
        representation = Representation(**{name: getattr(c, name) for name in POWER_FIELDS})
    except ValueError as error:
        raise UserError(str(error)) from None
    encoding = Encoding(representation, None if c.keep_level else c.level)
    skip, folders = c.on_bad == "skip", (Path(c.input), Path(c.output))
    for line in ingest(*folders, encoding, skip_bad=skip, threads=c.jobs, force=c.force):
        print(f"skipped: {line}", file=sys.stderr)


if __name__ == "__main__":
    errors.run(main)
