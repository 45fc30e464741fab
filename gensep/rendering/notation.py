"""Read musical notation (MIDI, MusicXML, the music21 corpus) as named tracks of timed notes."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gensep.runtime.errors import UserError
from gensep.runtime.files import atomic

if TYPE_CHECKING:
    import mido
    import music21

MIDI = (".mid", ".midi")
MUSICXML = (".mxl", ".musicxml", ".xml")
ENDINGS = f"files ending in {', '.join(MIDI + MUSICXML)}"
CORPUS = "music21:"
TICKS_PER_BEAT, TEMPO = 960, 500_000  # what `write_midi` writes: 1920 ticks per second


class Note(NamedTuple):
    """One note: on and off in seconds, pitch as a (float) MIDI number, velocity 1..127."""

    on: float
    off: float
    pitch: float
    velocity: int = 80


@dataclass(frozen=True)
class Piece:
    """A piece of music: its name and the notes of each track, sorted by onset."""

    name: str
    tracks: dict[str, list[Note]]

    @property
    def seconds(self) -> float:
        """End of the last note in seconds; 0 for a piece without notes."""
        return max((n.off for notes in self.tracks.values() for n in notes), default=0.0)


def read_piece(path: str | Path) -> Piece:
    """Read a MIDI or MusicXML file, or the work `music21:NAME`.

    Raises:
        UserError: if it cannot be read.
    """
    text = str(path)
    if text.startswith(CORPUS):
        return read_music21(text.removeprefix(CORPUS), corpus=True)
    suffix = Path(text).suffix.lower()
    if suffix in MIDI:
        return read_midi(text)
    if suffix in MUSICXML:
        return read_music21(text)
    raise UserError(f"{text} is not a score: expected {ENDINGS} or {CORPUS}NAME")


def piece_name(path: str | Path) -> str:
    """Return the name of the outputs of a piece: its file name without the ending."""
    text = str(path)
    if text.startswith(CORPUS):
        return text.removeprefix(CORPUS).replace("/", "_")
    return Path(text).stem


def find_pieces(paths: Iterable[str | Path]) -> list[str]:
    """List the files of pieces: those named, and all below named folders, sorted, no dotfiles."""
    found: list[str] = []
    for path in map(str, paths):
        if path.startswith(CORPUS) or Path(path).is_file():
            found.append(path)
            continue
        if not Path(path).is_dir():
            raise UserError(f"no score at {path}: expected {ENDINGS}, a folder, or {CORPUS}NAME")
        files = [p for p in sorted(Path(path).rglob("*")) if p.suffix.lower() in MIDI + MUSICXML]
        hidden = [any(x.startswith(".") for x in p.relative_to(path).parts) for p in files]
        below = [str(p) for p, hide in zip(files, hidden, strict=True) if not hide]
        if not below:
            raise UserError(f"no scores in {path}: expected {ENDINGS}")
        found += below
    return found


def read_midi(path: str | Path) -> Piece:
    """Read a MIDI file at its own tempo; tracks of one name are merged."""
    import mido

    try:
        midi = mido.MidiFile(path, clip=True)
        tracks = [_track(t, i) for i, t in enumerate(midi.tracks)]
        seconds = _clock(midi)
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"cannot read the score {path}: {error.strerror}") from None
        reason = (" ".join(str(error).split()) or type(error).__name__)[:80]
        raise UserError(
            f"{path} is not a readable MIDI file ({reason}); export it again or leave it out"
        ) from None
    notes: dict[str, list[Note]] = defaultdict(list)
    for name, ticks in tracks:
        notes[name] += [Note(seconds(a), seconds(b), p, v) for a, b, p, v in ticks if b > a]
    return Piece(piece_name(path), {k: sorted(v) for k, v in notes.items() if v})


def _track(track: "mido.MidiTrack", index: int) -> tuple[str, list[tuple[int, int, int, int]]]:
    """Pair the on and off messages of a track: (name, [(on tick, off tick, pitch, velocity)])."""
    name, now, notes = "", 0, []
    sounding = defaultdict(list)
    for message in track:
        now += message.time
        if message.type == "track_name" and not name:
            name = message.name.strip()
        elif message.type == "note_on" and message.velocity:
            sounding[message.channel, message.note].append((now, message.velocity))
        elif message.type in ("note_on", "note_off") and sounding[message.channel, message.note]:
            on, velocity = sounding[message.channel, message.note].pop(0)
            notes.append((on, now, message.note, velocity))
    for (_, pitch), left in sounding.items():  # notes without an end stop with the track
        notes += [(on, now, pitch, velocity) for on, velocity in left]
    return name or f"track {index}", notes


def _clock(midi: "mido.MidiFile") -> Callable[[float], float]:
    """Return the map from ticks to seconds, from every tempo mark of the file."""
    marks = {0: TEMPO}
    for track in midi.tracks:
        now = 0
        for message in track:
            now += message.time
            if message.type == "set_tempo":
                marks[now] = message.tempo
    if midi.ticks_per_beat <= 0:
        raise ValueError("SMPTE time is not supported")
    return _piecewise({t: tempo * 1e-6 / midi.ticks_per_beat for t, tempo in marks.items()})


def _piecewise(marks: Mapping[float, float]) -> Callable[[float], float]:
    """Return the map from positions to seconds; `marks` are seconds per unit from 0, ... on."""
    places = sorted(marks)
    starts = [0.0]
    for here, there in zip(places, places[1:], strict=False):
        starts.append(starts[-1] + (there - here) * marks[here])

    def seconds(position: float) -> float:
        i = bisect_right(places, position) - 1
        return starts[i] + (position - places[i]) * marks[places[i]]

    return seconds


def read_music21(source: str, *, corpus: bool = False, bpm: float = 80.0) -> Piece:
    """Parse MusicXML (or a corpus work) with music21; `bpm` holds up to the first tempo mark."""
    try:
        import music21
    except ImportError:
        raise UserError(f"{source} needs the package music21: pip install music21") from None
    try:
        parsed = music21.corpus.parse(source) if corpus else music21.converter.parse(source)
    except Exception as error:  # music21 raises exceptions of many kinds for unreadable files
        reason = " ".join(str(error).split())[:80]
        raise UserError(f"music21 cannot read {source} ({reason})") from None
    marks = {0.0: 60 / bpm}
    for mark in parsed.recurse().getElementsByClass(music21.tempo.MetronomeMark):
        if quarter_bpm := mark.getQuarterBPM():
            marks[float(mark.getOffsetInHierarchy(parsed))] = 60 / quarter_bpm
    seconds = _piecewise(marks)
    tracks: dict[str, list[Note]] = {}
    for i, part in enumerate(getattr(parsed, "parts", [parsed])):
        name = wanted = (getattr(part, "partName", None) or "").strip() or f"track {i}"
        while name in tracks:  # two parts of one name are two tracks
            name = f"{wanted} {i + 1}"
            i += 1
        tracks[name] = _part_notes(part, seconds)
    name = piece_name(CORPUS + source if corpus else source)
    return Piece(name, {k: sorted(v) for k, v in tracks.items() if v})


def _part_notes(part: "music21.stream.Stream", seconds: Callable[[float], float]) -> list[Note]:
    notes = []
    for n in part.flatten().stripTies().notes:
        start, length = float(n.offset), float(n.duration.quarterLength)
        if length and "ChordSymbol" not in n.classes:  # grace notes have no length
            notes += [Note(seconds(start), seconds(start + length), p.midi) for p in n.pitches]
    return notes


def write_midi(score: Piece, path: str | Path) -> None:
    """Write one named track per part at 120 beats per minute, which keeps times to 0.3 ms."""
    import mido

    midi = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT)
    midi.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=TEMPO)]))
    rate = TICKS_PER_BEAT * 1e6 / TEMPO
    for name, notes in score.tracks.items():
        events = []
        for note in notes:
            on, off = round(note.on * rate), max(round(note.off * rate), round(note.on * rate) + 1)
            events += [(on, 1, round(note.pitch), note.velocity), (off, 0, round(note.pitch), 0)]
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        now = 0
        for tick, on, pitch, velocity in sorted(events):  # ends before beginnings
            kind = "note_on" if on else "note_off"
            track.append(mido.Message(kind, note=pitch, velocity=velocity, time=tick - now))
            now = tick
        midi.tracks.append(track)
    with atomic(Path(path)) as temporary:
        midi.save(temporary)
