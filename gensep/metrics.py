"""Figures of separation quality, in float64 numpy."""

import importlib
import sys
import types
from collections.abc import Sequence

import numpy as np

from gensep.errors import UserError


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Give the scale-invariant SDR in dB of `[n]` or `[channels, n]` (Le Roux et al. 2019).

    Each channel loses its mean, then all of them count as one vector. A silent reference gives
    nan, a silent estimate -inf, a perfect one inf.
    """
    if np.shape(estimate) != np.shape(reference):
        raise ValueError(f"expected one shape, got {np.shape(estimate)}, {np.shape(reference)}")
    e, r = _centred(estimate), _centred(reference)
    energy = r @ r
    if energy == 0:
        return float("nan")
    target = (e @ r / energy) * r
    noise = e - target
    with np.errstate(divide="ignore", invalid="ignore"):
        if not e.any():
            return float("-inf")
        return float(10 * np.log10(target @ target / (noise @ noise)))


def si_sdr_gain(estimate: np.ndarray, mixture: np.ndarray, reference: np.ndarray) -> float:
    """Give by how many dB the estimate's SI-SDR exceeds that of the mixture itself."""
    return si_sdr(estimate, reference) - si_sdr(mixture, reference)


def paired_interval(
    values: Sequence[float] | np.ndarray, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """Give (mean, low, high) of figures per piece: the bootstrap percentile interval.

    For two methods give the differences per piece. nan (a silent piece) is left out.
    """
    kept = np.asarray(values, np.float64).ravel()
    kept = kept[~np.isnan(kept)]
    if not kept.size:
        return float("nan"), float("nan"), float("nan")
    pick = np.random.default_rng(seed).integers(kept.size, size=(10_000, kept.size))
    tail = 50 * (1 - level)
    low, high = np.percentile(kept[pick].mean(axis=1), [tail, 100 - tail])
    return float(kept.mean()), float(low), float(high)


def import_museval() -> types.ModuleType:
    """Import museval, also without ffmpeg, which museval's metrics never use.

    museval imports musdb, which imports stempeg, which raises RuntimeError without ffmpeg. Empty
    modules stand in for these two during the import and are gone afterwards.
    """
    before = set(sys.modules)
    try:
        return importlib.import_module("museval")
    except ModuleNotFoundError as error:
        raise UserError(f"museval cannot be imported ({error}); pip install museval") from None
    except RuntimeError:
        pass
    ours = ("museval", "musdb", "stempeg")
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ours:  # halves of modules that the failed import left
            del sys.modules[name]
    stand_ins = {name: types.ModuleType(name) for name in ours[1:] if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module("museval")
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _centred(signal: np.ndarray) -> np.ndarray:
    signal = np.asarray(signal, np.float64)
    return (signal - signal.mean(axis=-1, keepdims=True)).ravel()
