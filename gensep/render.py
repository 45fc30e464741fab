"""Render scores (MIDI, MusicXML) to audio: songs with stems, or single sources.

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
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from gensep.cli.config import parse, to_toml
from gensep.cli.options import Count, Positional, Range
from gensep.rendering.instruments_file import read_instruments
from gensep.rendering.notation import find_pieces, piece_name, read_piece
from gensep.rendering.rendition import Playing, render_song
from gensep.runtime import errors
from gensep.runtime.errors import UserError
from gensep.runtime.files import atomic, claim
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
    variants: Count = 1
    """Number of different renditions of each score."""
    jobs: Annotated[int, Range(0)] = 0
    """Number of processes; 0 means one per core."""


@dataclass(frozen=True)
class _Task:
    """A rendition to write: the folder of a song, or the file of one source if `source` is set."""

    path: str
    variant: int
    split: str
    target: Path
    source: str | None

    @property
    def done(self) -> bool:
        """Whether the last file exists."""
        return (self.target if self.source else self.target / "mixture.flac").exists()


def _tasks(config: Config, sources: Iterable[str]) -> list[_Task]:
    """List the renditions of all pieces; refuse two that would be written to one place."""
    tasks: dict[Path, _Task] = {}
    for path in find_pieces(config.scores):
        folder = Path(path).parent.name
        split = folder if folder in SPLITS else "train"
        for variant in range(config.variants):
            name = piece_name(path)
            if config.layout == "solo" or config.variants > 1:
                name += f"_{variant}"
            targets: dict[str | None, Path] = {None: Path(config.output) / name}
            if config.layout == "solo":
                targets = {s: Path(config.output) / s / split / f"{name}.flac" for s in sources}
            for source, target in targets.items():
                task = _Task(path, variant, split, target, source)
                if tasks.setdefault(target, task).path != path:
                    both = f"{path} and {tasks[target].path}"
                    raise UserError(f"{both} would be written to {target}; rename one of them")
    return list(tasks.values())


def _write(path: Path, audio: np.ndarray, rate: int) -> None:
    """Write 16-bit FLAC, whole or not at all."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    grid = (audio * 32768).astype(np.int16)
    with atomic(path) as temporary:
        soundfile.write(temporary, grid, rate, format="FLAC", subtype="PCM_16")


def _work(task: _Task, config: Config) -> float:
    """Render one task; return the seconds of stems made, 0 if a source has nothing to play."""
    instruments = _instruments(config.instruments, config.sounds)
    about = config, task.variant, task.split, task.source
    stems = render_song(_piece(task.path), instruments, *about)
    if len(stems) < (1 if task.source else len(instruments)):
        return 0.0
    if task.source:
        _write(task.target, stems[task.source], config.rate)
    else:
        mixture = np.sum(list(stems.values()), axis=0)
        for name, audio in {**stems, "mixture": mixture}.items():
            _write(task.target / f"{name}.flac", audio, config.rate)
    return sum(len(x) for x in stems.values()) / config.rate


# every process keeps its instruments and the last piece
_instruments = lru_cache(read_instruments)
_piece = lru_cache(maxsize=1)(read_piece)


def _check_options(config: Config) -> None:
    """Refuse to continue a folder that was begun with other options."""
    free = dataclasses.replace(config, scores=(), sounds=(), output="", jobs=0, variants=1)
    text = f"{to_toml(free)}# {hashlib.sha256(Path(config.instruments).read_bytes()).hexdigest()}\n"
    claim(Path(config.output) / "render.toml", text)


def main(argv: list[str]) -> None:
    """Run the command."""
    render(parse(Config, argv))


def render(config: Config) -> None:
    """Render what is missing in the output folder; print the speed."""
    from tqdm import tqdm

    tasks = _tasks(config, _instruments(config.instruments, config.sounds))
    _check_options(config)
    todo = [task for task in tasks if not task.done]
    jobs = job_count(config.jobs, len(todo))
    began = time.monotonic()
    work = results(_work, [(task, config) for task in todo], jobs)
    made = list(tqdm(work, total=len(todo), unit="file", disable=not sys.stderr.isatty()))
    took = time.monotonic() - began
    empty = made.count(0.0)
    note = f", {empty} left out (a source has no notes there)" if empty else ""
    print(
        f"{len(made) - empty} rendered, {len(tasks) - len(todo)} already there{note}: "
        f"{sum(made):.0f} s of stems in {took:.1f} s ({sum(made) / max(took, 1e-9):.0f}x)"
    )


if __name__ == "__main__":
    errors.run(main)
