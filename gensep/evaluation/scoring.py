"""Figures of one song: the estimates, the unprocessed mixture and the oracle against true stems.

The waves lie in temporary files, so that memory ignores the length of the song.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gensep.audio.excerpt import Shape
from gensep.datasets.songs import Song
from gensep.evaluation.statistics import Key, Row
from gensep.runtime.errors import UserError
from gensep.runtime.spool import Spool

METRICS = ("bsseval", "sdr", "si_sdr", "msdm", "mel")
BSS = ("SDR", "ISR", "SIR", "SAR")
ESTIMATE, MIXTURE, ORACLE = "estimate", "mixture", "oracle"
DIGITS = 5  # of frames, as in museval's files


@dataclass(frozen=True)
class Protocol:
    """What decides the figures of a song."""

    metrics: tuple[str, ...] = ("bsseval", "si_sdr")
    win: float = 1.0
    hop: float = 1.0
    mode: str = "v4"
    mixture: bool = True
    oracle: bool = False
    silent: str = "skip"
    compat_nan: bool = False

    def __post_init__(self):
        if unknown := [name for name in self.metrics if name not in METRICS]:
            raise ValueError(f"metrics must be among {', '.join(METRICS)}, not {unknown[0]}")
        if not self.metrics:
            raise ValueError(f"metrics must name at least one of {', '.join(METRICS)}")
        if not (self.win > 0 and self.hop > 0):
            raise ValueError(f"win and hop must be positive, not {self.win} and {self.hop}")


class Pair(NamedTuple):
    """A song's estimates and its true stems."""

    estimate: Song
    reference: Song

    @property
    def sources(self) -> list[str]:
        """Names that both sides have, sorted."""
        return sorted(set(self.estimate.stems) & set(self.reference.stems))


def check(pair: Pair) -> list[str]:
    """Compare headers; give notes of lengths that will be cut or padded and stems left out.

    Raises:
        UserError: where no stem is common, or rates or channels differ.
    """
    name, wanted, notes = pair.reference.name, pair.reference.shape(), []
    if not pair.sources:
        raise UserError(
            f"{name}: no estimate ({', '.join(pair.estimate.stems)}) is called like a "
            f"reference ({', '.join(pair.reference.stems)}); rename the files"
        )
    tracks = {f"estimate of {s}": pair.estimate.stems[s] for s in pair.sources}
    if pair.reference.mixture is not None:
        tracks["mixture"] = pair.reference.mixture
    for what, track in tracks.items():
        info = track.shape()
        if info[:2] != wanted[:2]:
            raise UserError(
                f"{name}: the {what} has {info}, the references {wanted}; bring them "
                "to one rate and one number of channels"
            )
        if (extra := info.samples - wanted.samples) != 0:
            notes.append(
                f"{what} {'cut' if extra > 0 else 'padded with zeros'} by {abs(extra)} samples"
            )
    for side, other, kind in (
        (pair.estimate, pair.reference, "reference"),
        (pair.reference, pair.estimate, "estimate"),
    ):
        notes += [f"{s} has no {kind}" for s in side.stems if s not in other.stems]
    return notes


def fingerprint(pair: Pair, protocol: Protocol) -> str:
    """Give a digest of the protocol and of the files: path, size and time of the last change."""
    digest = hashlib.sha256(repr(sorted(asdict(protocol).items())).encode())
    for song in pair:
        for track in (song.mixture, *song.stems.values()):
            if track is not None:
                stat = os.stat(track.path)
                where = track[3:] if track[1:3] == (0.0, None) else track[1:]
                digest.update(
                    f"{Path(track.path).resolve()} {where} {stat.st_size} "
                    f"{stat.st_mtime_ns}\n".encode()
                )
    return digest.hexdigest()


