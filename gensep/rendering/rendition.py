"""Pieces played by sources: the random choices of a rendition, and its stems."""

import fnmatch
import hashlib
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from gensep.cli.options import Fraction, Range
from gensep.rendering.instruments_file import Source
from gensep.rendering.notation import Note, Piece
from gensep.rendering.performance import Performance, Sound
from gensep.rendering.soundfont import Layered

TAIL = 1.0  # seconds that a whole piece rings on after its last note


@dataclass(frozen=True, kw_only=True)
class Playing:
    """Rendition."""

    rate: Annotated[int, Range(1000)] = 16_000
    """Sample rate in Hz."""
    seed: int = 0
    """Seed of all random choices."""
    start: Annotated[float, Range(0)] = 0.0
    """Seconds to skip at the start of the performance."""
    duration: float | None = None
    """Seconds to render; by default all. Notes that last longer are cut off."""
    tempo: tuple[float, ...] = (1.0, 1.0)
    """Lowest and highest factor of the tempo."""
    transpose: tuple[int, ...] = (0, 0)
    """Lowest and highest transposition in semitones."""
    onset_sd: float = 0.0
    """Standard deviation of random shifts of the onsets in seconds."""
    velocity_sd: float = 0.0
    """Relative standard deviation of random changes of the velocities."""
    velocity: tuple[float, ...] = ()
    """Lowest and highest mean velocity; by default the velocities as written."""
    level: float = -26.0
    """Loudness of each stem: its RMS in dB relative to full scale."""
    gains: tuple[float, ...] = ()
    """Gain in dB of each source, in the order of the instruments file."""
    peak: float = 0.95
    """Largest magnitude of a sample; stems and mixture are scaled down together to stay below."""
    timbre: Fraction = 0.0
    """Amount of random variation of timbre, from 0 (none) to 1."""
    layer_probability: Fraction = 0.0
    """Probability that two sounds play the same notes together."""

    def __post_init__(self) -> None:
        """Refuse ranges that are empty and values of 0."""
        for name in ("tempo", "transpose", *["velocity"] * bool(self.velocity)):
            value = getattr(self, name)
            if len(value) != 2 or value[0] > value[1]:
                raise ValueError(f"{name} must be two numbers, the lower one first, not {value}")
        for name in ("tempo", "duration", "peak"):
            value = getattr(self, name)
            if value is not None and np.min(value) <= 0:
                raise ValueError(f"{name} must be above 0, not {value}")
        if self.peak >= 1:
            raise ValueError(f"peak must be below 1, not {self.peak}")


def random(seed: int, *names: object) -> np.random.Generator:
    """Return a generator that depends on the seed and the names only."""
    text = "\0".join(map(str, (seed, *names)))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


def source_notes(piece: Piece, source: Source, shift: int) -> list[Note]:
    """Return the notes that a source plays, `shift` semitones higher: those of its tracks."""
    found = []
    for track, notes in piece.tracks.items():
        if any(t in track.lower() or fnmatch.fnmatch(track.lower(), t) for t in source.tracks):
            moved = [n._replace(pitch=n.pitch + shift) for n in notes]
            found += into_range(moved, source.low, source.high)
    return sorted(found)


def into_range(notes: list[Note], low: int, high: int) -> list[Note]:
    """Transpose a line by the octaves that leave the fewest notes outside low..high."""

    def outside(octaves: int) -> tuple[int, int]:
        return sum(not low <= n.pitch + 12 * octaves <= high for n in notes), abs(octaves)

    octaves = min((0, 1, -1, 2, -2, 3, -3, 4, -4), key=outside)
    return [n._replace(pitch=n.pitch + 12 * octaves) for n in notes] if octaves else notes


def perform(
    notes: list[Note], playing: Playing, tempo: float, seconds: float, rng: np.random.Generator
) -> list[Note]:
    """Apply tempo and random variation to notes; clip them to the window."""
    onsets = rng.normal(0, 1, len(notes)) * playing.onset_sd
    factors = 1 + rng.normal(0, 1, len(notes)) * playing.velocity_sd
    if playing.velocity and notes:
        low, high = playing.velocity
        factors *= rng.uniform(low, high) / np.mean([n.velocity for n in notes])
    played = []
    for note, onset, factor in zip(notes, onsets.tolist(), factors.tolist(), strict=True):
        on = max(note.on / tempo + onset - playing.start, 0.0)
        off = min(note.off / tempo + onset - playing.start, seconds)
        if off - on > 0.01 and on < seconds:  # shorter rests of clipped notes are clicks
            velocity = min(max(round(note.velocity * factor), 1), 127)
            played.append(Note(on, off, note.pitch, velocity))
    return played


