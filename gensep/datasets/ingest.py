"""Folders of audio to data sets of mel spectrograms, one per source."""

import hashlib
import os
from collections.abc import Callable
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
    """How tracks become records of a data set; floor and scale are not applied yet."""

    representation: Representation
    level_db: float | None = LEVEL_DB  # dBFS RMS over the sounding 100 ms; None keeps the tracks'


def ingest(
    folder: Path,
    output: Path,
    encoding: Encoding,
    *,
    skip_bad: bool = True,
    threads: int = 0,
    force: bool = False,
    report: Callable[[str], object] = print,
) -> list[str]:
    """Write every source under a folder as the data set OUTPUT/NAME unless it is up to date.

    The folders are those of `gensep.wav_to_spec`; `report` is called with a line per source. Return
    a line for each file that was left out.

    Raises:
        UserError: if the folder has no audio or the output cannot be written, and for an
            unreadable file unless it is skipped.
    """
    sources = find_sources(folder)
    check_writable(output)
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
        if there := {split: found for split, found in files.items() if found}:
            sources.append(SourceFolder(candidate.name, candidate, there))
    if not sources:
        raise UserError(f"{folder} holds no audio in SOURCE/train, valid or test; sort it so")
    return sources


def encode_file(path: Path, encoding: Encoding) -> np.ndarray | UserError:
    """Read one file as int16 mel power in hundredths of a dB, `[frames, n_mels]`, or its error."""
    try:
        analysis = analyse_excerpt(Excerpt(path), encoding.representation)
    except UserError as error:
        return error
    level = encoding.level_db
    return to_int16(analysis.power if level is None else analysis.at_level(level))


def write_source(
    source: SourceFolder, output: Path, encoding: Encoding, *, skip_bad: bool, threads: int
) -> list[str]:
    """Write one source as the data set OUTPUT/NAME; return a line for each bad file."""
    bad: list[str] = []
    count = threads or os.cpu_count() or 1
    size = sum(path.stat().st_size for files in source.files.values() for path in files)
    with tqdm(total=size, unit="B", unit_scale=True, desc=source.name, mininterval=0.5) as bar:

        def tracks(files: list[Path]) -> Tracks:
            def encode(i: int) -> np.ndarray | UserError:
                return encode_file(files[i], encoding)

            encoded = prefetch(encode, 0, len(files), depth=2 * count, threads=count)
            for path, stored in zip(files, encoded, strict=True):
                bar.update(path.stat().st_size)
                if isinstance(stored, np.ndarray):
                    yield path.relative_to(source.folder).as_posix(), stored
                elif skip_bad:
                    bad.append(str(stored))
                else:
                    raise UserError(f"{stored} (or use --on_bad skip)")

        def describe() -> Json:
            about = {"source": source.name, "level": encoding.level_db, "skipped": list(bad)}
            return {**about, "fingerprint": fingerprint(source, encoding), "gensep": __version__}

        splits = {split: tracks(files) for split, files in source.files.items()}
        write_dataset(output / source.name, splits, encoding.representation, describe)
    return bad


def fingerprint(source: SourceFolder, encoding: Encoding) -> str:
    """Digest names, sizes and times of the files and the encoding: equal for equal data sets."""
    level = LEVEL_DB if encoding.level_db is None else encoding.level_db
    options = {name: getattr(encoding.representation, name) for name in POWER_FIELDS}
    options |= {"level": level, "keep_level": encoding.level_db is None}
    digest = hashlib.sha256(repr(sorted(options.items())).encode())
    for path in (path for files in source.files.values() for path in files):
        stat, name = path.stat(), path.relative_to(source.folder).as_posix()
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
    usable = skip_bad or not metadata.get("skipped")
    return usable and metadata.get("fingerprint") == fingerprint(source, encoding)


def _summary(name: str, metadata: Json) -> str:
    stored, splits = metadata["representation"], metadata["splits"]
    hours = stored["hop_length"] / stored["sample_rate"] / 3600
    total = {split: f"{hours * sum(tracks.values()):.2f} h" for split, tracks in splits.items()}
    parts = [f"{split} {len(tracks)} tracks, {total[split]}" for split, tracks in splits.items()]
    return f"{name}: " + "; ".join(parts)
