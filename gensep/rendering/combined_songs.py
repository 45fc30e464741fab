"""Renditions of combinations: every source plays with the sound and the dynamics of its variant."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.rendering.combinations import Combination, Variant, variants
from gensep.rendering.instruments_file import Source
from gensep.rendering.notation import Note, Piece
from gensep.rendering.performance import Sound
from gensep.rendering.rendition import (
    Playing,
    at_level,
    choose_common,
    choose_performance,
    limit,
    perform,
    random,
    source_notes,
)
from gensep.rendering.rwc import RwcSound
from gensep.rendering.score_text import ALIGNED, SCORE_TEXT, write_notes
from gensep.runtime.errors import UserError

# letter -> level in dB, and factor of the velocity for sounds without recorded dynamics
INTENSITIES = {"F": (6.0, 1.25), "M": (0.0, 1.0), "P": (-6.0, 0.7)}


class Played(NamedTuple):
    """A rendition: float32 stems `[time]` of equal length, and what each source plays there."""

    stems: dict[str, np.ndarray]
    notes: dict[str, list[Note]]


def variants_of(
    instruments: Mapping[str, Source],
    times: Iterable[float],
    intensities: Iterable[str],
    styles: Sequence[str],
    timbres: Iterable[int] = (),
) -> list[Variant]:
    """List the variants that all sources have; timbres are by default all that every source has.

    Raises:
        UserError: if a source lacks a timbre, or no source can tell styles apart.
    """
    sounds = [sound for source in instruments.values() for sound, _ in source.sounds]
    if len(styles) > 1 and not any(isinstance(sound, RwcSound) for sound in sounds):
        raise UserError("styles are those of RWC notes, and no source has such; name one style")
    fewest = min(instruments.values(), key=lambda source: len(source.sounds))
    most = len(fewest.sounds)
    wanted = list(timbres) or list(range(1, most + 1))
    for timbre in wanted:
        if not 1 <= timbre <= most:
            has = f"[{fewest.name}] has {most} sounds"
            raise UserError(f"timbres must be in 1..{most}, not {timbre}: {has}")
    return variants(times, intensities, styles, wanted)


def render_combination(
    piece: Piece,
    instruments: Mapping[str, Source],
    combination: Combination,
    playing: Playing,
) -> Played | str:
    """Render the sources of a piece, each in its own variant; else return why that is impossible.

    It is impossible if a source has nothing to play, or if a note was not recorded in its variant.
    Its number and the seed of `playing` choose what is random besides: tempo, onsets and the like.
    The level of a stem is that of `playing`, 6 dB more for F and 6 dB less for P.
    """
    latest = max(variant.time for variant in combination.variants)
    tempo, shift, seconds = choose_common(piece, playing, combination.number, latest)
    gains = (*playing.gains, *[0.0] * len(instruments))
    stems, played = {}, {}
    choices = zip(instruments.values(), combination.variants, gains, strict=False)
    for source, variant, gain in choices:
        level, factor = INTENSITIES[variant.intensity]
        rng = random(playing.seed, piece.name, combination.number, source.name)
        performance = choose_performance(rng, playing.timbre, sustained=source.sustained)
        late = variant.time * tempo
        written = [
            note._replace(on=note.on + late, off=note.off + late)
            for note in source_notes(piece, source, shift)
        ]
        notes = perform(written, playing, tempo, seconds, rng) if seconds > 0 else []
        sound: Sound = source.sounds[variant.timbre - 1][0]
        if isinstance(sound, RwcSound):
            recorded = {"dynamics": variant.intensity, "style": variant.style}
            sound = dataclasses.replace(sound, **recorded)  # type: ignore[arg-type]
            if missing := sound.lacks(notes):
                pitches = ", ".join(map(str, sorted(missing)))
                how = f"{variant.style} {variant.intensity} of musician {sound.musician}"
                return f"{source.name} lacks the notes {pitches} in {how}"
        else:
            notes = [n._replace(velocity=_loud(n.velocity * factor)) for n in notes]
        audio = sound.render(notes, seconds, playing.rate, performance) if notes else np.zeros(1)
        stem = at_level(audio, playing.level + gain + level)
        if not stem.any():
            return f"{source.name} has nothing to play in {piece.name}"
        stems[source.name], played[source.name] = stem, notes
    return Played(limit(stems, playing.peak), played)


def write_song(played: Played, folder: Path, rate: int, ext: str, subtype: str | None) -> float:
    """Write the stems, their mixture and their scores; return the length in seconds.

    The mixture appears last, so that its folder is complete where it exists.
    """
    from gensep.audio.stems import StemWriter  # libsndfile is not needed for --help

    folder.mkdir(parents=True, exist_ok=True)
    for name, notes in played.notes.items():
        write_notes(notes, folder / f"{name}{ALIGNED}{SCORE_TEXT}")
    sounds = {**played.stems, "mixture": np.sum(list(played.stems.values()), axis=0)}
    paths = [folder / f"{name}.{ext}" for name in sounds]
    samples = len(sounds["mixture"])
    with StemWriter(paths, rate, 1, samples, subtype) as writer:
        for stem, audio in enumerate(sounds.values()):
            writer.write(stem, audio[None])
    return samples / rate


def _loud(velocity: float) -> int:
    return min(max(round(velocity), 1), 127)