def choose_sound(
    source: Source, split: str, playing: Playing, rng: np.random.Generator
) -> tuple[Sound, Performance]:
    """Choose the sound and the way of playing of one rendition at random."""
    choices = source.valid_sounds if split == "valid" and source.valid_sounds else source.sounds
    weights = np.array([w for _, w in choices])
    first, second = rng.choice(len(choices), 2, p=weights / weights.sum())
    layered = rng.uniform() < playing.layer_probability
    share = float(rng.uniform(0.3, 0.7))
    sound = choices[first][0]
    if layered and first != second:
        sound = Layered((sound, choices[second][0]), (share, 1 - share))
    return sound, choose_performance(rng, playing.timbre, sustained=source.sustained)


def choose_performance(rng: np.random.Generator, spread: float, *, sustained: bool) -> Performance:
    """Choose a way of playing; `spread` 0 is the plain sound, 1 the limit of natural playing."""
    reverb, chorus, vibrato, varispeed, swell, tilt = rng.uniform(0, 1, 6).tolist()
    detune, seed = float(rng.normal()), int(rng.integers(2**31))
    if not spread:
        return Performance()
    return Performance(
        reverb=round(100 * spread * reverb),
        chorus=round(spread * max(0, 160 * chorus - 96)),
        vibrato=round(90 * spread * vibrato) if sustained else 0,
        detune_cents=8 * spread * detune,
        varispeed_semitones=3 * spread * (2 * varispeed - 1),
        swell_db=12 * spread * swell if sustained else 0.0,
        tilt_db=6 * spread * (2 * tilt - 1),
        seed=seed,
    )


def render_song(
    piece: Piece,
    instruments: dict[str, Source],
    playing: Playing,
    variant: int = 0,
    split: str = "train",
    only: str | None = None,
) -> dict[str, np.ndarray]:
    """Render the sources of a piece: name -> float32 `[time]`, rounded to 16 bits.

    Silent sources are absent. All sources of a variant have the same tempo, transposition and
    length. `only` is the name of a single source to render.
    """
    tempo, shift, seconds = choose_common(piece, playing, variant)
    gains = (*playing.gains, *[0.0] * len(instruments))
    stems = {}
    for (name, source), gain in zip(instruments.items(), gains, strict=False):
        if only not in (None, name) or seconds <= 0:
            continue
        rng = random(playing.seed, piece.name, variant, name)
        sound, performance = choose_sound(source, split, playing, rng)
        notes = perform(source_notes(piece, source, shift), playing, tempo, seconds, rng)
        if not notes:
            continue
        audio = sound.render(notes, seconds, playing.rate, performance)
        audio = at_level(audio, playing.level + gain)
        if audio.any():
            stems[name] = audio
    return limit(stems, playing.peak)


def choose_common(
    piece: Piece, playing: Playing, variant: int, delay: float = 0.0
) -> tuple[float, int, float]:
    """Choose what all sources of a variant share: tempo, transposition, length in seconds.

    `delay` is that of the latest source, in seconds.
    """
    common = random(playing.seed, piece.name, variant)
    tempo = float(common.uniform(playing.tempo[0], playing.tempo[1]))
    shift = int(common.integers(playing.transpose[0], playing.transpose[1] + 1))
    seconds = piece.seconds / tempo + delay + TAIL - playing.start
    if playing.duration is not None:
        seconds = min(seconds, playing.duration)
    return tempo, shift, seconds


def at_level(audio: np.ndarray, level: float) -> np.ndarray:
    """Scale audio to an RMS of `level` dB; what is silent becomes zeros."""
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    return audio * np.float32(10 ** (level / 20) / rms if rms > 1e-6 else 0)


def limit(stems: dict[str, np.ndarray], peak: float) -> dict[str, np.ndarray]:
    """Scale stems so that they and their sum stay below `peak`; round to 16 bits."""
    if not stems:
        return {}
    highest = max(np.abs(x).max() for x in (*stems.values(), sum(stems.values())))
    scale = np.float32(min(1.0, peak / highest) * 32768)
    return {name: np.rint(x * scale) / np.float32(32768) for name, x in stems.items()}
