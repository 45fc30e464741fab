"""Figures of separation quality, in float64 numpy."""

import importlib
import sys
import types
from collections.abc import Iterator

import numpy as np

from gensep.runtime.errors import UserError
from gensep.runtime.spool import Waves


def si_sdr(estimate: Waves, reference: Waves, *, zero_mean: bool = True) -> float:
    """Give the scale-invariant SDR in dB of `[n]` or `[channels, n]` (Le Roux et al. 2019).

    Each channel loses its mean unless `zero_mean` is off, then all of them count as one vector. A
    silent reference gives nan, a silent estimate -inf, a perfect one inf.
    """
    _check_alike(estimate, reference)
    e_mean, r_mean = (_mean(x) if zero_mean else 0.0 for x in (estimate, reference))

    def parts():
        for e, r in zip(_blocks(estimate), _blocks(reference), strict=True):
            yield (e - e_mean).ravel(), (r - r_mean).ravel()

    energies = np.sum([(e @ e, e @ r, r @ r) for e, r in parts()], axis=0)
    if energies[2] == 0:
        return float("nan")
    scale = energies[1] / energies[2]
    noise = sum(np.sum(np.square(e - scale * r)) for e, r in parts())
    with np.errstate(divide="ignore", invalid="ignore"):
        if energies[0] == 0:
            return float("-inf")
        return float(10 * np.log10(scale**2 * energies[2] / noise))


def si_sdr_gain(estimate: Waves, mixture: Waves, reference: Waves) -> float:
    """Give by how many dB the estimate's SI-SDR exceeds that of the mixture itself."""
    return si_sdr(estimate, reference) - si_sdr(mixture, reference)


def framewise_sdr(
    estimates: Waves, references: Waves, rate: int, *, win: float = 1.0, hop: float = 1.0
) -> np.ndarray:
    """Give BSSEval's SDR, the plain SNR of each frame, without its filters: `[source, frame]` dB.

    As in BSSEval a frame in which a source is silent is nan for all of them.
    """
    from gensep.evaluation.bsseval import frames, silent

    _check_alike(estimates, references)
    rows = []
    for start, stop in frames(references.shape[-1], rate, win, hop):
        s, y = references[..., start:stop], estimates[..., start:stop]
        if silent(s) or silent(y):
            rows.append(np.full(len(s), np.nan))
            continue
        error = np.sum(np.square(np.subtract(y, s, dtype=np.float64)), axis=(1, 2))
        with np.errstate(divide="ignore"):
            rows.append(10 * np.log10(np.sum(np.square(s, dtype=np.float64), axis=(1, 2)) / error))
    return np.array(rows).T


# the protocol of multi-source diffusion models (Mariani et al. 2024), as its figures were made
MSDM_WIN, MSDM_HOP, MSDM_EPS, MSDM_SILENCE = 4.0, 2.0, 1e-8, 1.5e-5


def msdm_gain(estimates: Waves, references: Waves, mixture: Waves, rate: int) -> np.ndarray:
    """Give the SI-SDR gain over the mixture in windows of 4 s, hop 2 s: `[source, window]` dB.

    Takes `[source, channel, samples]`, of the mixture one source. Windows in which at most one
    source sounds (norm / samples >= 1.5e-5) are left out; the last window may be short. Means
    stay, and 1e-8 is added to every energy, so that a silent source has a figure too: by how much
    the mixture was brought down.
    """
    samples, hop = references.shape[-1], int(MSDM_HOP * rate)
    overlap = int(MSDM_WIN * rate) - hop
    windows = []
    for start in range(0, max(1, samples - overlap), hop):
        cut = (..., slice(start, start + overlap + hop))
        true = np.asarray(references[cut], np.float64)
        norms = np.sqrt(np.sum(true**2, axis=(1, 2)))
        if np.sum(norms / true.shape[-1] >= MSDM_SILENCE) > 1:
            mixed, estimated = np.asarray(mixture[cut]), np.asarray(estimates[cut])
            windows.append(
                [
                    _padded_si_sdr(e, r) - _padded_si_sdr(mixed, r)
                    for e, r in zip(estimated, true, strict=True)
                ]
            )
    return np.array(windows).reshape(-1, len(references)).T


def mel_rmse(estimate: np.ndarray, reference: np.ndarray, floor: float) -> float:
    """Give the RMS difference in dB of mel powers `[frame, mel]`, with `floor` added to both."""
    _check_alike(estimate, reference)
    ratio = (np.asarray(estimate, np.float64) + floor) / (np.asarray(reference, np.float64) + floor)
    return float(np.sqrt(np.mean(np.square(10 * np.log10(ratio)))))


def psnr(
    estimates: np.ndarray, references: np.ndarray, *, data_range: float = 1.0, permute: bool = True
) -> np.ndarray:
    """Give 10 log10(range^2 / MSE) in dB for every source of `[source, ...]`, `[source]`.

    With `permute`, for sources that share a prior and so have no order, the estimates are assigned
    to the references such that the mean is highest. A perfect estimate gives inf.
    """
    from scipy.optimize import linear_sum_assignment

    _check_alike(estimates, references)
    e, r = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (estimates, references))
    error = np.mean(np.square(r[:, None] - e), axis=-1)  # [reference, estimate]
    with np.errstate(divide="ignore"):
        table = 10 * np.log10(data_range**2 / error)
    if not permute:
        return table.diagonal().copy()
    return table[linear_sum_assignment(np.minimum(table, 1e6), maximize=True)]


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


def _check_alike(estimate, reference) -> None:
    if np.shape(estimate) != np.shape(reference):
        raise ValueError(f"expected one shape, got {np.shape(estimate)}, {np.shape(reference)}")


def _padded_si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """SI-SDR in dB with MSDM's constant in every sum."""
    e, r = _vector(estimate), _vector(reference)
    target = (e @ r + MSDM_EPS) / (r @ r + MSDM_EPS) * r
    noise = e - target
    return float(10 * np.log10((target @ target + MSDM_EPS) / (noise @ noise + MSDM_EPS)))


def _blocks(waves: Waves, size: int = 1 << 20) -> Iterator[np.ndarray]:
    """Cut the last axis, so that copies in float64 stay small."""
    for start in range(0, np.shape(waves)[-1], size):
        yield np.asarray(waves[..., start : start + size], np.float64)


def _mean(waves: Waves) -> np.ndarray:
    """Give the mean over the last axis, which is kept."""
    return sum(x.sum(axis=-1, keepdims=True) for x in _blocks(waves)) / np.shape(waves)[-1]


def _vector(signal: np.ndarray) -> np.ndarray:
    return np.asarray(signal, np.float64).ravel()
