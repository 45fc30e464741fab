"""Write the spectra of a folder of songs with stems, to train separators on.

OUT becomes a data set of magnitudes of every mixture and of its sources, which may be larger than
memory; give it to gensep.train_separator as --data. A run that was stopped continues with the same
command, and songs that are up to date are left as they are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from gensep.cli import config
from gensep.cli.options import Count, Positional, Range, choices
from gensep.cli.records import Json
from gensep.mixtures.options import Songs
from gensep.runtime.errors import UserError, run
from gensep.separators.networks import SEPARATORS


@dataclass(frozen=True, kw_only=True)
class Config(Songs):
    """Options of gensep.make_features."""

    input: Positional[str]
    """Folder of songs with stems, in any layout."""
    output: Positional[str]
    """Folder of the features."""
    network: Annotated[str | None, choices("gensep.separators.networks:SEPARATORS")] = None
    """Take the transform of this network where nothing else is said."""
    sample_rate: Count | None = None
    """Rate in Hz to which songs are resampled."""
    channels: Count | None = None
    """Channels: 1 is the mean of those of a song."""
    n_fft: Count | None = None
    """Samples of a frame."""
    hop_length: Count | None = None
    """Samples from frame to frame."""
    window: Annotated[str | None, choices("gensep.representation.stft:WINDOWS")] = None
    """Window of a frame."""
    padding: Literal["zeros", "reflect"] | None = None
    """What is put before and behind a song: zeros, or the song mirrored."""
    unitary: bool | None = None
    """Divide spectra by the root of n_fft."""
    phase: bool = False
    """Write the phase of the mixture, too."""
    scores: str | None = None
    """Write piano rolls, too, of score text files SOURCE<SCORES>.txt beside the stems. auto is _b,
    as in Bach10, or what belongs to a rendition by Sibelius."""
    compat: bool = False
    """Place notes as DeepConvSep does, by whole frames per second, and with 19 partials."""
    jobs: Annotated[int, Range(0)] = 1
    """Number of processes; 0 means one per core."""
    force: bool = False
    """Write songs again that are up to date."""


TRANSFORM = ("sample_rate", "channels", "n_fft", "hop_length", "window", "padding", "unitary")


def main(argv: list[str]) -> None:
    """Write every song that is not up to date."""
    c = config.parse(Config, argv)
    from gensep.mixtures.make import Extras, make_features
    from gensep.mixtures.scored_songs import ScoreFiles
    from gensep.representation.magnitude import Spectra

    fields: Json = dict(SEPARATORS[c.network].spectra) if c.network else {}
    given = {name: getattr(c, name) for name in TRANSFORM}
    fields |= {name: value for name, value in given.items() if value is not None}
    try:
        spectra = Spectra(**fields)
    except ValueError as error:
        raise UserError(str(error)) from None
    scores = None if c.scores is None else ScoreFiles(c.scores, c.compat)
    extras = Extras(c.phase, scores)
    make_features([c.input], Path(c.output), c, spectra, extras, jobs=c.jobs, force=c.force)


if __name__ == "__main__":
    run(main)
