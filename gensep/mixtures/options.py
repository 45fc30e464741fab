"""Options of commands that read mixtures with their sources."""

from dataclasses import dataclass
from typing import Annotated

from gensep.cli.options import Count, Fraction, Layout, Range, choices


@dataclass(frozen=True, kw_only=True)
class Songs:
    """Songs with stems."""

    layout: Layout = "auto"
    """How folders of songs are arranged."""
    stems: tuple[str, ...] = ()
    """Stems or folders of solo recordings that mixtures consist of; by default all of them. They
    name the sources of raw features, in order."""
    missing: Annotated[str, choices("refuse", "silence")] = "refuse"
    """What to do with a song that lacks one of the stems: refuse the data, or take silence."""
    residual: str | None = None
    """Name of a further source: the mixture minus all stems of a song. If every song has a mixture
    and one stem only, there is such a source in any case, called residual."""


@dataclass(frozen=True, kw_only=True)
class Mixtures(Songs):
    """Mixtures."""

    data: tuple[str, ...]
    """Folders of songs with stems, of solo recordings sorted as SOURCE/{train,valid}/**, of
    features that gensep.make_features wrote, or of raw features of DeepConvSep; or a partition that
    gensep.partition wrote."""
    kind: Annotated[str, choices("auto", "gensep.mixtures.kinds:KINDS")] = "auto"
    """What the data are: songs with stems; solos by source, which are summed at random; features;
    or the paired songs of a partition."""


@dataclass(frozen=True, kw_only=True)
class Splitting(Mixtures):
    """Training and validation."""

    train_split: str | None = None
    """Folder with the songs for training; by default train, Dev, or all but valid and test."""
    valid_split: str | None = None
    """Folder with the songs for validation; by default valid, or the 14 songs of MUSDB18 that
    Open-Unmix validates on if the data hold them, or else a share of the songs for training."""
    valid_share: Fraction = 0.1
    """Share of the songs, or of the recordings of a source, that is held out for validation if no
    folder or list says which. 0 validates on the training data."""
    valid_excerpts: Count = 100
    """Number of validation mixtures that are made of solo recordings; songs are used whole."""


@dataclass(frozen=True, kw_only=True)
class Reading(Splitting):
    """Segments of features."""

    overlap: Annotated[int, Range(0)] = 0
    """Frames that successive segments share; half a segment if it is longer than a segment."""
    tail: Annotated[str, choices("drop", "pad")] = "drop"
    """What to do with frames at the end of a song that make no whole segment: leave them out, as
    DeepConvSep does, or fill the segment with zeros."""
    memory: Count = 256
    """Megabytes of features that are held at once. Segments are shuffled within blocks that take
    half of it, and the blocks are read in random order."""
    mix_features: Fraction = 0.0
    """Share of examples whose sources come from different examples of the batch; the mixture is
    then the sum of their magnitudes."""


@dataclass(frozen=True, kw_only=True)
class Excerpts:
    """Random excerpts of waves; the defaults are Open-Unmix's."""

    seconds: Annotated[float, Range(0.01)] = 6.0
    """Length of a training excerpt; networks with a window of their own take that length."""
    positions: Annotated[int, Range(0)] = 64
    """Excerpts that are taken of every song in an epoch, all songs in random order; 0 draws every
    song independently."""
    mix_songs: Fraction = 1.0
    """Share of examples whose sources come from different songs and places."""
    gain_low: Annotated[float, Range(0)] = 0.25
    """Lowest random factor of every source."""
    gain_high: Annotated[float, Range(0)] = 1.25
    """Highest random factor of every source."""
    swap: Fraction = 0.5
    """Probability that the first two channels of a source are exchanged."""
    mute_source: Fraction = 0.0
    """Probability that a source is silent in an example. One that would have no source left keeps
    them all."""
    mute_channel: Fraction = 0.0
    """Probability that one channel of a source is silent."""
    shift: Annotated[float, Range(0)] = 0.0
    """Largest circular shift of a source in seconds."""
    quietest: float = -60.0
    """Mixtures below this level, in dBFS RMS, are drawn again."""
    redraws: Annotated[int, Range(0)] = 10
    """How often a mixture is drawn again before a quiet one is taken."""

    def __post_init__(self) -> None:
        if self.gain_low > self.gain_high:
            raise ValueError(
                f"expected gain_low <= gain_high, not {self.gain_low} and {self.gain_high}"
            )


@dataclass(frozen=True, kw_only=True)
class Drawing(Excerpts, Reading):
    """Options of commands that draw mixtures from waves."""


@dataclass(frozen=True, kw_only=True)
class Unpairing:
    """Unpaired recordings."""

    unpaired_gain_low: Annotated[float, Range(0)] = 0.2
    """Lowest random factor of an unpaired excerpt."""
    unpaired_gain_high: Annotated[float, Range(0)] = 1.2
    """Highest random factor of an unpaired excerpt."""
    fresh: Fraction = 1.0
    """Share of the unpaired excerpts of an update that is read from disk; the others are taken
    again from those in memory, each of which is replaced in its turn."""
    kept: Count = 256
    """Unpaired excerpts of every list that are in memory, unless all are fresh."""

    def __post_init__(self) -> None:
        low, high = self.unpaired_gain_low, self.unpaired_gain_high
        if low > high:
            raise ValueError(
                f"expected unpaired_gain_low <= unpaired_gain_high, not {low} and {high}"
            )