def score(pair: Pair, protocol: Protocol, threads: int | None = None) -> dict[str, Any]:
    """Give a song's record: museval's `targets`, and all else under `gensep`, which it ignores.

    Figures are None where they are not finite. `gensep` holds `values[method][source][metric]` and
    `frames`, alike but lists; the estimates' frames of BSSEval are in `targets` alone.
    """
    notes, names, info = check(pair), pair.sources, pair.reference.shape()
    true = _spool([pair.reference.stems[s].blocks() for s in names], info)
    mixture = _spool([pair.reference.mixture_blocks()], info)
    methods = {ESTIMATE: _spool([pair.estimate.stems[s].blocks() for s in names], info)}
    if protocol.mixture:
        methods[MIXTURE] = mixture.select([0] * len(names))
    if protocol.oracle:
        methods[ORACLE] = _oracle(pair.reference, mixture, names, info)
    sheet = _Sheet(methods, names)
    if {"bsseval", "sdr"} & set(protocol.metrics):
        notes += _bsseval(sheet, true, info.rate, protocol, threads, pair.reference.name)
    if "si_sdr" in protocol.metrics:
        _si_sdr(sheet, true, mixture)
    if "msdm" in protocol.metrics:
        from gensep.evaluation.metrics import msdm_gain

        for method, waves in methods.items():
            gains = msdm_gain(waves, true, mixture, info.rate)
            for i, name in enumerate(names):
                sheet.add(method, name, "msdm_gain", gains[i], np.mean)
    if "mel" in protocol.metrics:
        _mel(sheet, true, mixture, info.rate)
    return sheet.record(pair, protocol, notes)


def figures(records: Iterable[dict[str, Any]]) -> tuple[list[Row], dict[Key, list[float]]]:
    """Give a row a figure of every song, and the frames of all songs together, from records."""
    rows: list[Row] = []
    pooled: dict[Key, list[float]] = {}
    for record in records:
        own = record["gensep"]
        song = f"{own['split']}/{own['song']}" if own["split"] else own["song"]
        for method, sources in own["values"].items():
            rows += [
                Row(method, song, source, metric, value)
                for source, values in sources.items()
                for metric, value in values.items()
            ]
        listed = [
            ((method, source, metric), frames)
            for method, sources in own["frames"].items()
            for source, metrics in sources.items()
            for metric, frames in metrics.items()
        ]
        listed += [
            ((ESTIMATE, target["name"], metric), [f["metrics"][metric] for f in target["frames"]])
            for target in record["targets"]
            for metric in BSS
        ]
        for key, frames in listed:
            known = [x for x in frames if x is not None and np.isfinite(x)]
            pooled.setdefault(key, []).extend(known)
    return rows, pooled


class _Sheet:
    """Figures as they come in."""

    def __init__(self, methods: dict[str, Spool], names: list[str]):
        self.methods, self.names = methods, names
        self.values: dict = {m: {n: {} for n in names} for m in methods}
        self.frames: dict = {m: {n: {} for n in names} for m in methods}

    def add(self, method: str, name: str, metric: str, frames: np.ndarray, mean=np.median) -> None:
        """Note frames, rounded, and their median (or mean) as the song's value."""
        listed = [_finite(x, DIGITS) for x in frames]
        kept = [x for x in listed if x is not None]
        self.frames[method][name][metric] = listed
        self.values[method][name][metric] = _finite(mean(kept), DIGITS) if kept else None

    def record(self, pair: Pair, protocol: Protocol, notes: list[str]) -> dict[str, Any]:
        """Lay the figures out as they are written."""
        targets = []
        for name in self.names:
            frames = self.frames[ESTIMATE][name]
            listed = {m: frames.pop(m, None) for m in BSS}
            if listed["SDR"] is not None:
                targets.append(
                    {
                        "name": name,
                        "frames": [
                            {
                                "time": i * protocol.hop,
                                "duration": protocol.win,
                                "metrics": {m: v[i] if v else None for m, v in listed.items()},
                            }
                            for i in range(len(listed["SDR"]))
                        ],
                    }
                )
        if protocol.compat_nan:
            targets = _with_nan(targets)
        own = {
            "song": pair.reference.name,
            "split": pair.reference.split,
            "notes": notes,
            "protocol": asdict(protocol),
            "fingerprint": fingerprint(pair, protocol),
            "values": self.values,
            "frames": self.frames,
        }
        return {"targets": targets, "gensep": own}


