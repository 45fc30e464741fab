"""Measures of separation quality in float64 numpy, and frames and silence as museval has them."""

from collections.abc import Iterator

import numpy as np

from gensep.runtime.spool import Waves

BLOCK = 1 << 20  # samples that are copied to float64 at once


def si_sdr(estimate: Waves, reference: Waves) -> float:
    """Return the scale-invariant SDR in dB of `[..., samples]` (Le Roux et al. 2019).

    The mean of each channel is subtracted, then all channels are taken as one vector. The result is
    nan for a silent reference, -inf for a silent estimate and inf for a perfect one.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_alike(estimate, reference)
    e_mean, r_mean = _mean(estimate), _mean(reference)

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
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


def frames(samples: int, rate: int, win: float, hop: float) -> list[tuple[int, int]]:
    """Return (start, stop) in samples of every frame; seconds are rounded down, as in museval.

    A track shorter than `win` seconds is one frame; a frame that would pass the end is left out.

    Raises:
        ValueError: if a window or hop is shorter than one sample.
    """
    width = samples if win == np.inf else int(win * rate)
    step = samples if hop == np.inf else int(hop * rate)
    if width < 1 or step < 1:
        raise ValueError(
            f"a window of {win} s and a hop of {hop} s must hold at least a sample at {rate} Hz"
        )
    if width >= samples:
        return [(0, samples)]
    return [(at, at + width) for at in range(0, samples - width + 1, step)]


def silent(signal: np.ndarray) -> bool:
    """Return whether any source of `[source, channel, n]` is silent: its channels add up to 0."""
    return any(not np.sum(source, axis=0, dtype=np.float64).any() for source in signal)


def silent_throughout(waves: Waves) -> np.ndarray:
    """Return for each source whether its channels add up to 0 throughout: bool `[source]`."""
    return ~np.any([x.sum(axis=1).any(axis=-1) for x in _blocks(waves)], axis=0)


def framewise_sdr(
    estimates: Waves, references: Waves, rate: int, *, win: float = 1.0, hop: float = 1.0
) -> np.ndarray:
    """Return the SDR of BSSEval v4 in dB, `[source, frame]`: the SNR of each frame.

    It needs none of the filters of BSSEval (Stoeter et al. 2018). As there, a frame in which any
    source is silent is nan for all sources. `win` and `hop` are in seconds.

    Raises:
        ValueError: if the shapes differ, or a window or hop is shorter than one sample.
    """
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


# Protocol of multi-source diffusion models (Mariani et al. 2024), as in its published code.
MSDM_WIN, MSDM_HOP, MSDM_EPS, MSDM_SILENCE = 4.0, 2.0, 1e-8, 1.5e-5


def msdm_gain(estimates: Waves, references: Waves, mixture: Waves, rate: int) -> np.ndarray:
    """Return the SI-SDR gain over the mixture in windows of 4 s, hop 2 s: `[source, window]` dB.

    Windows in which at most one source sounds (norm / samples >= 1.5e-5) are left out; the last
    window may be short. Means are kept, and 1e-8 is added to every energy, so that a silent source
    has a value too: by how much the estimate is weaker than the mixture.
    Estimates and references are `[source, channel, samples]`, the mixture `[1, channel, samples]`.
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
            pairs = zip(estimated, true, strict=True)
            windows.append([_padded_si_sdr(e, r) - _padded_si_sdr(mixed, r) for e, r in pairs])
    return np.array(windows).reshape(-1, len(references)).T


def mel_rmse(estimate: np.ndarray, reference: np.ndarray, floor: float) -> float:
    """Return the RMS difference in dB of mel powers `[frame, mel]`, with `floor` added to both."""
    _check_alike(estimate, reference)
    ratio = (np.asarray(estimate, np.float64) + floor) / (np.asarray(reference, np.float64) + floor)
    return float(np.sqrt(np.mean(np.square(10 * np.log10(ratio)))))


def psnr(
    estimates: np.ndarray, references: np.ndarray, *, data_range: float = 1.0, permute: bool = True
) -> np.ndarray:
    """Return 10 log10(data_range^2 / MSE) in dB of each source of `[source, ...]`: `[source]`.

    With `permute`, for sources that share a prior and so have no order, the estimates are assigned
    to the references such that the mean is highest. The value of a perfect estimate is inf.
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


def _check_alike(estimate: Waves, reference: Waves) -> None:
    if estimate.shape != reference.shape:
        raise ValueError(f"expected one shape, got {estimate.shape} and {reference.shape}")


def _padded_si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Return the SI-SDR in dB with the constant of MSDM added to every sum."""
    e, r = (np.asarray(x, np.float64).ravel() for x in (estimate, reference))
    target = (e @ r + MSDM_EPS) / (r @ r + MSDM_EPS) * r
    noise = e - target
    return float(10 * np.log10((target @ target + MSDM_EPS) / (noise @ noise + MSDM_EPS)))


def _blocks(waves: Waves) -> Iterator[np.ndarray]:
    """Cut the last axis into blocks, so that the copies in float64 stay small."""
    for start in range(0, waves.shape[-1], BLOCK):
        yield np.asarray(waves[..., start : start + BLOCK], np.float64)


def _mean(waves: Waves) -> np.ndarray:
    """Return the mean over the last axis, which is kept."""
    sums = (x.sum(axis=-1, keepdims=True) for x in _blocks(waves))
    return sum(sums, np.zeros(1)) / waves.shape[-1]
