"""Notes of the RWC music database (musical instrument sound, Goto 2004) by pitch and playing.

    FOLDER/wav/<instrument><musician>/*.WAV      one file per style and dynamics, many notes each
    FOLDER/mat/<wav name in lower case>.mat      where each note begins and ends, and its pitch

The numbers of instruments are RWC's, e.g. violin 15, alto saxophone 27, bassoon 30, clarinet 31.
Dynamics are P, M and F; styles are RWC's abbreviations, e.g. NO for normal.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gensep.rendering.notation import Note
from gensep.rendering.performance import PLAIN, Performance
from gensep.rendering.recorded_notes import play_recordings
from gensep.runtime.errors import UserError

MUSICIANS, DYNAMICS = (1, 2, 3), ("P", "F", "M")
WINDOW, HOP, ONSET_LEVEL = 1024, 128, 0.01  # samples, samples, RMS at which a note has begun
STRUCT = "featureStruct"
# places in the struct of a .mat file, and of the rate in the struct that it holds at place 0
RATE, DYNAMICS_OF, STYLE, MIDI, STARTS, ENDS = 3, 3, 9, 14, 15, 16


@dataclass(frozen=True)
class RwcNote:
    """One recorded note: how it is played, and the seconds of its file between which it lies."""

    path: Path
    midi: int
    dynamics: str
    style: str
    musician: int
    start: float
    end: float

    def audio(self, rate: int | None = None, max_duration: float | None = None) -> np.ndarray:
        """Return the note from its onset on: mono float32 at `rate`, by default that of the file.

        The onset is one step of 128 samples before the first window of 1024 samples whose RMS
        exceeds 0.01. The note lasts `max_duration` seconds at most.

        Raises:
            UserError: if the file cannot be read or does not hold the note.
        """
        import soxr

        audio, recorded_rate = _onset_on(self.path, self.start, self.end)
        if max_duration is not None:
            audio = audio[: int(max_duration * recorded_rate)]
        if rate in (None, recorded_rate):
            return audio.copy()
        return np.asarray(soxr.resample(audio, recorded_rate, rate), np.float32)


class RwcInstrument:
    """The notes of one RWC instrument; `skipped` names wav files without a .mat file."""

    def __init__(
        self,
        path: str | Path,
        instrument: int,
        *,
        musicians: Sequence[int] = MUSICIANS,
        styles: Sequence[str] | None = None,
        dynamics: Sequence[str] = DYNAMICS,
    ):
        """Read where the notes are; sound is read when it is asked for.

        `styles` are texts that names of files contain, by default all; `dynamics` are the last
        letters of their names. A wav file without a .mat file is skipped with a note on stderr.

        Raises:
            UserError: if there is no folder of these musicians, or a .mat file is not as RWC's.
        """
        self.notes: list[RwcNote] = []
        self.skipped: list[Path] = []
        folders = {m: Path(path) / "wav" / f"{instrument}{m}" for m in musicians}
        there = {m: folder for m, folder in folders.items() if folder.is_dir()}
        if not there:
            names = ", ".join(map(str, folders.values()))
            raise UserError(f"there is no folder {names}; check the numbers of RWC")
        for musician, folder in there.items():
            for wav in sorted(folder.iterdir()):
                name, _, suffix = wav.name.upper().rpartition(".")
                if suffix != "WAV" or wav.name[0] == "." or not name.endswith(tuple(dynamics)):
                    continue
                if styles is not None and not any(style in name for style in styles):
                    continue
                mat = Path(path) / "mat" / f"{wav.name.lower()}.mat"
                if mat.is_file():
                    self.notes += _read_mat(mat, wav, musician)
                else:
                    print(f"note: {wav} is skipped, there is no {mat}", file=sys.stderr)
                    self.skipped.append(wav)

    def get_note(
        self, midi: int, dynamics: str = "F", style: str = "NO", musician: int = 1
    ) -> RwcNote | None:
        """Return the first note of exactly this pitch and playing, or None."""
        wanted = midi, dynamics, style, musician
        playing = ((n.midi, n.dynamics, n.style, n.musician) for n in self.notes)
        return next((n for n, p in zip(self.notes, playing, strict=True) if p == wanted), None)


@dataclass(frozen=True)
class RwcSound:
    """One musician of an RWC instrument, who plays in one style with one dynamics.

    Between the recorded pitches the nearest one is resampled, and notes that last longer than the
    recording are sustained, as those of other recorded notes are.
    """

    path: str
    instrument: int
    musician: int = 1
    style: str = "NO"
    dynamics: str = "F"

    def render(
        self, notes: Sequence[Note], seconds: float, rate: int, performance: Performance = PLAIN
    ) -> np.ndarray:
        """Play `notes` into `seconds` of mono float32 audio at `rate`.

        Raises:
            UserError: if nothing was recorded in this style and dynamics.
        """
        there = self._recordings()
        if not there:
            playing = f"style {self.style}, dynamics {self.dynamics}, musician {self.musician}"
            raise UserError(f"{self.path} has no notes of instrument {self.instrument}, {playing}")
        return play_recordings([there], notes, seconds, rate, performance, sustain=True)

    def lacks(self, notes: Sequence[Note]) -> set[int]:
        """Return the pitches of `notes` that were not recorded."""
        return {round(note.pitch) for note in notes} - {int(p) for p in self._recordings()}

    def _recordings(self) -> "_Recordings":
        found = _instrument(self.path, self.instrument, self.musician, self.style, self.dynamics)
        pitches = sorted({note.midi for note in found.notes})
        playing = self.dynamics, self.style, self.musician
        notes = {midi: note for midi in pitches if (note := found.get_note(midi, *playing))}
        return _Recordings(notes)


class _Recordings(Mapping[float, tuple[np.ndarray, int]]):
    """Pitch -> (audio, rate), read when it is asked for."""

    def __init__(self, notes: dict[int, RwcNote]):
        self.notes = notes

    def __getitem__(self, pitch: float) -> tuple[np.ndarray, int]:
        note = self.notes[int(pitch)]
        return _onset_on(note.path, note.start, note.end)

    def __iter__(self) -> Iterator[float]:
        return iter(self.notes)

    def __len__(self) -> int:
        return len(self.notes)


@lru_cache(maxsize=64)
def _instrument(
    path: str, instrument: int, musician: int, style: str, dynamics: str
) -> RwcInstrument:
    about = {"musicians": (musician,), "styles": (style,), "dynamics": (dynamics,)}
    return RwcInstrument(path, instrument, **about)  # type: ignore[arg-type]


def _read_mat(mat: Path, wav: Path, musician: int) -> list[RwcNote]:
    """List the notes of one wav file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        fields = loadmat(mat, variable_names=[STRUCT])[STRUCT][0][0]
        rate = float(fields[0][0][0][RATE][0][0])
        dynamics, style = (str(fields[place][0]) for place in (DYNAMICS_OF, STYLE))
        pitches, starts, ends = (_row(fields[place]) for place in (MIDI, STARTS, ENDS))
        if rate <= 0 or not len(pitches) == len(starts) == len(ends):
            raise ValueError("its numbers do not fit together")
    except (
        *(OSError, MatReadError, KeyError, IndexError, TypeError, ValueError),
        *(NotImplementedError, AttributeError, EOFError),
    ) as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        expected = f"expected RWC's struct {STRUCT} with rate, pitches, starts and ends"
        raise UserError(f"{mat} cannot be read ({reason}); {expected}") from None
    times = zip(pitches.tolist(), starts.tolist(), ends.tolist(), strict=True)
    return [
        RwcNote(wav, round(midi), dynamics, style, musician, start / rate, end / rate)
        for midi, start, end in times
    ]


