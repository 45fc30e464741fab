"""Scores of separated stems against true ones, beside the mixture and the mel-mask oracle."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gensep.audio.excerpt import Excerpt
from gensep.datasets.layouts import SUFFIXES
from gensep.evaluation.metrics import si_sdr
from gensep.evaluation.oracles import filter_by_truth
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError


def score(
    mixture: Excerpt, stems: Sequence[Path], folder: str, representation: Representation
) -> dict[str, dict[str, float | None]]:
    """Give SI-SDR, its gain over the mixture and the oracle's gain for every stem, in dB.

    Where a value is not finite, as for a silent reference, it is None.

    Raises:
        UserError: if a reference is missing or differs in rate, channels or length.
    """
    check(mixture, [stem.stem for stem in stems], folder)
    mixed, rate = mixture.read()
    true = [reference_of(mixture, folder, stem.stem).read()[0] for stem in stems]
    best = oracle(true, mixed, rate, representation)
    return {
        stem.stem: figures(Excerpt(stem).read()[0], reference, ideal, mixed)
        for stem, reference, ideal in zip(stems, true, best, strict=True)
    }


def figures(
    estimate: np.ndarray, reference: np.ndarray, ideal: np.ndarray, mixed: np.ndarray
) -> dict[str, float | None]:
    """Give the scores of one stem, all arguments `[channels, samples]`; None if not finite."""
    base = si_sdr(mixed, reference)
    row = {
        "si_sdr": si_sdr(estimate, reference),
        "si_sdr_gain": si_sdr(estimate, reference) - base,
        "oracle_si_sdr_gain": si_sdr(ideal, reference) - base,
    }
    # of a silent reference there is no SI-SDR
    return {k: v if np.isfinite(v) else None for k, v in row.items()}


def check(mixture: Excerpt, names: Sequence[str], folder: str) -> None:
    """Refuse references that are missing or differ from the mixture in rate, channels, length.

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
    """Return the same seconds of a stem's reference as those of the mixture."""
    return Excerpt(find(folder, name), mixture.start, mixture.duration)


def oracle(
    true: list[np.ndarray], mixture: np.ndarray, rate: int, representation: Representation
) -> np.ndarray:
    """Filter the mixture by the power ratios of the true stems, `[source, channels, samples]`."""
    blocks = filter_by_truth(([wave] for wave in true), [mixture], rate, representation)
    return np.concatenate(list(blocks), -1)


def table(rows: dict[str, dict[str, float | None]]) -> str:
    """Give the scores as a text table with their mean, over the stems that have one."""
    names = ("si_sdr", "si_sdr_gain", "oracle_si_sdr_gain")
    lines = [f"{'':<12}{'SI-SDR dB':>12}{'gain dB':>12}{'oracle gain':>13}"]
    shown = dict(rows)
    if len(rows) > 1:
        known = {n: [v for row in rows.values() if (v := row[n]) is not None] for n in names}
        shown["mean"] = {n: float(np.mean(v)) if v else None for n, v in known.items()}
    for name, row in shown.items():
        cells = ["-" if (v := row[n]) is None else f"{v:.2f}" for n in names]
        lines.append(f"{name:<12}{cells[0]:>12}{cells[1]:>12}{cells[2]:>13}")
    return "\n".join(lines)


def find(folder: str, name: str) -> Path:
    """Give the reference of a stem; refuse in one line where there is none."""
    for suffix in SUFFIXES:
        if (path := Path(folder) / f"{name}{suffix}").exists():
            return path
    raise UserError(
        f"no reference {name}{{{','.join(SUFFIXES)}}} in {folder}; name the true stems "
        "like the priors"
    )
