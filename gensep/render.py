"""Render scores to audio: aligned songs with their stems, or the sources each on its own.

OUTPUT/<song>/{<source>.flac ..., mixture.flac} (layout songs) or
OUTPUT/<source>/<split>/<song>_<variant>.flac (layout solo). The folder of a score, where it is
called train, valid or test, names its split.
"""

import dataclasses
import fnmatch
import hashlib
import os
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from gensep import errors
from gensep.config import option, parse, to_toml
from gensep.errors import UserError
from gensep.instruments import Layered, NoteFolder, Performance, Sound, SoundFont
from gensep.scores import Note, Score, find_scores, read_score, score_name

SPLITS = ("train", "valid", "test")
TAIL = 1.0  # seconds that a whole piece rings on after its last note
SOURCE_KEYS = {"tracks", "low", "high", "sustained", "sounds", "valid_sounds"}
FONT_KEYS, NOTES_KEYS = {"font", "bank", "program", "weight"}, {"notes", "tuned", "weight"}


@dataclass(frozen=True)
class Source:
    """One source of a mixture: which tracks it plays, its compass and its sounds with weights."""

    name: str
    tracks: tuple[str, ...]
    sounds: tuple[tuple[Sound, float], ...]
    valid_sounds: tuple[tuple[Sound, float], ...] = ()
    low: int = 0
    high: int = 127
    sustained: bool = False  # bowed or blown: swells and vibrato make sense


@dataclass(frozen=True)
class Playing:
    """What a rendition is like."""

    rate: int = option(16_000, "samples a second")
    seed: int = option(0, "seed of every random choice")
    start: float = option(0.0, "seconds of the performance to leave out")
    duration: float | None = option(None, "seconds to render; notes at the edge are clipped")
    tempo: tuple[float, ...] = option((1.0, 1.0), "lowest and highest tempo factor")
    transpose: tuple[int, ...] = option((0, 0), "lowest and highest transposition in semitones")
    onset_sd: float = option(0.0, "spread of the onsets in seconds")
    velocity_sd: float = option(0.0, "spread of the velocities as a fraction")
    velocity: tuple[float, ...] = option((), "lowest and highest mean velocity; as written if none")
    level: float = option(-26.0, "RMS of each stem in dB full scale")
    gains: tuple[float, ...] = option((), "dB added to each source, in the order of the file")
    peak: float = option(0.95, "largest sample; stems and mixture are scaled down together")
    timbre: float = option(0.0, "spread of the way of playing, 0 (plain) to 1")
    layer_probability: float = option(0.0, "chance that two sounds play together")

    def __post_init__(self):
        """Refuse ranges that are none."""
        for name in ("tempo", "transpose", "velocity"):
            value = getattr(self, name)
            if value and (len(value) != 2 or value[0] > value[1]):
                raise ValueError(f"{name} must be two numbers, the lower one first, not {value}")
        if len(self.tempo) != 2 or self.tempo[0] <= 0 or self.rate < 1000 or self.start < 0:
            raise ValueError("tempo must be above 0, rate at least 1000, start at least 0")
        if self.duration is not None and self.duration <= 0:
            raise ValueError(f"duration must be above 0, not {self.duration}")
        if not (0 < self.peak < 1 and 0 <= self.timbre <= 1 and 0 <= self.layer_probability <= 1):
            raise ValueError("peak must be between 0 and 1, timbre and layer_probability in 0..1")


@dataclass(frozen=True)
class Config(Playing):
    """The command's options."""

    scores: tuple[str, ...] = option(..., "MIDI or MusicXML files, folders of them, or "
                                     "music21:NAME", positional=True)
    output: str = option(..., "folder to write")
    instruments: str = option(..., "TOML file: a table for each source")
    sounds: tuple[str, ...] = option((".",), "folders searched for fonts and recorded notes")
    layout: Literal["songs", "solo"] = option("songs", "aligned stems and mixture, or each source "
                                              "on its own")
    variants: int = option(1, "renditions of each score")
    jobs: int = option(0, "processes; 0 for one a core")


