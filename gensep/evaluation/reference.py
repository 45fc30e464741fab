"""Scores of the stems of one mixture against true stems, beside those of the mel-mask oracle."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from gensep.audio.excerpt import Excerpt
from gensep.datasets.layouts import SUFFIXES
from gensep.evaluation.measures import ESTIMATE, METRICS, ORACLE, Protocol, SongWaves
from gensep.evaluation.oracles import oracle_spool
from gensep.evaluation.statistics import aligned, decibels, finite, mean_known
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.runtime.spool import spooled

StemScores = dict[str, float | None]  # si_sdr, si_sdr_gain, oracle_si_sdr_gain


def score_stems(
    mixture: Excerpt,
    stems: Sequence[Path],
    folder: str,
    representation: Representation,
    *,
    whole: bool = True,
) -> dict[str, StemScores]:
    """Score the stems of a mixture, which last as long, against true stems of the same names.

    Memory use is independent of the length. The masks of the oracle have the representation given.
    Unless the stems are the `whole` mixture, what they leave of it is one more source of the
    oracle.

    Raises:
        UserError: if a reference is missing or differs in rate, channels or length.
    """
    names = [stem.stem for stem in stems]
    check_references(mixture, names, folder)
    rate, *shape = mixture.shape()
    sounds = [reference_of(mixture, folder, name) for name in names]
    parts = [sound.blocks() for sound in sounds]
    if not whole:
        parts.append(left_of(mixture, sounds))
    every = spooled(parts, *shape)
    true, mixed = every.select(range(len(names))), spooled([mixture.blocks()], *shape)
    methods = {
        ESTIMATE: spooled([Excerpt(stem).blocks() for stem in stems], *shape),
        ORACLE: oracle_spool("mel_irm", every, mixed, rate, representation).select(
            range(len(names))
        ),
    }
    return score_waves(SongWaves(names, methods, true, mixed, rate))


def left_of(mixture: Excerpt, sounds: Sequence[Excerpt]) -> Iterator[np.ndarray]:
    """Return a mixture without some of its sources, in blocks; all have one shape."""
    together = zip(mixture.blocks(), *(sound.blocks() for sound in sounds), strict=True)
    return (mixed - np.sum(parts, 0) for mixed, *parts in together)


def score_waves(song: SongWaves) -> dict[str, StemScores]:
    """Return SI-SDR in dB and its gain over the mixture, and the oracle's; None if not finite."""
    found = METRICS["si_sdr"].measure(song, Protocol())
    columns = {
        "si_sdr": found[ESTIMATE]["si_sdr"],
        "si_sdr_gain": found[ESTIMATE]["si_sdr_gain"],
        "oracle_si_sdr_gain": found[ORACLE]["si_sdr_gain"],
    }
    rows = ({k: finite(v[i]) for k, v in columns.items()} for i in range(len(song.names)))
    return dict(zip(song.names, rows, strict=True))


def check_references(mixture: Excerpt, names: Sequence[str], folder: str) -> None:
    """Raise UserError for a reference that is missing or differs in rate, channels or length."""
    wanted = mixture.shape()
    for name in names:
        got = reference_of(mixture, folder, name).shape()
        if got != wanted:
            problem = f"the reference of {name} has {got}, the mixture {wanted}"
            raise UserError(f"{problem}; give stems of this very mixture")


def has_reference(folder: str, name: str) -> bool:
    """Tell whether there is a true stem `name` in a folder."""
    return any((Path(folder) / f"{name}{suffix}").exists() for suffix in SUFFIXES)


def reference_of(mixture: Excerpt, folder: str, name: str) -> Excerpt:
    """Return the part of the true stem `name` in `folder` that belongs to a part of the mixture.

    Raises:
        UserError: if there is no such file.
    """
    for suffix in SUFFIXES:
        if (path := Path(folder) / f"{name}{suffix}").exists():
            return Excerpt(path, mixture.start, mixture.duration)
    wanted = f"{name}{{{','.join(SUFFIXES)}}}"
    raise UserError(f"no reference {wanted} in {folder}; name the true stems like the priors")


def reference_table(rows: Mapping[str, StemScores]) -> str:
    """Return the scores as a text table, with their means over the stems that have a value."""
    names = ("si_sdr", "si_sdr_gain", "oracle_si_sdr_gain")
    shown = dict(rows)
    if len(rows) > 1:
        shown["mean"] = {n: mean_known(row[n] for row in rows.values()) for n in names}
    lines = [(name, *(decibels(row[n]) for n in names)) for name, row in shown.items()]
    header = ("", "SI-SDR dB", "gain dB", "oracle gain")
    return aligned([header, *lines], ("<12", ">12", ">12", ">13"))
