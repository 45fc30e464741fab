"""Separations on disk as songs whose tracks may be played side by side.

A run is a folder that `gensep.basis` wrote; runs of one mixture are one song by several methods.
"""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gensep.runtime.errors import UserError

GENERIC = ("mix", "mixture")  # names of mixtures that are told apart by their folders


class Run(NamedTuple):
    """One separation: its folder, its record, and the names that pair it with others."""

    folder: Path
    record: dict[str, Any]
    song: str
    method: str
    root: Path  # where the record's paths start

    @property
    def stems(self) -> list[Path]:
        """Files of the stems."""
        return [self.folder / name for name in self.record["stems"]]

    @property
    def mixture(self) -> Path:
        """File of the mixture."""
        return self.root / self.record["mixture"]

    def option(self, name: str, default: Any = None) -> Any:
        """Give an option of the separation."""
        return self.record.get("options", {}).get(name, default)


class Track(NamedTuple):
    """A wave of a song and what it is."""

    role: str  # mixture, estimate, reference or oracle
    source: str  # name of the stem; empty for the mixture
    method: str  # of an estimate
    wave: np.ndarray  # float32 [channels, samples]
    deviation: np.ndarray | None = None  # posterior standard deviation, dB [frame, mel]


class Song(NamedTuple):
    """Tracks of one length and rate, by one or more runs; scores[method][source]."""

    name: str
    rate: int
    start: float  # seconds into the separated part
    whole: bool  # whether the tracks last as long as the separated part
    tracks: list[Track]
    runs: list[Run]
    scores: dict[str, dict[str, dict[str, float | None]]]
    representation: Any


def find_runs(folders: Sequence[str], root: str) -> dict[str, list[Run]]:
    """Find the runs in and under `folders`; those of one song are paired by the mixture's name.

    Raises:
        UserError: if a folder holds no run, or one method has two runs of a song.
    """
    songs: dict[str, list[Run]] = {}
    for folder, label in zip(folders, labels(folders), strict=True):
        places = sorted(p.parent for p in Path(folder).rglob("separation.json"))
        if not places:
            raise UserError(
                f"no separation.json in {folder} or below; give a folder that "
                "'python -m gensep.basis' wrote"
            )
        for place in places:
            run = _read_run(place, label, Path(root), several=len(folders) > 1)
            others = songs.setdefault(run.song, [])
            for other in others:
                if other.method == run.method:
                    raise UserError(
                        f"{other.folder} and {place} both separate {run.song}; give "
                        "each of them, or the folders they are in, as a RUN of its own"
                    )
            others.append(run)
    return songs


def labels(folders: Sequence[str]) -> list[str]:
    """Name folders by the last part of their paths that tells them apart."""
    parts = [Path(folder).resolve().parts[::-1] for folder in folders]
    for level in range(min(map(len, parts), default=0)):
        names = [p[level] for p in parts]
        if len(set(names)) == len(names):
            return names
    if len(set(parts)) < len(parts):
        raise UserError("one RUN is given twice; give each of them once")
    return [str(folder) for folder in folders]


def load_song(
    name: str, runs: list[Run], references: str | None, start: float, duration: float | None
) -> Song:
    """Read a part of a song's mixture, stems and references, and filter the oracles.

    Args:
        name: of the song.
        runs: at least one; the first says where the mixture is.
        references: folder of true stems, or of a folder of them a song; by default the one the
            first run was compared with; "none" for none.
        start: seconds to skip of what was separated.
        duration: seconds to read at most.

    Raises:
        UserError: if a file is missing or differs from the mixture in rate, channels or length.
    """
    from gensep.audio.files import probe, read
    from gensep.representation.mel import Representation

    first = runs[0]
    rate = probe(first.mixture).rate
    # the run began at a whole sample, and so does the part of it
    begin = (round(first.option("start", 0.0) * rate) + round(start * rate)) / rate
    separated = probe(first.stems[0]).samples
    samples = min(separated - round(start * rate), round((duration or 1e12) * rate))
    if samples < 1:
        raise UserError(
            f"the stems of {name} last {separated / rate:.3f} s; nothing of them lies "
            f"between {start:g} s and {start + (duration or 0):g} s"
        )
    part = samples / rate
    for run in runs:
        if {p.stem for p in run.stems} != {p.stem for p in first.stems}:
            raise UserError(
                f"{run.folder} has other stems than {first.folder}; only separations "
                f"of {name} into the same sources can be compared"
            )
    mixture, _ = read(first.mixture, begin, part)
    tracks = [Track("mixture", "", "", mixture)]
    for run in runs:
        tracks += _estimates(run, mixture, rate, start, part, begin)
    representation = Representation(**first.record.get("representation", {}))
    folder = _reference_folder(name, first, references)
    if folder:
        tracks += _references(first, folder, mixture, rate, begin, part, representation)
    order = ["", *(path.stem for path in first.stems)]
    tracks.sort(key=lambda track: order.index(track.source))
    return Song(
        name, rate, start, samples == separated, tracks, runs, _scores(runs, tracks), representation
    )


