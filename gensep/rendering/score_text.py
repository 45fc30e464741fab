"""Score text files: one note per line, `onset,offset,NOTE` in seconds, one file per instrument.

    ! what follows an exclamation mark is a comment
    0.5,1.25,F#4
    1.25,2,Bb4

NOTE is a letter, an octave of one digit, and before or after the octave any number of accidentals:
b, #, and x for a double sharp. Case does not matter. A `?` is a note of unknown pitch.

Bach10 has one folder per piece with a file `<instrument>_b.txt` for every instrument, the score
that is aligned with the recording. The files of its renditions by Sibelius end in `_g`,
`_g_original`, `_g_fast20` and `_g_slow20`.
"""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gensep.rendering.notation import CORPUS, Note, Piece, find_pieces, read_piece
from gensep.runtime.errors import UserError
from gensep.runtime.files import write_atomically

SEMITONES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
ACCIDENTALS = {"b": -1, "#": 1, "x": 2}
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
UNKNOWN = "?"
NOTE = re.compile(r"([a-g])([b#x]*)(\d)([b#x]*)")
COMPAT_BYTES = 3  # of a note's name, all that DeepConvSep kept
LINE = "onset,offset,NOTE in seconds, such as 0.5,1.25,F#4"
SCORE_TEXT = ".txt"
ALIGNED = "_b"  # suffix of scores that are aligned with the recording


def parse_pitch(name: str) -> float:
    """Return the MIDI number of a note's name, NaN for `?`.

    Raises:
        ValueError: if it is no name of a note in 0..127.
    """
    if name == UNKNOWN:
        return math.nan
    match = NOTE.fullmatch(name.lower())
    if match is None:
        raise ValueError(f"'{name}' is no note")
    letter, before, octave, after = match.groups()
    pitch = 12 * (int(octave) + 1) + SEMITONES[letter]
    pitch += sum(ACCIDENTALS[sign] for sign in before + after)
    if not 0 <= pitch <= 127:
        raise ValueError(f"'{name}' has the MIDI number {pitch}")
    return float(pitch)


def pitch_name(pitch: float) -> str:
    """Return the name of the nearest semitone, with sharps; `?` for NaN.

    Raises:
        ValueError: if it lies outside C0..G9, MIDI 12..127.
    """
    if math.isnan(pitch):
        return UNKNOWN
    octave, step = divmod(round(pitch), 12)
    if not 1 <= octave <= 10 or round(pitch) > 127:
        raise ValueError(f"MIDI {pitch:g} has no name with an octave of one digit")
    return f"{NAMES[step]}{octave - 1}"


def read_notes(path: str | Path, *, compat: bool = False) -> list[Note]:
    """Read the notes of one instrument, sorted by onset; unknown pitches are NaN.

    With `compat` only the first three bytes of a name count, as in DeepConvSep.

    Raises:
        UserError: if the file cannot be read or a line is no note; the message names the line.
    """
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"cannot read the score {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text; expected lines {LINE}") from None
    notes = []
    for number, line in enumerate(lines, 1):
        if text := line.partition("!")[0].strip():
            try:
                notes.append(_note(text, COMPAT_BYTES if compat else None))
            except ValueError as error:
                problem = f"{path}, line {number}: expected {LINE}"
                raise UserError(f"{problem}, but {error}; correct the line") from None
    return sorted(notes, key=lambda note: note[:2])


def _note(line: str, most: int | None) -> Note:
    """Read one line; of the name only the first `most` characters.

    Raises:
        ValueError: what is wrong with the line, short enough for a message.
    """
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 3:
        raise ValueError(f"'{line[:40]}' has {len(fields)} fields")
    on, off = (_seconds(field) for field in fields[:2])
    if off < on:
        raise ValueError(f"the note ends at {off:g}, before it begins at {on:g}")
    return Note(on, off, parse_pitch(fields[2][:most]))


def _seconds(field: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"'{field[:40]}' is no time of at least 0")
    return value


def write_notes(notes: Iterable[Note], path: str | Path) -> None:
    """Write the notes of one instrument, to whole microseconds and semitones.

    Raises:
        UserError: if a pitch cannot be written.
    """
    try:
        lines = [f"{n.on:.6f},{n.off:.6f},{pitch_name(n.pitch)}\n" for n in notes]
    except ValueError as error:
        raise UserError(f"{path} cannot be written: {error}; transpose the piece") from None
    write_atomically(Path(path), "".join(lines))


def read_score_folder(
    folder: str | Path, suffix: str = ALIGNED, names: Sequence[str] = (), *, compat: bool = False
) -> Piece:
    """Read the files `<instrument><suffix>.txt` of a folder as one piece.

    The tracks are the instruments, sorted; `saxphone`, as Bach10 spells it, is `saxophone`.
    With `names` only these instruments are read.

    Raises:
        UserError: if there is no such file, one of `names` is missing, or a line is no note.
    """
    files = _score_files(Path(folder), suffix)
    for name in names:
        if name not in files:
            has = f"it has {', '.join(files) or 'none'}"
            missing = f"{folder} lacks the score {name}{suffix}{SCORE_TEXT}"
            raise UserError(f"{missing} ({has}); add the file or choose another suffix")
    if not files:
        raise UserError(f"no scores in {folder}: expected files named SOURCE{suffix}{SCORE_TEXT}")
    wanted = {name: files[name] for name in names or files}
    tracks = {name: read_notes(path, compat=compat) for name, path in wanted.items()}
    return Piece(Path(folder).resolve().name, tracks)


def _score_files(folder: Path, suffix: str) -> dict[str, Path]:
    """Return the score files of a folder by their instruments, sorted."""
    ending = suffix + SCORE_TEXT
    paths = folder.iterdir() if folder.is_dir() else ()
    found = {
        path.name.removesuffix(ending).replace("saxphone", "saxophone"): path
        for path in paths
        if path.name.endswith(ending) and path.name != ending and path.name[0] != "."
    }
    return dict(sorted(found.items()))


def find_scores(paths: Iterable[str | Path], suffix: str = ALIGNED) -> list[str]:
    """List scores: folders of score text files, and all that `notation.find_pieces` finds.

    Folders are searched with all below them, and sorted.

    Raises:
        UserError: if a path holds no score.
    """
    found: list[str] = []
    for path in map(str, paths):
        if path.startswith(CORPUS) or not Path(path).is_dir():
            found += find_pieces([path])
            continue
        below = sorted(p for p in Path(path).rglob("*") if p.is_dir())
        visible = [p for p in below if all(x[0] != "." for x in p.relative_to(path).parts)]
        folders = [str(p) for p in (Path(path), *visible) if _score_files(p, suffix)]
        try:
            found += folders + find_pieces([path])
        except UserError:
            if not folders:
                text = f"SOURCE{suffix}{SCORE_TEXT}"
                raise UserError(f"no scores in {path}: expected {text} or MIDI files") from None
            found += folders
    return found


def read_score(path: str | Path, suffix: str = ALIGNED, *, compat: bool = False) -> Piece:
    """Read a piece to play: a folder of score text files, a MIDI or MusicXML file, or the corpus.

    Notes of unknown pitch are left out.

    Raises:
        UserError: if it cannot be read.
    """
    if str(path).startswith(CORPUS) or not Path(path).is_dir():
        return read_piece(path)
    piece = read_score_folder(path, suffix, compat=compat)
    known = {k: [n for n in v if not math.isnan(n.pitch)] for k, v in piece.tracks.items()}
    return Piece(piece.name, known)
