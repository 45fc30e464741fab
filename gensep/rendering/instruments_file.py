"""Instruments files: which tracks a source plays, its pitch range and its sounds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensep.cli.values import read_toml
from gensep.rendering.performance import Sound
from gensep.rendering.recorded_notes import NoteFolder
from gensep.rendering.rwc import DYNAMICS, RwcSound
from gensep.rendering.soundfont import SoundFont
from gensep.runtime.errors import UserError

Table = dict[str, Any]  # of a TOML file, as it was read
SOURCE_KEYS = {"tracks", "low", "high", "sustained", "sounds", "valid_sounds"}
SOUND_KEYS = {
    "font": {"bank", "program"},
    "notes": {"tuned"},
    "rwc": {"instrument", "musician", "style", "dynamics"},
}


@dataclass(frozen=True)
class Source:
    """One source of a mixture: which tracks it plays, its pitch range, its weighted sounds."""

    name: str
    tracks: tuple[str, ...]
    sounds: tuple[tuple[Sound, float], ...]
    valid_sounds: tuple[tuple[Sound, float], ...] = ()
    low: int = 0  # lowest and highest pitch, MIDI numbers
    high: int = 127
    sustained: bool = False  # bowed or blown, so that swells and vibrato make sense


def read_instruments(path: str | Path, folders: tuple[str, ...] = (".",)) -> dict[str, Source]:
    """Read the sources of an instruments file: name -> source.

    `folders` are searched for soundfonts and for folders of recorded notes.

    Raises:
        UserError: if the file cannot be read, or a table or a sound is wrong.
    """
    tables = read_toml(path, "instruments")
    if not tables:
        raise UserError(f"{path} names no source: expected tables like [violin]")
    return {name: _source(name, table, path, folders) for name, table in tables.items()}


def _source(name: str, table: Table, path: str | Path, folders: tuple[str, ...]) -> Source:
    where = f"{path}, [{name}]"
    if not isinstance(table, dict):
        raise UserError(f"{where} must be a table")
    _known(table, SOURCE_KEYS, where)
    tracks = table.get("tracks", [name])
    low, high = table.get("low", 0), table.get("high", 127)
    if not isinstance(tracks, list) or not all(isinstance(t, str) for t in tracks):
        raise UserError(f"{where}: tracks must be a list of strings")
    if not all(isinstance(n, int) for n in (low, high)) or low + 11 > high:
        raise UserError(f"{where}: low and high must be MIDI numbers an octave or more apart")
    if not table.get("sounds"):
        expected = "a list of {font, program}, {notes} or {rwc, instrument}"
        raise UserError(f"{where}: sounds is missing: {expected}")
    sounds, valid_sounds = (
        tuple(_sound(s, where, folders) for s in table.get(key, ()))
        for key in ("sounds", "valid_sounds")
    )
    lower = tuple(t.lower() for t in tracks)
    return Source(name, lower, sounds, valid_sounds, low, high, bool(table.get("sustained")))


def _sound(entry: Table, where: str, folders: tuple[str, ...]) -> tuple[Sound, float]:
    """Return the sound and the weight that one entry of a `sounds` list describes."""
    kinds = [kind for kind in SOUND_KEYS if isinstance(entry, dict) and kind in entry]
    if len(kinds) != 1:
        expected = "{font = FILE, program = N}, {notes = FOLDER} or {rwc = FOLDER, instrument = N}"
        raise UserError(f"{where}: a sound is {expected}, not {entry!r}")
    _known(entry, SOUND_KEYS[kinds[0]] | {kinds[0], "weight"}, where)
    weight = entry.get("weight", 1.0)
    if not isinstance(weight, int | float) or weight <= 0:
        raise UserError(f"{where}: weight must be a number above 0, not {weight!r}")
    if kinds == ["rwc"]:
        return _rwc(entry, where, folders), float(weight)
    if "notes" in entry:
        notes = entry["notes"] if isinstance(entry["notes"], list) else [entry["notes"]]
        paths = tuple(_find(n, where, folders) for n in notes)
        return NoteFolder(paths, bool(entry.get("tuned", True))), float(weight)
    bank, program = entry.get("bank", 0), entry.get("program", 0)
    if not all(isinstance(n, int) and 0 <= n <= 128 for n in (bank, program)) or program > 127:
        got = f"not {program!r} and {bank!r}"
        raise UserError(f"{where}: program must be in 0..127 and bank in 0..128, {got}")
    return SoundFont(_find(entry["font"], where, folders), bank, program), float(weight)


def _rwc(entry: Table, where: str, folders: tuple[str, ...]) -> RwcSound:
    instrument, musician = entry.get("instrument"), entry.get("musician", 1)
    style, dynamics = entry.get("style", "NO"), entry.get("dynamics", "F")
    if not isinstance(instrument, int) or not isinstance(musician, int):
        got = f"not {instrument!r} and {musician!r}"
        raise UserError(f"{where}: instrument and musician must be numbers of RWC, {got}")
    if not isinstance(style, str) or dynamics not in DYNAMICS:
        letters = ", ".join(DYNAMICS)
        got = f"not {style!r} and {dynamics!r}"
        raise UserError(f"{where}: style must be a string and dynamics one of {letters}, {got}")
    return RwcSound(_find(entry["rwc"], where, folders), instrument, musician, style, dynamics)


def _known(table: Table, keys: set[str], where: str) -> None:
    for key in table:
        if key not in keys:
            raise UserError(f"{where}: unknown key {key}; known: {', '.join(sorted(keys))}")


def _find(name: str, where: str, folders: tuple[str, ...]) -> str:
    for folder in folders:
        if (path := Path(folder) / str(name)).exists():
            return str(path)
    raise UserError(f"{where}: no {name} in {', '.join(folders)}; name its folder with --sounds")
