"""Turn folders of audio into data sets of mel spectrograms: `python -m gensep.wav_to_spec IN OUT`.

IN holds SOURCE/{train,valid,test}/**, or those folders themselves for one source. OUT/SOURCE
becomes the data set. What is there already, from the same files and options, is left alone.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from gensep.cli.config import parse
from gensep.cli.options import Positional, Range
from gensep.cli.records import __version__
from gensep.runtime import errors
from gensep.runtime.errors import UserError

SPLITS = ("train", "valid", "test")
SUFFIXES = set(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64 .wavex "
    ".m4a .mp4 .aac .wma".split()
)  # the last four cannot be read, and are told of


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of gensep.wav_to_spec."""

    input: Positional[str]
    """Folder with SOURCE/{train,valid,test}/**, or the folder of one source."""
    output: Positional[str]
    """Folder of the data sets OUTPUT/SOURCE."""
    level: Annotated[float, Range(-100, 0)] = -26.0
    """Scale each track to this loudness: RMS in dBFS over the parts of 100 ms that sound."""
    keep_level: bool = False
    """Keep the loudness of the tracks."""
    on_bad: Literal["skip", "refuse"] = "skip"
    """What to do with an unreadable file."""
    jobs: Annotated[int, Range(0)] = 0
    """Number of threads; 0 means one per core."""
    force: bool = False
    """Write data sets again that are up to date."""
    sample_rate: int = 16000
    """Sample rate in Hz to which every file is resampled."""
    n_fft: int = 2048
    """Length of an analysis frame in samples."""
    hop_length: int = 512
    """Distance between frames in samples."""
    n_mels: int = 96
    """Number of mel bands."""
    fmin: float = 30.0
    """Lowest frequency in Hz."""
    fmax: float = 8000.0
    """Highest frequency in Hz."""


class Source(NamedTuple):
    """One data set to be: its name, its folder and per split its audio files in order."""

    name: str
    folder: Path
    files: dict[str, list[Path]]


def find_sources(folder: Path) -> list[Source]:
    """Find SOURCE/{train,valid,test} under a folder, or take the folder itself as one source."""
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
            sources.append(Source(candidate.name, candidate, there))
    if not sources:
        raise UserError(
            f"{folder} holds no audio in SOURCE/train, SOURCE/valid or SOURCE/test; "
            "sort the files into such folders"
        )
    return sources


def encode_file(path: Path, representation: Any, level: float | None) -> Any:
    """Read one file and give its int16 mel dB `[frames, n_mels]`, or the UserError it causes."""
    from gensep.audio.excerpt import Excerpt
    from gensep.datasets.spectrograms import to_int16
    from gensep.representation.analysis import analyse_excerpt

    try:
        analysis = analyse_excerpt(Excerpt(path), representation)
    except UserError as error:
        return error
    return to_int16(analysis.power if level is None else analysis.at_level(level))


def write_source(source: Source, config: Config, representation: Any) -> list[str]:
    """Write one source as the data set OUTPUT/NAME; give a line for each bad file."""
    from tqdm import tqdm

    from gensep.datasets.spectrograms import write_dataset
    from gensep.runtime.parallel import prefetch

    bad: list[str] = []
    level = None if config.keep_level else config.level
    everything = [path for files in source.files.values() for path in files]
    size = sum(path.stat().st_size for path in everything)
    with tqdm(
        total=size, unit="B", unit_scale=True, desc=source.name, file=sys.stderr, mininterval=0.5
    ) as bar:

        def tracks(files: list[Path]) -> Iterator[tuple[str, Any]]:
            threads = config.jobs or os.cpu_count() or 1
            encoded = prefetch(
                lambda i: encode_file(files[i], representation, level),
                0,
                len(files),
                depth=2 * threads,
                threads=threads,
            )
            for path, result in zip(files, encoded, strict=True):
                bar.update(path.stat().st_size)
                if isinstance(result, UserError):
                    if config.on_bad == "refuse":
                        raise UserError(f"{result} (or use --on_bad skip)")
                    bad.append(str(result))
                    continue
                yield path.relative_to(source.folder).as_posix(), result

        splits = {split: tracks(files) for split, files in source.files.items()}
        write_dataset(
            Path(config.output) / source.name,
            splits,
            representation,
            lambda: {
                "source": source.name,
                "level": level,
                "skipped": list(bad),
                "fingerprint": fingerprint(source, config),
                "gensep": __version__,
            },
        )
    return bad


def fingerprint(source: Source, config: Config) -> str:
    """Sum up files (name, size, time) and options: the same for the same data set."""
    options = {
        k: v
        for k, v in asdict(config).items()
        if k not in ("input", "output", "jobs", "force", "on_bad")
    }
    digest = hashlib.sha256(repr(sorted(options.items())).encode())
    for files in source.files.values():
        for path in files:
            stat = path.stat()
            name = path.relative_to(source.folder).as_posix()
            digest.update(f"\n{name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def main(argv: list[str]) -> None:
    """Write every source that is not up to date; tell of the bad files at the end."""
    config = parse(Config, argv)
    sources = find_sources(Path(config.input))
    from gensep.representation.mel import Representation
    from gensep.runtime.files import check_writable

    check_writable(config.output)
    fields = ("sample_rate", "n_fft", "hop_length", "n_mels", "fmin", "fmax")
    try:
        representation = Representation(**{name: getattr(config, name) for name in fields})
    except ValueError as error:
        raise UserError(str(error)) from None
    bad: list[str] = []
    for source in sources:
        if not config.force and _up_to_date(source, config):
            print(f"{source.name}: up to date")
            continue
        bad += write_source(source, config, representation)
        print(_summary(source, config))
    for line in bad:
        print(f"skipped: {line}", file=sys.stderr)


def _audio_files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        found += [
            Path(parent) / n for n in names if n[0] != "." and Path(n).suffix.lower() in SUFFIXES
        ]
    return sorted(found)


def _up_to_date(source: Source, config: Config) -> bool:
    from gensep.datasets.spectrograms import read_metadata

    try:
        metadata = read_metadata(Path(config.output) / source.name)
    except UserError:
        return False
    if config.on_bad == "refuse" and metadata.get("skipped"):
        return False
    return metadata.get("fingerprint") == fingerprint(source, config)


def _summary(source: Source, config: Config) -> str:
    from gensep.datasets.spectrograms import read_metadata

    metadata = read_metadata(Path(config.output) / source.name)
    hours = config.hop_length / config.sample_rate / 3600
    parts = [
        f"{split} {len(tracks)} tracks, {hours * sum(tracks.values()):.2f} h"
        for split, tracks in metadata["splits"].items()
    ]
    return f"{source.name}: " + "; ".join(parts)


if __name__ == "__main__":
    errors.run(main)
