"""BSSEval v4 (images), exact: SDR, ISR, SIR and SAR of every frame (Stoeter et al. 2018).

Estimates are projected on copies of the true sources delayed by 0 ... 511 samples. With P_j the
projection on source j and P on all of them,

    e_spat = P_j y - s,   e_interf = P y - P_j y,   e_artif = y - P y,

    SDR = |s|^2 / |y - s|^2,         ISR = |s|^2 / |e_spat|^2,
    SIR = |P_j y|^2 / |e_interf|^2,  SAR = |P y|^2 / |e_artif|^2.

The filters are fitted once a track (v4) or once a frame (v3) and run over each frame on its own,
its last 511 samples of reverberation included. The figures are museval's; what differs is the
work: correlations and projections in blocks of one short transform, so that memory does not grow
with the track, and one Cholesky factor for all estimates of a track.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, rfft
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from gensep.runtime.spool import Waves

TAPS = 512
N_FFT = 8192
GROUP = 16  # blocks at once in a thread: 100 MB for four stereo sources


class Scores(NamedTuple):
    """Figures in dB, float64 `[source, frame]`; nan where a frame holds a silent source."""

    sdr: np.ndarray
    isr: np.ndarray
    sir: np.ndarray
    sar: np.ndarray


class _Blocks(NamedTuple):
    """Parts of a track: `[first, first + length)` each, silent outside `[low, high)`."""

    first: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def groups(self) -> Iterator["_Blocks"]:
        for at in range(0, len(self.first), GROUP):
            yield _Blocks(*(field[at : at + GROUP] for field in self))


def bss_eval(
    references: Waves,
    estimates: Sequence[Waves],
    rate: int,
    *,
    win: float = 1.0,
    hop: float = 1.0,
    mode: str = "v4",
    threads: int | None = None,
) -> list[Scores]:
    """Score several sets of estimates of one track, paying for the track only once.

    Args:
        references: true sources, `[source, channel, samples]`, any float type; an array or what
            can be cut in its last axis like one, such as a `Spool`.
        estimates: arrays of the same shape, one for each method.
        rate: in Hz.
        win: seconds of a frame; a shorter track, or `inf`, is one frame.
        hop: seconds from frame to frame; a frame that would pass the end is left out.
        mode: v4, or v3 for filters of every frame (much work).
        threads: one a core by default.

    Raises:
        ValueError: for shapes that differ, a hop under one sample, or a source that is silent
            throughout (its channels add up to 0), in the references or in an estimate.
    """
    if mode not in ("v3", "v4"):
        raise ValueError(f"mode must be v3 or v4, not {mode!r}")
    for signal in (references, *estimates):
        if signal.shape != references.shape or signal.ndim != 3:
            raise ValueError(
                "expected [source, channel, samples] throughout, got "
                f"{references.shape} and {signal.shape}"
            )
        for source in np.flatnonzero(silent_throughout(signal)):
            kind = "reference" if signal is references else "estimate"
            raise ValueError(f"{kind} {source} is silent throughout; BSSEval has no figure for it")
    spans = frames(references.shape[-1], rate, win, hop)
    sounding = [span for span in spans if not silent(references[..., slice(*span)])]
    figures = [np.full((4, references.shape[0], len(spans)), np.nan) for _ in estimates]
    threads = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        run = partial(_in_order, pool, threads + 1)
        parts = [sounding] if mode == "v4" else [[span] for span in sounding]
        for part in parts if sounding else []:
            whole = (0, references.shape[-1]) if mode == "v4" else part[0]
            filters = _fit(references, estimates, whole, run)
            energies = _energies(references, estimates, part, filters, run)
            place = [spans.index(span) for span in part]
            for figure, energy in zip(figures, energies, strict=True):
                figure[..., place] = _decibels(energy)
    for figure, estimate in zip(figures, estimates, strict=True):
        figure[..., [silent(estimate[..., slice(*span)]) for span in spans]] = np.nan
    return [Scores(*figure) for figure in figures]


def frames(samples: int, rate: int, win: float, hop: float) -> list[tuple[int, int]]:
    """Give (start, stop) in samples of every frame; seconds are rounded down, as in museval."""
    width = samples if win == np.inf else int(win * rate)
    step = samples if hop == np.inf else int(hop * rate)
    if width < 1 or step < 1:
        raise ValueError(
            f"a window of {win} s and a hop of {hop} s must hold at least a sample at {rate} Hz"
        )
    if width >= samples:
        return [(0, samples)]
    return [(at, at + width) for at in range(0, samples - width + 1, step)]


def _in_order(pool: ThreadPoolExecutor, ahead: int, function: Callable, items) -> Iterator:
    """Yield `function(item)` in the order of the items, at most `ahead` of them waiting."""
    waiting: deque = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class _Filters(NamedTuple):
    """Spectra of fitted filters, frequency first, as matrices from reference to estimate rows."""

    joint: np.ndarray  # [bin, estimate row, reference row]: all sources onto every estimate
    own: np.ndarray  # [bin, source, channel, channel]: each source onto its estimate


def _fit(references, estimates, span: tuple[int, int], run: Callable) -> list[_Filters]:
    """Fit the filters of every set of estimates to a span of the track, by least squares."""
    sources, channels = references.shape[:2]
    rows, sets = sources * channels, len(estimates)
    r = _correlations(references, estimates, span, run)
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
    return [
        _Filters(
            rfft(joint[:, :, k].transpose(2, 0, 1), N_FFT).transpose(2, 0, 1).copy(),
            rfft(apart[:, :, :, k].transpose(0, 3, 1, 2), N_FFT).transpose(3, 0, 1, 2).copy(),
        )
        for k in range(sets)
    ]


def _correlations(references, estimates, span: tuple[int, int], run: Callable) -> np.ndarray:
    """Give `[row, reference and estimate rows, lag + TAPS - 1]`: sum_n x(n) y(n + lag)."""
    start, stop = span
    size = N_FFT - 2 * (TAPS - 1)
    first = np.arange(start, stop, size)

    def cross(part: _Blocks) -> np.ndarray:
        x_hat = _spectra(_cut(references, part, size))
        around = _Blocks(
            part.first - (TAPS - 1), np.full_like(part.first, start), np.full_like(part.first, stop)
        )
        signals = [_cut(signal, around, N_FFT) for signal in (references, *estimates)]
        y_hat = _spectra(np.concatenate(signals, axis=1))
        return x_hat.conj() @ y_hat.swapaxes(1, 2)

    blocks = _Blocks(first, first, np.minimum(first + size, stop))
    total = sum(run(cross, blocks.groups()))
    return irfft(np.moveaxis(total, 0, -1), N_FFT)[..., : 2 * TAPS - 1]


def _gram(r: np.ndarray) -> np.ndarray:
    """Lay out correlations `[row, row, lag]` as Toeplitz blocks: `[row, tap, row, tap]`."""
    shifted = np.lib.stride_tricks.sliding_window_view(r, TAPS, axis=-1)[..., ::-1]
    return shifted.transpose(0, 2, 1, 3).copy()


def _solve(gram: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve for taps `[row * tap, column]`, with machine epsilon on the diagonal as in museval.

    References that lack whole bands, or depend on one another, may leave a matrix that rounding
    makes indefinite; it then goes museval's slower way. `gram` is overwritten.
    """
    size = gram.shape[0] * gram.shape[1]
    matrix, right = gram.reshape(size, size), right.reshape(size, -1)
    matrix[np.diag_indices(size)] += np.finfo(float).eps
    diagonal = matrix.diagonal().copy()
    try:  # in place: the factor fills the upper triangle, as columns come first in LAPACK
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
    references, estimates, spans: list[tuple[int, int]], filters: list[_Filters], run: Callable
) -> list[np.ndarray]:
    """Give `[7, source, span]` for every set: energies in the order of `_decibels`."""
    total = spans[0][1] - spans[0][0] + TAPS - 1  # with the reverberation of the filters
    count = -(-total // (N_FFT - TAPS + 1))
    size = -(-total // count)
    low, high = (np.repeat([span[i] for span in spans], count) for i in (0, 1))
    blocks = _Blocks(low + np.tile(np.arange(count) * size, len(spans)), low, high)

    def measure(part: _Blocks) -> np.ndarray:
        before = part._replace(first=part.first - (TAPS - 1))
        x = _cut(references, before, size + TAPS - 1)
        x_hat = _spectra(x)
        s = x[..., TAPS - 1 :]
        return np.stack(
            [
                _block_energies(x_hat, s, _cut(estimate, part, size), taps)
                for estimate, taps in zip(estimates, filters, strict=True)
            ]
        )

    parts = np.concatenate(list(run(measure, blocks.groups())), axis=2)  # [set, 7, block, row]
    shape = (len(estimates), 7, len(spans), count, *references.shape[:2])
    return list(parts.reshape(shape).sum((3, 5)).swapaxes(2, 3))


def _block_energies(x_hat, s, y, filters: _Filters) -> np.ndarray:
    """Give `[7, block, row]` of blocks `[block, row, n]`, whose spectra are `[bin, row, block]`."""
    bins, sources, channels, _ = filters.own.shape
    apart = x_hat.reshape(bins, sources, channels, -1)
    p = _waves(filters.joint @ x_hat, s.shape[-1])
    p_own = _waves((filters.own @ apart).reshape(x_hat.shape), s.shape[-1])
    return np.stack([_energy(part) for part in (s, y - s, p_own, p, p_own - s, p - p_own, y - p)])


def _decibels(energy: np.ndarray) -> np.ndarray:
    """Turn the energies of s, y - s, P_j y, P y, e_spat, e_interf, e_artif into the four ratios."""
    s, error, own, joint, spat, interf, artif = energy
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
    """Transform `[bin, row, block]` to `[block, row, size]`, past what the circle folds over."""
    waves = irfft(np.ascontiguousarray(spectra.transpose(2, 1, 0)), N_FFT)
    return waves[..., TAPS - 1 : TAPS - 1 + size]


def _energy(blocks: np.ndarray) -> np.ndarray:
    return np.einsum("brn,brn->br", blocks, blocks)


def silent(signal: np.ndarray) -> bool:
    """Whether a source of `[source, channel, n]` is silent; museval asks the sum of channels."""
    return any(not np.sum(source, axis=0, dtype=np.float64).any() for source in signal)


def silent_throughout(signal: Waves) -> np.ndarray:
    """Tell for every source of `[source, channel, samples]` whether it never sounds: `[source]`."""
    found = np.ones(signal.shape[0], bool)
    for start in range(0, signal.shape[-1], 1 << 18):
        part = np.asarray(signal[..., start : start + (1 << 18)])
        found &= ~np.sum(part, axis=1, dtype=np.float64).any(axis=-1)
    return found
