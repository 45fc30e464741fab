"""Render scores to audio: aligned songs with their stems, or the sources each on its own.

OUTPUT/<song>/{<source>.flac ..., mixture.flac} (layout songs) or
OUTPUT/<source>/<split>/<song>_<variant>.flac (layout solo). The folder of a score, where it is
called train, valid or test, names its split.
"""

import dataclasses
import hashlib
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from gensep.cli.config import parse, to_toml
from gensep.cli.options import Positional
from gensep.rendering.instruments_file import Source, read_instruments
from gensep.rendering.notation import Piece, find_pieces, piece_name, read_piece
from gensep.rendering.rendition import Playing, render_song
from gensep.runtime import errors
from gensep.runtime.errors import UserError
from gensep.runtime.files import atomic
from gensep.runtime.parallel import job_count, results

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Config(Playing):
    """Options of gensep.render."""

    scores: Positional[tuple[str, ...]]
    """MIDI or MusicXML files, folders of them, or music21:NAME."""
    output: str
    """Folder to write to."""
    instruments: str
    """TOML file with one table per source."""
    sounds: tuple[str, ...] = (".",)
    """Folders that are searched for SoundFonts and recorded notes."""
    layout: Literal["songs", "solo"] = "songs"
    """Write aligned stems with their mixture (songs), or each source on its own (solo)."""
    variants: int = 1
    """Number of different renditions of each score."""
    jobs: int = 0
    """Number of processes; 0 means one per core."""


@dataclass(frozen=True)
class _Task:
    """A rendition to write: the folder of a song, or the file of one source if `source` is set."""

    path: str
    variant: int
    split: str
    target: str
    source: str | None


def _tasks(config: Config, sources: Iterable[str]) -> list[_Task]:
    """List the renditions of all pieces; refuse two that would be written to one place."""
    tasks: list[_Task] = []
    taken: dict[str, str] = {}
    for path in find_pieces(config.scores):
        name, folder = piece_name(path), Path(path).parent.name
        split = folder if folder in SPLITS else "train"
        for variant in range(config.variants):
            numbered = f"{name}_{variant}"
            if config.layout == "songs":
                song = numbered if config.variants > 1 else name
                new = [_Task(path, variant, split, str(Path(config.output) / song), None)]
            else:
                new = [
                    _Task(
                        path,
                        variant,
                        split,
                        str(Path(config.output) / s / split / f"{numbered}.flac"),
                        s,
                    )
                    for s in sources
                ]
            for task in new:
                if taken.setdefault(task.target, path) != path:
                    raise UserError(
                        f"{path} and {taken[task.target]} would both be written to "
                        f"{task.target}; rename one"
                    )
            tasks += new
    return tasks


def _done(task: _Task) -> bool:
    """Whether the last file of a task exists."""
    return (
        Path(task.target) / "mixture.flac" if task.source is None else Path(task.target)
    ).exists()


def _write(path: Path, audio: np.ndarray, rate: int) -> None:
    """Write 16-bit FLAC, whole or not at all."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    grid = (audio * 32768).astype(np.int16)
    with atomic(path) as temporary:
        soundfile.write(temporary, grid, rate, format="FLAC", subtype="PCM_16")


def _work(task: _Task, config: Config) -> float:
    """Render one task; return the seconds of stems made, 0 if a source has nothing to play."""
    instruments = _instruments(config)
    stems = render_song(
        _piece(task.path),
        instruments,
        config,
        variant=task.variant,
        split=task.split,
        only=task.source,
    )
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


_loaded: dict = {}  # caches of this process: its instruments and the last piece


def _instruments(config: Config) -> dict[str, Source]:
    key = (config.instruments, config.sounds)
    if key not in _loaded:
        _loaded[key] = read_instruments(*key)
    return _loaded[key]


def _piece(path: str) -> Piece:
    if _loaded.get("path") != path:
        _loaded.update(path=path, piece=read_piece(path))
    return _loaded["piece"]


def _check_options(config: Config) -> None:
    """Refuse to continue a folder that was begun with other options."""
    free = dataclasses.replace(config, scores=(), sounds=(), output="", jobs=0, variants=1)
    text = f"{to_toml(free)}# {hashlib.sha256(Path(config.instruments).read_bytes()).hexdigest()}\n"
    record = Path(config.output) / "render.toml"
    if record.exists() and record.read_text() != text:
        raise UserError(
            f"{config.output} was begun with other options (see {record}); choose "
            "another --output or delete it"
        )
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(text)


def render(config: Config) -> None:
    """Render what is missing in the output folder; print the speed."""
    from tqdm import tqdm

    sources = _instruments(config)
    tasks = _tasks(config, sources)
    _check_options(config)
    todo = [t for t in tasks if not _done(t)]
    jobs = job_count(config.jobs, len(todo))
    began, made = time.monotonic(), []
    work = results(_work, [(task, config) for task in todo], jobs)
    for seconds in tqdm(work, total=len(todo), unit="file", disable=not sys.stderr.isatty()):
        made.append(seconds)
    took = time.monotonic() - began
    empty = made.count(0.0)
    note = f", {empty} left out (a source has no notes there)" if empty else ""
    print(
        f"{len(made) - empty} rendered, {len(tasks) - len(todo)} already there{note}: "
        f"{sum(made):.0f} s of stems in {took:.1f} s ({sum(made) / max(took, 1e-9):.0f}x)"
    )


def main(argv: list[str]) -> None:
    """Run the command."""
    render(parse(Config, argv))


if __name__ == "__main__":
    errors.run(main)
