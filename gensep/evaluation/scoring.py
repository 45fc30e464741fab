"""Scores of one song: its estimates, the unprocessed mixture and the oracle against true stems.

The waves lie in temporary files, so that memory use is independent of the length of the song.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gensep.cli.records import Json
from gensep.datasets.songs import Song
from gensep.evaluation.measures import (
    BSS,
    ESTIMATE,
    MIXTURE,
    ORACLE,
    Protocol,
    SongWaves,
    chosen,
    over_frames,
)
from gensep.evaluation.metrics import frames
from gensep.evaluation.statistics import Key, Row, finite
from gensep.runtime.errors import UserError
from gensep.runtime.spool import spooled

if TYPE_CHECKING:
    from gensep.representation.mel import Representation

DIGITS, FRAME_DIGITS = 6, 5  # of values in records; of frames, as in museval's files


class Pair(NamedTuple):
    """The estimates of a song and its true stems."""

    estimate: Song
    reference: Song

    @property
    def sources(self) -> list[str]:
        """Names that both sides have, sorted."""
        return sorted(set(self.estimate.stems) & set(self.reference.stems))

    @property
    def representation(self) -> "Representation":
        """Representation of the oracle: as the record of the estimates states, or the default."""
        from gensep.datasets.separations import FILE, read_separation
        from gensep.representation.mel import Representation

        folder = Path(next(iter(self.estimate.stems.values())).path).parent
        if (folder / FILE).is_file():
            return read_separation(folder).representation
        return Representation()


def check_pair(pair: Pair) -> list[str]:
    """Compare headers; return notes on lengths that will be cut or padded and unmatched stems.

    Raises:
        UserError: if no stem is common, or rates or numbers of channels differ.
    """
    estimate, reference = pair
    name, wanted, notes = reference.name, reference.shape(), []
    if not pair.sources:
        ours, true = (", ".join(song.stems) for song in pair)
        problem = f"no estimate ({ours}) is called like a reference ({true})"
        raise UserError(f"{name}: {problem}; rename the files")
    tracks = {f"estimate of {s}": estimate.stems[s] for s in pair.sources}
    if reference.mixture is not None:
        tracks["mixture"] = reference.mixture
    for what, track in tracks.items():
        info = track.shape()
        if info[:2] != wanted[:2]:
            remedy = "bring them to one rate and one number of channels"
            raise UserError(f"{name}: the {what} has {info}, the references {wanted}; {remedy}")
        if extra := info.samples - wanted.samples:
            how = "cut" if extra > 0 else "padded with zeros"
            notes.append(f"{what} {how} by {abs(extra)} samples")
    notes += [f"{s} has no reference" for s in estimate.stems if s not in reference.stems]
    return notes + [f"{s} has no estimate" for s in reference.stems if s not in estimate.stems]


def fingerprint(pair: Pair, protocol: Protocol) -> str:
    """Return a digest of all that decides the scores, of files: path, size and time of change."""
    from gensep.representation.mel import Representation

    digest = hashlib.sha256(repr(sorted(asdict(protocol).items())).encode())
    for song in pair:
        for track in (song.mixture, *song.stems.values()):
            if track is not None:
                stat = os.stat(track.path)
                where = track[3:] if track[1:3] == (0.0, None) else track[1:]
                facts = Path(track.path).resolve(), where, stat.st_size, stat.st_mtime_ns
                digest.update((" ".join(map(str, facts)) + "\n").encode())
    if pair.representation != Representation():
        digest.update(repr(pair.representation).encode())
    return digest.hexdigest()


def score_song(pair: Pair, protocol: Protocol, threads: int | None = None) -> Json:
    """Measure a song by the metrics of a protocol; return its record.

    It has `targets` in the layout of museval, and under `gensep` (which museval ignores) among
    others `values[method][source][name]` and `frames`, likewise but with lists. Values are None
    where they are not finite. The BSSEval frames of estimates are in `targets` only.

    Raises:
        UserError: if the files do not fit together, a frame holds no sample, or a stem is silent
            throughout and the protocol refuses that.
    """
    notes, song = check_pair(pair), read_waves(pair, protocol, threads)
    metrics, sounding = chosen(protocol), song
    if any(metric.needs_sound for metric in metrics):
        try:
            frames(song.references.shape[-1], song.rate, *protocol.framing)
        except ValueError as error:
            raise UserError(f"{pair.reference.name}: {error}; take a longer one") from None
        sounding, silent = song.sounding()
        if silent and protocol.silent == "refuse":
            remedy = "take --silent skip to score the other stems"
            raise UserError(f"{pair.reference.name}: {silent[0]}; {remedy}")
        notes += silent
    values: Json = {m: {n: {} for n in song.names} for m in song.methods}
    listed: Json = {m: {n: {} for n in song.names} for m in song.methods}
    for metric in metrics:
        part = sounding if metric.needs_sound else song
        for method, named in (metric.measure(part, protocol) if part.methods else {}).items():
            for name, rows in named.items():
                for source, row in zip(part.names, rows, strict=True):
                    value = row
                    if metric.over_frames is not None:
                        rounded = [finite(x, FRAME_DIGITS) for x in row]
                        listed[method][source][name] = rounded
                        known = [x for x in rounded if x is not None]
                        value = over_frames(name, protocol)(known) if known else None
                    digits = DIGITS if metric.over_frames is None else FRAME_DIGITS
                    values[method][source][name] = finite(value, digits)
    targets = _targets(listed[ESTIMATE], protocol, song.references.shape[-1] / song.rate)
    facts: Json = {"song": pair.reference.name, "split": pair.reference.split, "notes": notes}
    facts |= {"protocol": asdict(protocol), "fingerprint": fingerprint(pair, protocol)}
    return {"targets": targets, "gensep": {**facts, "values": values, "frames": listed}}


def read_waves(pair: Pair, protocol: Protocol, threads: int | None = None) -> SongWaves:
    """Decode each file of a song once, cut or padded to the length of the references."""
    names, (rate, *shape) = pair.sources, pair.reference.shape()
    everything, mixture = pair.reference.to_disk()
    places = [list(pair.reference.stems).index(name) for name in names]
    methods = {ESTIMATE: spooled([pair.estimate.stems[name].blocks() for name in names], *shape)}
    if protocol.mixture:
        methods[MIXTURE] = mixture.select([0] * len(names))
    if protocol.oracle:
        from gensep.evaluation.oracles import oracle_spool

        ideal = oracle_spool("mel_irm", everything, mixture, rate, pair.representation)
        methods[ORACLE] = ideal.select(places)
    return SongWaves(names, methods, everything.select(places), mixture, rate, threads)


def collect_scores(records: Iterable[Json]) -> tuple[list[Row], dict[Key, list[float]]]:
    """Collect a row per value of every song, and the frames of all songs together, from records."""
    rows: list[Row] = []
    pooled: dict[Key, list[float]] = {}
    for record in records:
        own = record["gensep"]
        song = f"{own['split']}/{own['song']}" if own["split"] else own["song"]
        rows += [Row(m, song, source, name, x) for (m, source, name), x in _leaves(own["values"])]
        listed = list(_leaves(own["frames"]))
        for target in record["targets"]:
            moments = [frame["metrics"] for frame in target["frames"]]
            listed += [((ESTIMATE, target["name"], x), [m[x] for m in moments]) for x in BSS]
        for key, values in listed:
            known = [x for x in values if x is not None and np.isfinite(x)]
            pooled.setdefault(key, []).extend(known)
    return rows, pooled


def _leaves(nested: Json) -> Iterator[tuple[Key, Any]]:
    """Yield the leaves of method -> source -> name of a value -> leaf, each with its key."""
    for method, sources in nested.items():
        for source, named in sources.items():
            yield from (((method, source, name), leaf) for name, leaf in named.items())


def _targets(frames: Json, protocol: Protocol, seconds: float) -> list[Json]:
    """Move BSSEval frames, source -> name -> values, to the layout of museval.

    `seconds` is the length of the song. With `compat_nan` NaN stands for None, as in museval's own
    files, though JSON has no NaN.
    """
    targets, unknown = [], np.nan if protocol.compat_nan else None
    for name, listed in frames.items():
        columns = {value: listed.pop(value, None) for value in BSS}
        if columns["SDR"] is None:
            continue
        moments = []
        for i in range(len(columns["SDR"])):
            row = {v: None if column is None else column[i] for v, column in columns.items()}
            row = {v: unknown if x is None else x for v, x in row.items()}
            duration = protocol.win or seconds
            moments.append({"time": i * protocol.hop, "duration": duration, "metrics": row})
        targets.append({"name": name, "frames": moments})
    return targets