def _bsseval(
    sheet: _Sheet, true: Spool, rate: int, protocol: Protocol, threads: int | None, song: str
) -> list[str]:
    """Add the framewise figures of the sources that sound; give notes of those that never do."""
    from gensep.evaluation.bsseval import bss_eval, silent_throughout
    from gensep.evaluation.metrics import framewise_sdr

    never = silent_throughout(true)
    notes = [
        f"{name}'s reference is silent throughout: no BSSEval"
        for name, is_so in zip(sheet.names, never, strict=True)
        if is_so
    ]
    quiet = silent_throughout(sheet.methods[ESTIMATE]) & ~never
    notes += [
        f"{name}'s estimate is silent throughout: no BSSEval"
        for name, is_so in zip(sheet.names, quiet, strict=True)
        if is_so
    ]
    if notes and protocol.silent == "refuse":
        raise UserError(f"{song}: {notes[0]}; take --silent skip to score the other stems")
    kept = [int(i) for i in np.flatnonzero(~never & ~quiet)]
    # a mixture that is silent where stems sound cannot be scored
    methods = {m: w.select(kept) for m, w in sheet.methods.items() if kept}
    methods = {m: w for m, w in methods.items() if not silent_throughout(w).any()}
    if not methods:
        return notes
    reference, frames = true.select(kept), {"win": protocol.win, "hop": protocol.hop}
    try:
        if "bsseval" in protocol.metrics:
            found = bss_eval(
                reference,
                list(methods.values()),
                rate,
                **frames,
                mode=protocol.mode,
                threads=threads,
            )
            figures = [dict(zip(BSS, scores, strict=True)) for scores in found]
        else:
            figures = [
                {"SDR": framewise_sdr(w, reference, rate, **frames)} for w in methods.values()
            ]
    except ValueError as error:  # a window or hop under one sample
        raise UserError(f"{song}: {error}") from None
    for method, measured in zip(methods, figures, strict=True):
        for metric, table in measured.items():
            for i, row in zip(kept, table, strict=True):
                sheet.add(method, sheet.names[i], metric, row)
    return notes


def _si_sdr(sheet: _Sheet, true: Spool, mixture: Spool) -> None:
    """Add SI-SDR (means removed) and its gain over the mixture."""
    from gensep.evaluation.metrics import si_sdr

    for i, name in enumerate(sheet.names):
        reference = true.select([i])
        base = si_sdr(mixture, reference)
        for method, waves in sheet.methods.items():
            value = base if method == MIXTURE else si_sdr(waves.select([i]), reference)
            gain = value - base if np.isfinite(base) else np.nan
            sheet.values[method][name] |= {"si_sdr": _finite(value), "si_sdr_gain": _finite(gain)}


def _mel(sheet: _Sheet, true: Spool, mixture: Spool, rate: int) -> None:
    """Add the RMS error of mel decibels, with the mixture brought to the priors' level."""
    from gensep.audio.files import mid_stream
    from gensep.evaluation.metrics import mel_rmse
    from gensep.representation.analysis import analyse
    from gensep.representation.mel import Representation

    representation = Representation()

    def analysis(waves: Spool, source: int) -> Any:
        return analyse(
            mid_stream(waves.blocks(source), rate, representation.sample_rate), representation
        )

    level = analysis(mixture, 0).level
    gain = 10 ** ((representation.level_db - level) / 10) if np.isfinite(level) else 1.0
    for i, name in enumerate(sheet.names):
        reference = analysis(true, i).power * gain
        for method, waves in sheet.methods.items():
            error = mel_rmse(analysis(waves, i).power * gain, reference, representation.floor)
            sheet.values[method][name]["mel_rmse"] = _finite(error)


def _oracle(reference: Song, mixture: Spool, names: list[str], info: Shape) -> Spool:
    """Filter the mixture by the mel power ratios of all true stems."""
    from gensep.evaluation.oracles import filter_by_truth
    from gensep.representation.mel import Representation

    places = [list(reference.stems).index(name) for name in names]
    out = Spool(len(names), info.channels, info.samples)
    stems = (track.blocks() for track in reference.stems.values())
    for waves in filter_by_truth(stems, mixture.blocks(0), info.rate, Representation()):
        for i, place in enumerate(places):
            out.write(i, [waves[place]])
    return out


def _spool(tracks: list[Iterable[np.ndarray]], info: Shape) -> Spool:
    """Decode tracks once, cut or padded to the length of the references."""
    spool = Spool(len(tracks), info.channels, info.samples)
    for i, blocks in enumerate(tracks):
        spool.write(i, blocks)
    return spool


def _with_nan(tree: Any) -> Any:
    """Put NaN in the place of None, which museval's own files hold though JSON knows no NaN."""
    if isinstance(tree, dict):
        return {name: _with_nan(branch) for name, branch in tree.items()}
    if isinstance(tree, list):
        return [_with_nan(branch) for branch in tree]
    return float("nan") if tree is None else tree


def _finite(value: Any, digits: int = 6) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None
