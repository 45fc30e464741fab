"""Scores of the stems of one mixture against true stems, beside those of the mel-mask oracle."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gensep.audio.excerpt import Excerpt
from gensep.datasets.layouts import SUFFIXES
from gensep.evaluation.measures import ESTIMATE, METRICS, ORACLE, Protocol, SongWaves
from gensep.evaluation.oracles import oracle_spool
from gensep.evaluation.statistics import aligned, decibels, mean_known
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.runtime.spool import spooled

StemScores = dict[str, float | None]  # si_sdr, si_sdr_gain, oracle_si_sdr_gain


def score_stems(
    mixture: Excerpt, stems: Sequence[Path], folder: str, representation: Representation
) -> dict[str, StemScores]:
    """Score the stems of a mixture; memory use is independent of its length.

    Args:
        mixture: what was separated.
        stems: files of the estimates, which last as long as the mixture.
        folder: of the true stems, which are called like the estimates.
        representation: of the oracle's masks.

    Raises:
        UserError: if a reference is missing or differs in rate, channels or length.
    """
    names = [stem.stem for stem in stems]
    check_references(mixture, names, folder)
    rate, *shape = mixture.shape()
    true = spooled([reference_of(mixture, folder, name).blocks() for name in names], *shape)
    mixed = spooled([mixture.blocks()], *shape)
    methods = {
        ESTIMATE: spooled([Excerpt(stem).blocks() for stem in stems], *shape),
        ORACLE: oracle_spool("mel_irm", true, mixed, rate, representation),
    }
    return score_waves(SongWaves(names, methods, true, mixed, rate))


def score_waves(song: SongWaves) -> dict[str, StemScores]:
    """Return SI-SDR of the estimates and its gain over the mixture, theirs and the oracle's, in dB.

    A value that is not finite, as with a silent reference, is None.
    """
    found = METRICS["si_sdr"].measure(song, Protocol())
    columns = {
        "si_sdr": found[ESTIMATE]["si_sdr"],
        "si_sdr_gain": found[ESTIMATE]["si_sdr_gain"],
        "oracle_si_sdr_gain": found[ORACLE]["si_sdr_gain"],
    }
    return {
        name: {k: float(v[i]) if np.isfinite(v[i]) else None for k, v in columns.items()}
        for i, name in enumerate(song.names)
    }


def check_references(mixture: Excerpt, names: Sequence[str], folder: str) -> None:
    """Refuse references that are missing or differ from the mixture in rate, channels or length.

    Args:
        mixture: what is separated.
        names: of the stems.
        folder: of the true stems.

    Raises:
        UserError: with the first reference that does not fit.
    """
    wanted = mixture.shape()
    for name in names:
        got = reference_of(mixture, folder, name).shape()
        if got != wanted:
            raise UserError(
                f"the reference of {name} has {got}, the mixture {wanted}; give stems of this very "
                "mixture"
            )


def reference_of(mixture: Excerpt, folder: str, name: str) -> Excerpt:
    """Return the part of a true stem that belongs to a part of the mixture."""
    return Excerpt(find_reference(folder, name), mixture.start, mixture.duration)


def find_reference(folder: str, name: str) -> Path:
    """Find the file of a true stem.

    Raises:
        UserError: if there is none.
    """
    for suffix in SUFFIXES:
        if (path := Path(folder) / f"{name}{suffix}").exists():
            return path
    raise UserError(
        f"no reference {name}{{{','.join(SUFFIXES)}}} in {folder}; name the true stems "
        "like the priors"
    )


def reference_table(rows: Mapping[str, StemScores]) -> str:
    """Return the scores as a text table, with their means over the stems that have a value."""
    names = ("si_sdr", "si_sdr_gain", "oracle_si_sdr_gain")
    shown = dict(rows)
    if len(rows) > 1:
        shown["mean"] = {n: mean_known(row[n] for row in rows.values()) for n in names}
    lines = [(name, *(decibels(row[n]) for n in names)) for name, row in shown.items()]
    header = ("", "SI-SDR dB", "gain dB", "oracle gain")
    return aligned([header, *lines], ("<12", ">12", ">12", ">13"))
