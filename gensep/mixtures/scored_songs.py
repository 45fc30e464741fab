"""Songs with scores: piano rolls beside their features, and the mixture filtered by the scores."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.mixtures.feature_store import StoredSong
from gensep.representation.magnitude import Spectra
from gensep.separators.score_masks import FLOOR, NoteGrid, note_rows, partial_bins, piano_roll

PITCHES = 128
# split -> suffix of the score text files of a rendition of Bach10 by Sibelius
RENDITIONS = {"gt": "_g", "fast": "_g_fast20", "slow": "_g_slow20", "original": "_g_original"}


class ScoreFiles(NamedTuple):
    """Where the scores of songs are, and how their notes become frames."""

    suffix: str  # of the text files beside the stems; auto: as in Bach10
    compat: bool = False  # frames and partials of DeepConvSep

    def of(self, split: str) -> str:
        """Return the suffix for the songs of a split."""
        return RENDITIONS.get(split, "_b") if self.suffix == "auto" else self.suffix

    def paths(self, folder: Path, split: str) -> list[Path]:
        """Return all score files of a song, sorted."""
        return sorted(folder.glob(f"*{self.of(split)}.txt"))

    def rolls(
        self, folder: Path, split: str, sources: Sequence[str], spectra: Spectra, frames: int
    ) -> "Rolls":
        """Read the scores of the sources of a song.

        Raises:
            UserError: if a source has no score, or a line is no note.
        """
        from gensep.rendering.score_text import read_score_folder

        piece = read_score_folder(folder, self.of(split), sources, compat=self.compat)
        grid = grid_of(spectra, compat=self.compat)
        return Rolls([note_rows(piece.tracks[name], grid, frames) for name in sources])


class Rolls(NamedTuple):
    """The notes of the sources of a song."""

    rows: list[np.ndarray]  # see gensep.separators.score_masks

    def blocks(self, blocks: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """Add `roll`, float32 `[frame, source, pitch]` of 0 and 1, to blocks of features."""
        at = 0
        for block in blocks:
            frames = len(block["magnitude"])
            rolls = [piano_roll(rows, frames, at, PITCHES) for rows in self.rows]
            yield {**block, "roll": np.stack(rolls, 1)}
            at += frames


def grid_of(spectra: Spectra, *, compat: bool) -> NoteGrid:
    """Return how notes become frames and bins of a transform."""
    return NoteGrid(spectra.sample_rate, spectra.hop_length, spectra.n_fft, compat=compat)


class ScoredSong(NamedTuple):
    """A song whose mixture is filtered by the score of every source; a `FeatureSong`.

    What `read` returns has, instead of the mixture, one plane for each of `sources` (their places
    among those of the features); then come these sources.
    """

    song: StoredSong
    sources: tuple[int, ...]
    harmonics: np.ndarray  # bool [pitch, bin], see `harmonics_of`

    @property
    def name(self) -> str:
        """Its name."""
        return self.song.name

    @property
    def split(self) -> str:
        """The split that it lies in."""
        return self.song.split

    @property
    def frames(self) -> int:
        """Its length."""
        return self.song.frames

    def read(self, first: int, stop: int) -> np.ndarray:
        """Read some frames, float32 `[frame, 2 sources, channel, bin]`, filtered mixtures first."""
        magnitudes, order = self.song.read(first, stop), list(self.sources)
        roll = self.song.field("roll", first, stop)[:, order]
        masks = roll_masks(roll, self.harmonics)[:, :, None]
        return np.concatenate(
            [magnitudes[:, :1] * masks, magnitudes[:, [1 + i for i in order]]], axis=1
        )


def harmonics_of(grid: NoteGrid) -> np.ndarray:
    """Return which bins the partials of every pitch cover, bool `[pitch, bin]`."""
    covered = np.zeros((PITCHES, grid.bins), bool)
    for pitch in range(PITCHES):
        for low, high in partial_bins(grid, pitch):
            covered[pitch, low:high] = True
    return covered


def roll_masks(roll: np.ndarray, harmonics: np.ndarray) -> np.ndarray:
    """Return masks `[frame, source, bin]` of piano rolls `[frame, source, pitch]`.

    A source has 1 in the bins of its notes and almost 0 elsewhere; then every bin is divided by its
    sum over the sources, as in `gensep.separators.score_masks.harmonic_masks`.
    """
    masks = np.full((*roll.shape[:2], harmonics.shape[1]), FLOOR, np.float32)
    for source, pitch in np.argwhere(roll.any(axis=0)):
        frames = np.flatnonzero(roll[:, source, pitch])
        masks[frames[:, None], source, harmonics[pitch].nonzero()[0]] = 1
    masks /= masks.sum(axis=1, keepdims=True)
    return masks