def _row(field: Any) -> np.ndarray:
    row = np.asarray(field, np.float64).ravel()
    if not np.isfinite(row).all():
        raise ValueError("it holds NaN or Inf")
    return row


@lru_cache(maxsize=128)
def _onset_on(path: Path, start: float, end: float) -> tuple[np.ndarray, int]:
    """Return a note from its onset to its end, mono float32 (not to be written to), and its rate.

    Raises:
        UserError: if the file cannot be read or ends before the note.
    """
    from gensep.audio.files import probe, read_blocks

    shape = probe(path)
    first, stop = round(start * shape.rate), round(end * shape.rate)
    if not 0 <= first < stop <= shape.samples:
        problem = f"holds {shape.samples} samples, but its .mat file a note in {first}..{stop}"
        raise UserError(f"{path} {problem}; the two do not belong together")
    where = first / shape.rate, (stop - first) / shape.rate
    audio = np.concatenate(list(read_blocks(path, *where)), axis=1).mean(0)
    energy = np.concatenate([[0], np.cumsum(np.square(audio, dtype=np.float64))])
    begins = np.arange(0, len(audio), HOP)
    ends = np.minimum(begins + WINDOW, len(audio))
    loud = energy[ends] - energy[begins] > ONSET_LEVEL**2 * (ends - begins)
    onset = max(int(np.argmax(loud)) - 1, 0) * HOP
    audio = audio[onset:].copy()
    audio.flags.writeable = False
    return audio, shape.rate