def _read_run(folder: Path, label: str, root: Path, several: bool) -> Run:  # noqa: FBT001
    path = folder / "separation.json"
    try:
        record = json.loads(path.read_text())
        mixture = Path(record["mixture"])
        if not record["stems"]:
            raise KeyError("stems")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is no record of a separation ({error!r}); run 'python -m gensep.basis' again"
        ) from None
    generic = mixture.stem in GENERIC and mixture.parent.name
    song = record.get("song") or (mixture.parent.name if generic else mixture.stem)
    names = [label if several else "", record.get("method", "")]
    method = ", ".join(name for name in names if name)
    return Run(folder, record, song, method, folder / record["root"] if "root" in record else root)


def _estimates(run: Run, mixture, rate, start, part, begin) -> list[Track]:
    from gensep.audio.files import probe, read

    if round(run.option("start", 0.0) * rate) + round(start * rate) != round(begin * rate):
        raise UserError(
            f"{run.folder} starts at another second of {run.song}; give runs of the same part"
        )
    deviations = _deviations(run, start, part, probe(run.stems[0]).samples / rate)
    found = []
    for path in run.stems:
        wave, own = read(path, start, part)
        _same(path, wave, own, mixture, rate)
        found.append(Track("estimate", path.stem, run.method, wave, deviations.get(path.stem)))
    return found


def _references(run: Run, folder: Path, mixture, rate, begin, part, representation) -> list[Track]:
    """Give the references of the run's stems and the oracles made from them."""
    from gensep.audio.files import read
    from gensep.evaluation.oracles import oracle_stems
    from gensep.evaluation.reference import find_reference

    names, true = [path.stem for path in run.stems], []
    for name in names:
        path = find_reference(str(folder), name)
        wave, own = read(path, begin, part)
        _same(path, wave, own, mixture, rate)
        true.append(wave)
    ideal = oracle_stems("mel_irm", np.stack(true), mixture, rate, representation)
    found = [Track("reference", name, "", wave) for name, wave in zip(names, true, strict=True)]
    found += [Track("oracle", name, "", wave) for name, wave in zip(names, ideal, strict=True)]
    return found


def _reference_folder(name: str, run: Run, given: str | None) -> Path | None:
    """Give the folder of true stems; what a record names must still be there."""
    if given == "none":
        return None
    if given:
        own = Path(given) / name
        folder = own if own.is_dir() else Path(given)
    elif recorded := run.option("reference"):
        folder = run.root / recorded
    else:
        return None
    if not folder.is_dir():
        raise UserError(
            f"the references of {name} are not in {folder}; give --references FOLDER, "
            "--root FOLDER where their path starts elsewhere, or --references none"
        )
    return folder


def _deviations(run: Run, start: float, part: float, seconds: float) -> dict[str, np.ndarray]:
    """Give the posterior standard deviations of a part of a run in dB, where it wrote them."""
    path = run.folder / "uncertainty.npz"
    if not path.exists():
        return {}
    try:
        with np.load(path) as file:
            values, names = file["sd_db"].astype(np.float32), [str(n) for n in file["names"]]
        if values.ndim != 3 or len(values) != len(names):
            raise ValueError(f"{len(names)} names, sd_db {values.shape}")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} holds no uncertainty ({error}); expected sd_db [source, frame, "
            "mel] and names; delete it or separate again"
        ) from None
    # frames cover the run from its start to its end
    per_second = values.shape[1] / seconds
    frames = slice(round(start * per_second), max(1, round((start + part) * per_second)))
    return dict(zip(names, values[:, frames], strict=True))


def _scores(runs: list[Run], tracks: list[Track]) -> dict[str, dict[str, dict]]:
    """Return the recorded scores, or those of the part that is shown where none are recorded."""
    from gensep.evaluation.measures import ESTIMATE, ORACLE, SongWaves
    from gensep.evaluation.reference import score_waves
    from gensep.runtime.spool import spooled

    waves = {(t.role, t.source, t.method): [t.wave] for t in tracks}
    mixture, found = waves["mixture", "", ""], {}
    for run in runs:
        names, recorded = [path.stem for path in run.stems], run.record.get("scores", {})
        # records of other versions have other names
        if recorded and all("si_sdr_gain" in row for row in recorded.values()):
            found[run.method] = recorded
        elif any(role == "reference" for role, _, _ in waves):
            estimate, true, ideal = (
                spooled([waves[role, n, method] for n in names], *mixture[0].shape)
                for role, method in (("estimate", run.method), ("reference", ""), ("oracle", ""))
            )
            mixed = spooled([mixture], *mixture[0].shape)
            methods = {ESTIMATE: estimate, ORACLE: ideal}
            found[run.method] = score_waves(SongWaves(names, methods, true, mixed, 0))
    return found


def _same(path: Path, wave: np.ndarray, own: int, mixture: np.ndarray, rate: int) -> None:
    if (own, wave.shape) != (rate, mixture.shape):
        raise UserError(
            f"{path} has {len(wave)} channels of {wave.shape[1]} samples at {own} Hz "
            f"where the mixture has {len(mixture)} of {mixture.shape[1]} at {rate} Hz; "
            "give the files of one separation"
        )
