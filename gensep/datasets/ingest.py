"""Folders of audio to data sets of mel spectrograms, one per source."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gensep.audio.excerpt import Excerpt
from gensep.cli.records import Json, __version__
from gensep.datasets.images import SPLITS
from gensep.datasets.spectrograms import (
    POWER_FIELDS,
    Tracks,
    read_metadata,
    to_int16,
    write_dataset,
)
from gensep.representation.analysis import analyse_excerpt
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.runtime.files import check_writable
from gensep.runtime.parallel import prefetch

LEVEL_DB = -26.0  # dBFS RMS that tracks are scaled to

# the last four cannot be read: such files are reported instead of overlooked
AUDIO_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64 .wavex "
    ".m4a .mp4 .aac .wma".split()
)


class SourceFolder(NamedTuple):
    """A source of sound: its name, its folder and the audio files of each split in order."""

    name: str
    folder: Path
    files: dict[str, list[Path]]


class Encoding(NamedTuple):
    """How tracks become records of a data set."""

    representation: Representation
    level_db: float | None  # dBFS RMS over the sounding 100 ms; None keeps the tracks' own levels


class BadFile(NamedTuple):
    """A file that cannot be read."""

    reason: str


def ingest(
    folder: Path,
    output: Path,
    representation: Representation,
    *,
    level_db: float | None = LEVEL_DB,
    skip_bad: bool = True,
    threads: int = 0,
    force: bool = False,
    report: Callable[[str], object] = print,
) -> list[str]:
    """Write every source under a folder as the data set OUTPUT/NAME unless it is up to date.

    Args:
        folder: with SOURCE/{train,valid,test}/**, or the folder of one source.
        output: folder of the data sets.
        representation: sample rate, frames and mel bands; floor and scale are not applied yet.
        level_db: dBFS RMS over its sounding 100 ms that each track is scaled to; None keeps it.
        skip_bad: leave unreadable files out, instead of refusing them.
        threads: 0 for one per core.
        force: write data sets that are up to date, too.
        report: called with a line per source.

    Returns:
        A line for each file that was left out.

    Raises:
        UserError: if the folder has no audio or the output cannot be written, and for an
            unreadable file unless it is skipped.
    """
    sources = find_sources(folder)
    check_writable(output)
    encoding = Encoding(representation, level_db)
    bad: list[str] = []
    for source in sources:
        if not force and _up_to_date(source, output, encoding, skip_bad=skip_bad):
            report(f"{source.name}: up to date")
            continue
        bad += write_source(source, output, encoding, skip_bad=skip_bad, threads=threads)
        report(_summary(source.name, read_metadata(output / source.name)))
    return bad


def find_sources(folder: Path) -> list[SourceFolder]:
    """Find SOURCE/{train,valid,test} under a folder, or take the folder itself as one source.

    Raises:
        UserError: if there is no folder, or it has no audio in such folders.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; check the name")
    folder = folder.resolve()
    if any((folder / split).is_dir() for split in SPLITS):
        candidates = [folder]
    else:
        candidates = sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    sources = []
    for candidate in candidates:
        files = {split: _audio_files(candidate / split) for split in SPLITS}
        if any(files.values()):
            there = {split: found for split, found in files.items() if found}
            sources.append(SourceFolder(candidate.name, candidate, there))
    if not sources:
        raise UserError(
            f"{folder} holds no audio in SOURCE/train, SOURCE/valid or SOURCE/test; "
            "sort the files into such folders"
        )
    return sources


def encode_file(path: Path, encoding: Encoding) -> np.ndarray | BadFile:
    """Read one file as int16 mel power in hundredths of a dB, `[frames, n_mels]`."""
    try:
        analysis = analyse_excerpt(Excerpt(path), encoding.representation)
    except UserError as error:
        return BadFile(str(error))
    level = encoding.level_db
    return to_int16(analysis.power if level is None else analysis.at_level(level))


def write_source(
    source: SourceFolder, output: Path, encoding: Encoding, *, skip_bad: bool, threads: int
) -> list[str]:
    """Write one source as the data set OUTPUT/NAME; return a line for each bad file."""
    bad: list[str] = []
    size = sum(path.stat().st_size for files in source.files.values() for path in files)
    with tqdm(total=size, unit="B", unit_scale=True, desc=source.name, mininterval=0.5) as bar:

        def tracks(files: list[Path]) -> Tracks:
            for path, stored in _encode_all(files, encoding, threads):
                bar.update(path.stat().st_size)
                if isinstance(stored, np.ndarray):
                    yield path.relative_to(source.folder).as_posix(), stored
                elif skip_bad:
                    bad.append(stored.reason)
                else:
                    raise UserError(f"{stored.reason} (or use --on_bad skip)")

        def describe() -> Json:
            return {
                "source": source.name,
                "level": encoding.level_db,
                "skipped": list(bad),
                "fingerprint": fingerprint(source, encoding),
                "gensep": __version__,
            }

        splits = {split: tracks(files) for split, files in source.files.items()}
        write_dataset(output / source.name, splits, encoding.representation, describe)
    return bad


def _encode_all(
    files: list[Path], encoding: Encoding, threads: int
) -> Iterator[tuple[Path, np.ndarray | BadFile]]:
    """Encode files ahead in threads, in order."""
    count = threads or os.cpu_count() or 1
    encoded = prefetch(
        lambda i: encode_file(files[i], encoding), 0, len(files), depth=2 * count, threads=count
    )
    return zip(files, encoded, strict=True)


def fingerprint(source: SourceFolder, encoding: Encoding) -> str:
    """Digest names, sizes and times of the files and the encoding: equal for equal data sets."""
    level = LEVEL_DB if encoding.level_db is None else encoding.level_db
    options = {name: getattr(encoding.representation, name) for name in POWER_FIELDS}
    options |= {"level": level, "keep_level": encoding.level_db is None}
    digest = hashlib.sha256(repr(sorted(options.items())).encode())
    for files in source.files.values():
        for path in files:
            stat = path.stat()
            name = path.relative_to(source.folder).as_posix()
            digest.update(f"\n{name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def _audio_files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        paths = [Path(parent) / name for name in names if name[0] != "."]
        found += [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES]
    return sorted(found)


def _up_to_date(source: SourceFolder, output: Path, encoding: Encoding, *, skip_bad: bool) -> bool:
    try:
        metadata = read_metadata(output / source.name)
    except UserError:
        return False
    if not skip_bad and metadata.get("skipped"):
        return False
    return metadata.get("fingerprint") == fingerprint(source, encoding)


def _summary(name: str, metadata: Json) -> str:
    stored = metadata["representation"]
    hours = stored["hop_length"] / stored["sample_rate"] / 3600
    parts = [
        f"{split} {len(tracks)} tracks, {hours * sum(tracks.values()):.2f} h"
        for split, tracks in metadata["splits"].items()
    ]
    return f"{name}: " + "; ".join(parts)
