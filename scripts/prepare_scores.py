"""Unpack and convert scores into OUT/{lieder,chorales,quartets}/{train,valid,test}/*.mid."""

import hashlib
import sys
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gensep.cli.config import parse
from gensep.cli.options import Positional
from gensep.runtime import errors
from gensep.runtime.errors import UserError

CHORALE = ("Soprano", "Alto", "Tenor", "Bass")
QUARTET = ("violin1", "violin2", "viola", "cello")
QUARTET_COMPOSERS = ("beethoven", "mozart", "haydn", "schumann_robert")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to prepare, and where to."""

    output: Positional[str]
    """Folder to write."""
    lieder: str | None = None
    """Path of lieder_midi.zip (two-track songs: violin and piano)."""
    chorales: bool = False
    """Convert the Bach chorales of music21."""
    quartets: bool = False
    """Convert the string quartets of music21."""
    jobs: int = 2
    """Processes."""


def split_of(work: str) -> str:
    """Split 80/10/10 by a hash of the work's name, so that one work stays in one split."""
    place = int.from_bytes(hashlib.sha256(work.encode()).digest()[:4], "big") / 2**32
    return "train" if place < 0.8 else "valid" if place < 0.9 else "test"


def unpack_lieder(archive: str, out: Path) -> int:
    """Write the files of the zip into `out`; return the number of scores."""
    try:
        with zipfile.ZipFile(archive) as z:
            z.extractall(out)
            return sum(name.endswith(".mid") for name in z.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {archive}: {error}") from None


def convert(path: str, kind: str, out: str) -> str:
    """Convert one corpus file; return "written", or the reason why it was not."""
    from gensep.rendering.notation import Piece, read_music21, write_midi

    name, folder = Path(path).stem, Path(path).parent
    work = name.split(".")[0]  # bwv66.6 and bwv66.7 are movements of one cantata
    if kind == "quartets" and name.startswith("movement"):  # mozart/k155/movement1.mxl
        work = f"{folder.parent.name}_{folder.name}"
        name = f"{work}_{name}"
    elif kind == "quartets":  # beethoven/opus74.mxl
        work = name = f"{folder.name}_{name}"
    for split in ("train", "valid", "test"):
        if (Path(out) / split / f"{name}.mid").exists():
            return "written"
    try:
        score = read_music21(path)
    except UserError as error:
        return str(error)
    tracks = list(score.tracks.items())
    if len(tracks) != 4 and kind == "quartets":
        return f"{len(tracks)} parts"
    if kind == "chorales":
        if sorted(score.tracks) != sorted(CHORALE):
            return "not soprano, alto, tenor, bass"
        tracks = [(part, score.tracks[part]) for part in CHORALE]
    else:
        tracks = [(part, notes) for part, (_, notes) in zip(QUARTET, tracks, strict=True)]
    target = Path(out) / split_of(work) / f"{name}.mid"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_midi(Piece(name, dict(tracks)), target)
    return "written"


def corpus_files(kind: str) -> list[str]:
    """List the corpus paths of the chorales or of the quartets."""
    try:
        from music21 import corpus
    except ImportError:
        raise UserError(f"{kind} need the package music21: pip install music21") from None
    if kind == "chorales":
        return [str(p) for p in corpus.getComposer("bach")]
    paths = [str(p) for c in QUARTET_COMPOSERS for p in corpus.getComposer(c)]
    return [p for p in paths if p.endswith(".mxl")]


def main(argv: list[str]) -> None:
    """Prepare every set that the options name."""
    config = parse(Config, argv)
    out = Path(config.output)
    if config.lieder:
        print(f"lieder: {unpack_lieder(config.lieder, out / 'lieder')} scores")
    for kind in ("chorales", "quartets"):
        if not getattr(config, kind):
            continue
        files = corpus_files(kind)
        with ProcessPoolExecutor(config.jobs) as pool:
            n = len(files)
            results = list(pool.map(convert, files, [kind] * n, [str(out / kind)] * n))
        counts = {s: len(list((out / kind / s).glob("*.mid"))) for s in ("train", "valid", "test")}
        print(f"{kind}: {results.count('written')} of {n} files written, {counts}")
        for why in sorted(set(results) - {"written"}):
            print(f"  left out {results.count(why)}: {why}", file=sys.stderr)


if __name__ == "__main__":
    errors.run(main)
