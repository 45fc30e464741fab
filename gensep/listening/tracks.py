"""Separations on disk as songs whose tracks can be played side by side.

A run is a folder that `gensep.basis` wrote; runs of one mixture are one song by several methods.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.audio.excerpt import Excerpt
from gensep.audio.files import Shape
from gensep.datasets.separations import FILE, Separation, read_deviations, read_separation
from gensep.evaluation.measures import ESTIMATE, ORACLE, SongWaves
from gensep.evaluation.oracles import oracle_stems
from gensep.evaluation.reference import has_reference, reference_of, score_waves
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.runtime.spool import Spool, spooled

GENERIC = ("mix", "mixture")  # names of mixtures that are told apart by their folders
Scores = dict[str, dict[str, float | None]]  # by source and by name of the figure


class Run(NamedTuple):
    """One separation and the names that pair it with others."""

    separation: Separation
    song: str
    method: str


class PlayedTrack(NamedTuple):
    """A wave of a song and what it is."""

    role: str  # mixture, estimate, reference or oracle
    source: str  # name of the stem; empty for the mixture
    wave: np.ndarray  # float32 [channels, samples]
    method: str = ""  # of an estimate
    deviation: np.ndarray | None = None  # posterior standard deviation, dB [frame, mel]


class PlayedSong(NamedTuple):
    """Tracks of one length and rate, by one or more runs."""

    name: str
    rate: int
    start: float  # seconds into the excerpt that was separated
    whole: bool  # whether the tracks last as long as the separated excerpt
    tracks: list[PlayedTrack]
    runs: list[Run]
    scores: dict[str, Scores]  # by method
    representation: Representation


def find_runs(folders: Sequence[str], root: str) -> dict[str, list[Run]]:
    """Find the runs in and under `folders`, by song: those whose mixtures have one name.

    Raises:
        UserError: if a folder holds no run, or one method has two runs of a song.
    """
    songs: dict[str, list[Run]] = {}
    for folder, label in zip(folders, labels(folders), strict=True):
        places = sorted(p.parent for p in Path(folder).rglob(FILE))
        if not places:
            raise UserError(
                f"no {FILE} in {folder} or below; give a folder that 'python -m gensep.basis' wrote"
            )
        for place in places:
            run = _named(read_separation(place, root), label if len(folders) > 1 else "")
            others = songs.setdefault(run.song, [])
            if same := [x.separation.folder for x in others if x.method == run.method]:
                raise UserError(
                    f"{same[0]} and {place} both separate {run.song}; give each of them, or the "
                    "folders they are in, as a RUN of its own"
                )
            others.append(run)
    return songs


def labels(folders: Sequence[str]) -> list[str]:
    """Name each folder by the last part of its path that differs among all of them."""
    parts = [Path(folder).resolve().parts[::-1] for folder in folders]
    for depth in range(min(map(len, parts), default=0)):
        names = [p[depth] for p in parts]
        if len(set(names)) == len(names):
            return names
    if len(set(parts)) < len(parts):
        raise UserError("one RUN is given twice; give each of them once")
    return [str(folder) for folder in folders]


def load_song(
    name: str, runs: list[Run], references: str | None, start: float, duration: float | None
) -> PlayedSong:
    """Read an excerpt of a song's mixture, stems and references, and filter the oracles.

    The first run says where the mixture is and, unless `references` names a folder or "none", where
    the true stems are. `start` seconds of what was separated are skipped, `duration` are read.

    Raises:
        UserError: if a file is missing or differs from the mixture in rate, channels or length.
    """
    first = runs[0].separation
    rate = first.mixture.shape().rate
    separated = Excerpt(next(iter(first.stems.values()))).shape().samples
    samples = separated - round(start * rate)
    if duration is not None:
        samples = min(samples, round(duration * rate))
    if samples < 1:
        raise UserError(
            f"the stems of {name} last {separated / rate:.3f} s; nothing of them lies "
            f"between {start:g} s and {start + (duration or 0):g} s"
        )
    for run in runs:
        if run.separation.stems.keys() != first.stems.keys():
            raise UserError(
                f"{run.separation.folder} has other stems than {first.folder}; only separations "
                f"of {name} into the same sources can be compared"
            )
    mixture = first.mixture.part(start, samples / rate)
    tracks = [PlayedTrack("mixture", "", mixture.read()[0])]
    for run in runs:
        if round(run.separation.mixture.start * rate) != round(first.mixture.start * rate):
            folder = run.separation.folder
            raise UserError(f"{folder} starts at another second of {name}; give runs of one part")
        tracks += _estimates(run, mixture.shape(), start, samples / rate)
    if true := _reference_folder(name, first, references):
        tracks += _references(first, true, mixture, tracks[0].wave)
    order = ["", *first.stems]
    tracks.sort(key=lambda track: order.index(track.source))
    whole, scores = samples == separated, _scores(runs, tracks)
    return PlayedSong(name, rate, start, whole, tracks, runs, scores, first.representation)


def _named(separation: Separation, label: str) -> Run:
    """Return a separation with the names that pair it with others."""
    record = separation.record
    mixture = Path(record["mixture"])
    generic = mixture.stem in GENERIC and mixture.parent.name
    song = record.get("song") or (mixture.parent.name if generic else mixture.stem)
    names = [label, record.get("method", "")]
    return Run(separation, song, ", ".join(name for name in names if name))


def _estimates(run: Run, wanted: Shape, start: float, seconds: float) -> list[PlayedTrack]:
    """Read the stems of a run from `start` on, with their posterior standard deviations."""
    deviations, found = read_deviations(run.separation.folder), []
    for name, path in run.separation.stems.items():
        stem = Excerpt(path)
        wave = _read_like(stem.part(start, seconds), wanted)
        deviation = deviations.get(name)
        if deviation is not None:
            # Its frames cover the stem from the start to the end.
            per_second = len(deviation) / (stem.shape().samples / wanted.rate)
            stop = max(1, round((start + seconds) * per_second))
            deviation = deviation[round(start * per_second) : stop]
        found.append(PlayedTrack("estimate", name, wave, run.method, deviation))
    return found


def _references(
    separation: Separation, folder: Path, mixture: Excerpt, mixed: np.ndarray
) -> list[PlayedTrack]:
    """Read the references of the stems, and make the oracles from them.

    Sums of sources, and rests of the mixture, may have none.
    """
    derived, wanted = separation.record.get("derived", ()), mixture.shape()
    some = [n for n in separation.stems if n not in derived or has_reference(str(folder), n)]
    true = [_read_like(reference_of(mixture, str(folder), name), wanted) for name in some]
    every = true
    if separation.record.get("partial"):
        every = [*true, mixed - np.sum(true, 0)]
    form = separation.representation
    ideal = oracle_stems("mel_irm", np.stack(every), mixed, wanted.rate, form)[: len(true)]
    found = [PlayedTrack("reference", *item) for item in zip(some, true, strict=True)]
    return found + [PlayedTrack("oracle", *item) for item in zip(some, ideal, strict=True)]


def _reference_folder(name: str, separation: Separation, given: str | None) -> Path | None:
    """Return the folder of the true stems, None without one; a recorded folder must exist."""
    if given == "none":
        return None
    if given:
        own = Path(given) / name
        folder = own if own.is_dir() else Path(given)
    elif recorded := separation.options.get("reference"):
        folder = separation.root / recorded
    else:
        return None
    if not folder.is_dir():
        raise UserError(
            f"the references of {name} are not in {folder}; give --references FOLDER, "
            "--root FOLDER where their path starts elsewhere, or --references none"
        )
    return folder


def _scores(runs: list[Run], tracks: list[PlayedTrack]) -> dict[str, Scores]:
    """Return the recorded scores, or those of the tracks where none were recorded."""
    names = [track.source for track in tracks if track.role == "reference"]

    def waves(role: str, method: str = "") -> Spool:
        kind = role, method
        found = [t for t in tracks if (t.role, t.method) == kind and t.source in ("", *names)]
        return spooled([[t.wave] for t in found], *tracks[0].wave.shape)

    found: dict[str, Scores] = {}
    for run in runs:
        if "scores" in run.separation.record:
            found[run.method] = run.separation.record["scores"]
        elif names:
            methods = {ESTIMATE: waves("estimate", run.method), ORACLE: waves("oracle")}
            true, mixed = waves("reference"), waves("mixture")
            found[run.method] = score_waves(SongWaves(names, methods, true, mixed, 0))
    return found


def _read_like(excerpt: Excerpt, wanted: Shape) -> np.ndarray:
    """Read an excerpt; refuse it where its shape is not that of the mixture."""
    if (shape := excerpt.shape()) != wanted:
        got = f"{excerpt.path} has {shape} where the mixture has {wanted}"
        raise UserError(f"{got}; give the files of one separation")
    return excerpt.read()[0]