def read_instruments(path: str | Path, folders: tuple[str, ...] = (".",)) -> dict[str, Source]:
    """Read the sources of an instruments file; `folders` are searched for its sounds."""
    try:
        tables = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read the instruments {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    if not tables:
        raise UserError(f"{path} names no source: expected tables like [violin]")
    return {name: _source(name, table, path, folders) for name, table in tables.items()}


def _source(name, table, path, folders) -> Source:
    where = f"{path}, [{name}]"
    if not isinstance(table, dict):
        raise UserError(f"{where} must be a table")
    _known(table, SOURCE_KEYS, where)
    tracks = table.get("tracks", [name])
    numbers = [table.get("low", 0), table.get("high", 127)]
    if not isinstance(tracks, list) or not all(isinstance(t, str) for t in tracks):
        raise UserError(f"{where}: tracks must be a list of texts")
    if not all(isinstance(n, int) for n in numbers) or numbers[0] + 11 > numbers[1]:
        raise UserError(f"{where}: low and high must be MIDI numbers an octave or more apart")
    if not table.get("sounds"):
        raise UserError(f"{where}: sounds is missing: a list of {{font, program}} or {{notes}}")
    sounds, valid_sounds = (tuple(_sound(s, where, folders) for s in table.get(key, ()))
                            for key in ("sounds", "valid_sounds"))
    return Source(name, tuple(t.lower() for t in tracks), sounds, valid_sounds, low=numbers[0],
                  high=numbers[1], sustained=bool(table.get("sustained", False)))


def _sound(entry, where: str, folders) -> tuple[Sound, float]:
    """Make a sound and its weight of one entry of a `sounds` list."""
    if not isinstance(entry, dict) or ("font" in entry) == ("notes" in entry):
        raise UserError(f"{where}: a sound is {{font = FILE, program = N}} or {{notes = FOLDER}}, "
                        f"not {entry!r}")
    _known(entry, FONT_KEYS if "font" in entry else NOTES_KEYS, where)
    weight = entry.get("weight", 1.0)
    if not isinstance(weight, int | float) or weight <= 0:
        raise UserError(f"{where}: weight must be a number above 0, not {weight!r}")
    if "notes" in entry:
        notes = entry["notes"] if isinstance(entry["notes"], list) else [entry["notes"]]
        paths = tuple(_find(n, where, folders) for n in notes)
        return NoteFolder(paths, bool(entry.get("tuned", True))), float(weight)
    bank, program = entry.get("bank", 0), entry.get("program", 0)
    if not all(isinstance(n, int) and 0 <= n <= 128 for n in (bank, program)) or program > 127:
        raise UserError(f"{where}: program must be in 0..127 and bank in 0..128, not "
                        f"{program!r} and {bank!r}")
    return SoundFont(_find(entry["font"], where, folders), bank, program), float(weight)


def _known(table: dict, keys: set[str], where: str) -> None:
    for key in table:
        if key not in keys:
            raise UserError(f"{where}: unknown key {key}; known: {', '.join(sorted(keys))}")


def _find(name: str, where: str, folders) -> str:
    for folder in folders:
        if (path := Path(folder) / str(name)).exists():
            return str(path)
    raise UserError(f"{where}: no {name} in {', '.join(folders)}; name its folder with --sounds")


def random(seed: int, *names: object) -> np.random.Generator:
    """A generator that depends on the seed and the names only."""
    text = "\0".join(map(str, (seed, *names)))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


def source_notes(score: Score, source: Source) -> list[list[Note]]:
    """The lines of `score` that `source` plays: its matching tracks."""
    return [notes for track, notes in score.tracks.items()
            if any(t in track.lower() or fnmatch.fnmatch(track.lower(), t)
                   for t in source.tracks)]


def into_compass(notes: list[Note], low: int, high: int) -> list[Note]:
    """Move a line by the octaves that leave the fewest notes outside low..high."""
    def outside(octaves: int) -> tuple[int, int]:
        return sum(not low <= n.pitch + 12 * octaves <= high for n in notes), abs(octaves)

    octaves = min((0, 1, -1, 2, -2, 3, -3, 4, -4), key=outside)
    return [n._replace(pitch=n.pitch + 12 * octaves) for n in notes] if octaves else notes


def perform(lines: list[list[Note]], source: Source, playing: Playing, tempo: float, shift: int,
            seconds: float, rng: np.random.Generator) -> list[Note]:
    """Play lines as one part: tempo, transposition, spreads; clipped to the window."""
    notes = []
    for line in lines:
        moved = [n._replace(pitch=n.pitch + shift) for n in line]
        notes += into_compass(moved, source.low, source.high)
    notes.sort()
    onsets = rng.normal(0, 1, len(notes)) * playing.onset_sd
    factors = 1 + rng.normal(0, 1, len(notes)) * playing.velocity_sd
    if playing.velocity and notes:
        low, high = playing.velocity
        factors *= rng.uniform(low, high) / np.mean([n.velocity for n in notes])
    played = []
    for note, onset, factor in zip(notes, onsets.tolist(), factors.tolist(), strict=True):
        on = max(note.on / tempo + onset - playing.start, 0.0)
        off = min(note.off / tempo + onset - playing.start, seconds)
        if off - on > 0.01 and on < seconds:  # what is left of a clipped note may be a mere click
            velocity = min(max(round(note.velocity * factor), 1), 127)
            played.append(Note(on, off, note.pitch, velocity))
    return played


def choose_sound(source: Source, split: str, playing: Playing, rng) -> tuple[Sound, Performance]:
    """Draw the sound and the way of playing of one rendition."""
    choices = source.valid_sounds if split == "valid" and source.valid_sounds else source.sounds
    weights = np.array([w for _, w in choices])
    first, second = rng.choice(len(choices), 2, p=weights / weights.sum())
    layered = rng.uniform() < playing.layer_probability
    share = float(rng.uniform(0.3, 0.7))
    sound = choices[first][0]
    if layered and first != second:
        sound = Layered((sound, choices[second][0]), (share, 1 - share))
    return sound, draw_performance(rng, playing.timbre, sustained=source.sustained)


def draw_performance(rng, spread: float, *, sustained: bool) -> Performance:
    """Draw a way of playing; `spread` 0 is the plain sound, 1 goes as far as stays natural."""
    reverb, chorus, vibrato, varispeed, swell, tilt = rng.uniform(0, 1, 6).tolist()
    detune, seed = float(rng.normal()), int(rng.integers(2**31))
    if not spread:
        return Performance()
    return Performance(
        reverb=round(100 * spread * reverb), chorus=round(spread * max(0, 160 * chorus - 96)),
        vibrato=round(90 * spread * vibrato) if sustained else 0,
        detune_cents=8 * spread * detune, varispeed_semitones=3 * spread * (2 * varispeed - 1),
        swell_db=12 * spread * swell if sustained else 0.0, tilt_db=6 * spread * (2 * tilt - 1),
        seed=seed)


def render_song(score: Score, instruments: dict[str, Source], playing: Playing, *,
                variant: int = 0, split: str = "train",
                only: str | None = None) -> dict[str, np.ndarray]:
    """Render the sources of a score: name -> float32 [time] on the 16-bit grid; silent ones absent.

    Tempo, transposition and length are common to all sources of a (song, variant). `only` renders
    a single source. Levels and the joint peak limit are those of the files.
    """
    common = random(playing.seed, score.name, variant)
    tempo = float(common.uniform(playing.tempo[0], playing.tempo[1]))
    shift = int(common.integers(playing.transpose[0], playing.transpose[1] + 1))
    seconds = score.seconds / tempo + TAIL - playing.start
    if playing.duration is not None:
        seconds = min(seconds, playing.duration)
    gains = (*playing.gains, *[0.0] * len(instruments))
    stems = {}
    for (name, source), gain in zip(instruments.items(), gains, strict=False):
        if only not in (None, name) or seconds <= 0:
            continue
        rng = random(playing.seed, score.name, variant, name)
        sound, performance = choose_sound(source, split, playing, rng)
        lines = source_notes(score, source)
        notes = perform(lines, source, playing, tempo, shift, seconds, rng)
        if not notes:
            continue
        audio = sound.render(notes, seconds, playing.rate, performance)
        rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
        if rms > 1e-6:
            stems[name] = audio * np.float32(10 ** ((playing.level + gain) / 20) / rms)
    return _limit(stems, playing.peak)


def _limit(stems: dict[str, np.ndarray], peak: float) -> dict[str, np.ndarray]:
    """Scale stems so that they and their sum stay below `peak`; round to 16 bits."""
    if not stems:
        return {}
    highest = max(np.abs(x).max() for x in (*stems.values(), sum(stems.values())))
    scale = np.float32(min(1.0, peak / highest) * 32768)
    return {name: np.rint(x * scale) / np.float32(32768) for name, x in stems.items()}


@dataclass(frozen=True)
class _Task:
    """One rendition to write: a song's folder, or one source's file where `source` is named."""

    path: str
    variant: int
    split: str
    target: str
    source: str | None


def _tasks(config: Config, sources) -> list[_Task]:
    tasks: list[_Task] = []
    taken: dict[str, str] = {}
    for path in find_scores(config.scores):
        name, folder = score_name(path), Path(path).parent.name
        split = folder if folder in SPLITS else "train"
        for variant in range(config.variants):
            numbered = f"{name}_{variant}"
            if config.layout == "songs":
                song = numbered if config.variants > 1 else name
                new = [_Task(path, variant, split, str(Path(config.output) / song), None)]
            else:
                new = [_Task(path, variant, split,
                             str(Path(config.output) / s / split / f"{numbered}.flac"), s)
                       for s in sources]
            for task in new:
                if taken.setdefault(task.target, path) != path:
                    raise UserError(f"{path} and {taken[task.target]} would both be written to "
                                    f"{task.target}; rename one")
            tasks += new
    return tasks


def _done(task: _Task) -> bool:
    """Whether a task's last file is there."""
    return (Path(task.target) / "mixture.flac" if task.source is None
            else Path(task.target)).exists()


def _write(path: Path, audio: np.ndarray, rate: int) -> None:
    """Write 16-bit FLAC under a temporary name, then put it in place."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    grid = (audio * 32768).astype(np.int16)
    soundfile.write(partial, grid, rate, format="FLAC", subtype="PCM_16")
    os.replace(partial, path)


def _work(task: _Task, config: Config) -> float:
    """Render one task; return the seconds of stems made, 0 where a source has nothing to play."""
    instruments = _instruments(config)
    stems = render_song(_score(task.path), instruments, config, variant=task.variant,
                        split=task.split, only=task.source)
    if len(stems) < (1 if task.source else len(instruments)):
        return 0.0
    if task.source:
        _write(Path(task.target), stems[task.source], config.rate)
    else:
        for name, audio in stems.items():
            _write(Path(task.target) / f"{name}.flac", audio, config.rate)
        mixture = np.sum(list(stems.values()), axis=0)
        _write(Path(task.target) / "mixture.flac", mixture, config.rate)
    return sum(len(x) for x in stems.values()) / config.rate


_loaded: dict = {}  # a process's instruments and last score; pure caches


def _instruments(config: Config) -> dict[str, Source]:
    key = (config.instruments, config.sounds)
    if key not in _loaded:
        _loaded[key] = read_instruments(*key)
    return _loaded[key]


def _score(path: str) -> Score:
    if _loaded.get("path") != path:
        _loaded.update(path=path, score=read_score(path))
    return _loaded["score"]


def _check_options(config: Config) -> None:
    """Refuse to continue a folder that other options began."""
    free = dataclasses.replace(config, scores=(), sounds=(), output="", jobs=0, variants=1)
    text = f"{to_toml(free)}# {hashlib.sha256(Path(config.instruments).read_bytes()).hexdigest()}\n"
    record = Path(config.output) / "render.toml"
    if record.exists() and record.read_text() != text:
        raise UserError(f"{config.output} was begun with other options (see {record}); choose "
                        "another --output or delete it")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(text)


def render(config: Config) -> None:
    """Render what is missing below the output folder; print the speed."""
    from tqdm import tqdm

    sources = _instruments(config)
    tasks = _tasks(config, sources)
    _check_options(config)
    todo = [t for t in tasks if not _done(t)]
    jobs = min(config.jobs or os.cpu_count() or 1, max(len(todo), 1))
    began, made = time.monotonic(), []
    for seconds in tqdm(_results(todo, config, jobs), total=len(todo), unit="file",
                        disable=not sys.stderr.isatty()):
        made.append(seconds)
    took = time.monotonic() - began
    empty = made.count(0.0)
    note = f", {empty} left out (a source has no notes there)" if empty else ""
    print(f"{len(made) - empty} rendered, {len(tasks) - len(todo)} already there{note}: "
          f"{sum(made):.0f} s of stems in {took:.1f} s ({sum(made) / max(took, 1e-9):.0f}x)")


def _results(tasks: list[_Task], config: Config, jobs: int):
    """Yield each task's seconds as it ends, from this process or `jobs` others."""
    if jobs == 1:
        yield from (_work(task, config) for task in tasks)
        return
    import multiprocessing
    import signal
    from concurrent.futures import ProcessPoolExecutor, as_completed

    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"),
                               initializer=signal.signal,  # Ctrl-C is the parent's to handle
                               initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        for future in as_completed([pool.submit(_work, task, config) for task in tasks]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def main(argv: list[str]) -> None:
    """Run the command."""
    about = "Render scores with soundfonts and recorded notes, as songs with stems or as solos."
    render(parse(Config, argv, prog="python -m gensep.render", about=about))


if __name__ == "__main__":
    errors.run(main)
