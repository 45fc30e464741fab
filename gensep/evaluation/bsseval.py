"""BSSEval v4 and v3, exact: SDR, ISR, SIR and SAR of every frame (Stoeter et al. 2018).

Estimates are projected on copies of the true sources delayed by 0 ... 511 samples. Let P_j be the
projection on source j and P the projection on all sources; then

    e_spat = P_j y - s,   e_interf = P y - P_j y,   e_artif = y - P y,

    SDR = |s|^2 / |y - s|^2,         ISR = |s|^2 / |e_spat|^2,
    SIR = |P_j y|^2 / |e_interf|^2,  SAR = |P y|^2 / |e_artif|^2.

These compare with the image s of a source in the mixture. The older comparison with the source
itself, through any filter (Vincent et al. 2006), has the same SIR and SAR, no ISR, and

    SDR = |P_j y|^2 / |e_interf + e_artif|^2 = |P_j y|^2 / |y - P_j y|^2.

The filters are fitted once per track (v4) or once per frame (v3) and applied to each frame
separately, including the 511 samples by which they lengthen it. The values are those of museval.
Correlations and projections are computed in blocks of one short transform, so that memory use does
not grow with the track, and one Cholesky factor serves all sets of estimates of a track.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, rfft
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from gensep.evaluation.metrics import frames, silent, silent_throughout
from gensep.runtime.parallel import prefetch
from gensep.runtime.spool import Waves

TAPS = 512
N_FFT = 8192
GROUP = 16  # blocks per task of a thread: 100 MB for four stereo sources

Span = tuple[int, int]  # start and stop in samples


class Scores(NamedTuple):
    """Values in dB, float64 `[source, frame]`; nan where a source is silent within the frame."""

    sdr: np.ndarray
    isr: np.ndarray
    sir: np.ndarray
    sar: np.ndarray


class _Blocks(NamedTuple):
    """Blocks of a track, `[first, first + length)` each, taken as zeros outside `[low, high)`."""

    first: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def results(
        self, work: Callable[["_Blocks"], np.ndarray], threads: int
    ) -> Iterator[np.ndarray]:
        """Yield `work(group)` for groups of blocks in order, computed by threads."""
        starts = range(0, len(self.first), GROUP)
        groups = [_Blocks(*(field[at : at + GROUP] for field in self)) for at in starts]
        return prefetch(lambda i: work(groups[i]), 0, len(groups), threads + 1, threads)


def bss_eval(
    references: Waves,
    estimates: Sequence[Waves],
    rate: int,
    *,
    win: float = 1.0,
    hop: float = 1.0,
    mode: str = "v4",
    target: str = "images",
    threads: int | None = None,
) -> list[Scores]:
    """Score several sets of estimates of one track; the work on its references is shared.

    References and each set of estimates are `[source, channel, samples]` at `rate` Hz. Frames of
    `win` seconds lie `hop` seconds apart (see `frames`). Mode v3 fits the filters in every frame,
    which is slow. The target `sources` takes the SDR with the source through a filter; ISR is nan
    then. By default there is a thread per core.

    Raises:
        ValueError: if shapes differ, if a window or hop is shorter than one sample, or if a source
            is silent throughout (its channels add up to 0) in the references or in an estimate.
    """
    if mode not in ("v3", "v4"):
        raise ValueError(f"mode must be v3 or v4, not {mode!r}")
    if target not in ("images", "sources"):
        raise ValueError(f"target must be images or sources, not {target!r}")
    for signal in (references, *estimates):
        if signal.shape != references.shape or signal.ndim != 3:
            shapes = f"{references.shape} and {signal.shape}"
            raise ValueError(f"expected [source, channel, samples] throughout, got {shapes}")
        for source in np.flatnonzero(silent_throughout(signal)):
            kind = "reference" if signal is references else "estimate"
            raise ValueError(f"{kind} {source} is silent throughout; BSSEval is undefined")
    spans = frames(references.shape[-1], rate, win, hop)
    sounding = [span for span in spans if not silent(references[..., slice(*span)])]
    figures = [np.full((4, references.shape[0], len(spans)), np.nan) for _ in estimates]
    threads = threads or os.cpu_count() or 1
    parts = [sounding] if mode == "v4" else [[span] for span in sounding]
    for part in parts if sounding else []:
        whole = (0, references.shape[-1]) if mode == "v4" else part[0]
        filters = _fit(references, estimates, whole, threads)
        energies = _energies(references, estimates, part, filters, threads)
        place = [spans.index(span) for span in part]
        for figure, energy in zip(figures, energies, strict=True):
            figure[..., place] = _decibels(energy, target)
    for figure, estimate in zip(figures, estimates, strict=True):
        figure[..., [silent(estimate[..., slice(*span)]) for span in spans]] = np.nan
    return [Scores(*figure) for figure in figures]


class _Filters(NamedTuple):
    """Spectra of the fitted filters: per bin a matrix that maps reference rows to estimate rows."""

    joint: np.ndarray  # [bin, estimate row, reference row]: all sources to every estimate
    own: np.ndarray  # [bin, source, channel, channel]: each source to its own estimate


def _fit(references: Waves, estimates: Sequence[Waves], span: Span, threads: int) -> list[_Filters]:
    """Fit the filters of every set of estimates to a span of the track, by least squares."""
    sources, channels = references.shape[:2]
    rows, sets = sources * channels, len(estimates)
    r = _correlations(references, estimates, span, threads)
    gram = _gram(r[:, :rows])
    right = r[:, rows:, TAPS - 1 :].reshape(rows, sets, rows, TAPS)
    right = right.transpose(0, 3, 1, 2)  # [reference row, tap, set, estimate row]
    own = []
    for j in range(sources):
        mine = slice(j * channels, (j + 1) * channels)
        taps = _solve(gram[mine, :, mine].copy(), right[mine, ..., mine])
        own.append(taps.reshape(channels, TAPS, sets, channels))
    joint = _solve(gram, right).reshape(rows, TAPS, sets, rows)
    apart = np.stack(own)  # [source, reference channel, tap, set, estimate channel]
    filters = []
    for k in range(sets):
        to_all = rfft(joint[:, :, k].transpose(2, 0, 1), N_FFT).transpose(2, 0, 1).copy()
        to_own = rfft(apart[:, :, :, k].transpose(0, 3, 1, 2), N_FFT).transpose(3, 0, 1, 2).copy()
        filters.append(_Filters(to_all, to_own))
    return filters


def _correlations(
    references: Waves, estimates: Sequence[Waves], span: Span, threads: int
) -> np.ndarray:
    """Return `[row, reference and estimate rows, lag + TAPS - 1]`: sum_n x(n) y(n + lag)."""
    start, stop = span
    size = N_FFT - 2 * (TAPS - 1)
    first = np.arange(start, stop, size)

    def cross(part: _Blocks) -> np.ndarray:
        x_hat = _spectra(_cut(references, part, size))
        low, high = np.full_like(part.first, start), np.full_like(part.first, stop)
        around = _Blocks(part.first - (TAPS - 1), low, high)
        signals = [_cut(signal, around, N_FFT) for signal in (references, *estimates)]
        y_hat = _spectra(np.concatenate(signals, axis=1))
        return x_hat.conj() @ y_hat.swapaxes(1, 2)

    blocks = _Blocks(first, first, np.minimum(first + size, stop))
    total = np.asarray(sum(blocks.results(cross, threads)))
    return irfft(np.moveaxis(total, 0, -1), N_FFT)[..., : 2 * TAPS - 1]


def _gram(r: np.ndarray) -> np.ndarray:
    """Arrange correlations `[row, row, lag]` in Toeplitz blocks: `[row, tap, row, tap]`."""
    shifted = np.lib.stride_tricks.sliding_window_view(r, TAPS, axis=-1)[..., ::-1]
    return shifted.transpose(0, 2, 1, 3).copy()


def _solve(gram: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve for taps `[row * tap, column]`, with machine epsilon on the diagonal as in museval.

    If references lack whole bands or depend on one another, rounding may make the matrix
    indefinite; it is then solved without Cholesky, as in museval. `gram` is overwritten.
    """
    size = gram.shape[0] * gram.shape[1]
    matrix, right = gram.reshape(size, size), right.reshape(size, -1)
    matrix[np.diag_indices(size)] += np.finfo(float).eps
    diagonal = matrix.diagonal().copy()
    try:  # in place; LAPACK is column-major, so that the factor fills the upper triangle
        factor = cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
        return cho_solve(factor, right, check_finite=False)
    except LinAlgError:
        lower = np.tril(matrix, -1)
        matrix = lower + lower.T + np.diag(diagonal)
    try:
        return np.linalg.solve(matrix, right)
    except LinAlgError:
        return np.linalg.lstsq(matrix, right)[0]


def _energies(
    references: Waves,
    estimates: Sequence[Waves],
    spans: list[Span],
    filters: list[_Filters],
    threads: int,
) -> list[np.ndarray]:
    """Return the energies that `_decibels` takes, `[8, source, span]` for each set of estimates."""
    total = spans[0][1] - spans[0][0] + TAPS - 1  # with what the filters add at the end
    count = -(-total // (N_FFT - TAPS + 1))
    size = -(-total // count)
    low, high = (np.repeat([span[i] for span in spans], count) for i in (0, 1))
    blocks = _Blocks(low + np.tile(np.arange(count) * size, len(spans)), low, high)

    def measure(part: _Blocks) -> np.ndarray:
        before = part._replace(first=part.first - (TAPS - 1))
        x = _cut(references, before, size + TAPS - 1)
        x_hat = _spectra(x)
        s = x[..., TAPS - 1 :]
        pairs = zip(estimates, filters, strict=True)
        return np.stack([_block_energies(x_hat, s, _cut(y, part, size), f) for y, f in pairs])

    parts = np.concatenate(list(blocks.results(measure, threads)), axis=2)  # [set, 8, block, row]
    shape = (len(estimates), 8, len(spans), count, *references.shape[:2])
    return list(parts.reshape(shape).sum((3, 5)).swapaxes(2, 3))


def _block_energies(
    x_hat: np.ndarray, s: np.ndarray, y: np.ndarray, filters: _Filters
) -> np.ndarray:
    """Return `[8, block, row]` of blocks `[block, row, n]`; x_hat is `[bin, row, block]`."""
    bins, sources, channels, _ = filters.own.shape
    apart = x_hat.reshape(bins, sources, channels, -1)
    p = _waves(filters.joint @ x_hat, s.shape[-1])
    p_own = _waves((filters.own @ apart).reshape(x_hat.shape), s.shape[-1])
    parts = (s, y - s, p_own, p, p_own - s, p - p_own, y - p, y - p_own)
    return np.stack([np.einsum("brn,brn->br", part, part) for part in parts])


def _decibels(energy: np.ndarray, target: str) -> np.ndarray:
    """Return the four ratios of energies, which are those of the parts in `_block_energies`."""
    s, error, own, joint, spat, interf, artif, filtered_error = energy
    if target == "sources":
        s, error, spat = own, filtered_error, np.full_like(spat, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.stack([s / error, s / spat, own / interf, joint / artif])
        return np.where(np.stack([error, spat, interf, artif]) == 0, np.inf, 10 * np.log10(ratios))


def _cut(signal: Waves, blocks: _Blocks, length: int) -> np.ndarray:
    """Cut float64 `[block, row, length]` from `[source, channel, samples]`."""
    rows = signal.shape[0] * signal.shape[1]
    out = np.zeros((len(blocks.first), rows, length))
    for block, first, low, high in zip(out, *blocks, strict=True):
        start, stop = max(first, low), min(first + length, high)
        if start < stop:
            block[:, start - first : stop - first] = signal[..., start:stop].reshape(rows, -1)
    return out


def _spectra(blocks: np.ndarray) -> np.ndarray:
    """Transform `[block, row, n]` to `[bin, row, block]`."""
    return np.ascontiguousarray(rfft(blocks, N_FFT).transpose(2, 1, 0))


def _waves(spectra: np.ndarray, size: int) -> np.ndarray:
    """Transform `[bin, row, block]` to `[block, row, size]` without circularly aliased samples."""
    waves = irfft(np.ascontiguousarray(spectra.transpose(2, 1, 0)), N_FFT)
    return waves[..., TAPS - 1 : TAPS - 1 + size]
