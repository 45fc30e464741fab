"""Spectra of waves of any length, block by block: the frames of the transform of the whole."""

from collections.abc import Iterable, Iterator

import numpy as np

from gensep.representation.magnitude import Spectra
from gensep.representation.stft import stft

FRAMES = 256  # transformed at once


def spectrum_blocks(
    spectra: Spectra, waves: Iterable[np.ndarray], frames: int = FRAMES
) -> Iterator[np.ndarray]:
    """Transform a wave, given as blocks `[..., n]`, to complex spectra `[..., frame, bin]`.

    The blocks that are returned have `frames` frames, the last one perhaps fewer. Together they are
    `spectra.transform` of the whole wave.
    """
    n_fft, hop = spectra.n_fft, spectra.hop_length
    reach = (frames - 1) * hop + n_fft
    scale = np.float32(spectra.n_fft**-0.5 if spectra.unitary else 1)
    buffer = None

    def transformed(piece: np.ndarray) -> np.ndarray:
        return np.asarray(stft(piece, n_fft, hop, center=False, window=spectra.window)) * scale

    for block in _extended(spectra, waves):
        buffer = block if buffer is None else np.concatenate([buffer, block], axis=-1)
        while buffer.shape[-1] >= reach:
            yield transformed(buffer[..., :reach])
            buffer = buffer[..., frames * hop :]
    if buffer is not None and buffer.shape[-1] >= n_fft:
        left = 1 + (buffer.shape[-1] - n_fft) // hop
        missing = reach - buffer.shape[-1]  # one length only, so that one program is compiled
        yield transformed(_pad(buffer, 0, missing))[..., :left, :]


def _extended(spectra: Spectra, waves: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the blocks with what the transform puts before and behind the whole wave."""
    half, samples = spectra.n_fft // 2, 0
    mirrored, start, tail = spectra.padding == "reflect", None, None
    for block in waves:
        samples += block.shape[-1]
        if not mirrored:
            yield block if samples > block.shape[-1] else _pad(block, half, 0)
            continue
        if tail is None:  # the beginning: mirrored once there is enough of it
            start = block if start is None else np.concatenate([start, block], axis=-1)
            if start.shape[-1] <= half:
                continue
            yield np.concatenate([start[..., half:0:-1], start], axis=-1)
            block, tail = start, start[..., :0]
        else:
            yield block
        tail = np.concatenate([tail, block], axis=-1)[..., -half - 1 :]
    if not mirrored:
        last = (spectra.frames(samples) - 1) * spectra.hop_length + half - samples
        yield np.zeros((*block.shape[:-1], last), np.float32)
    elif tail is not None:
        yield tail[..., -2::-1]
    elif start is not None:  # shorter than half a frame: zeros, as the transform has
        start = _pad(start, 0, half + 1 - samples)
        whole = np.pad(start, [(0, 0)] * (start.ndim - 1) + [(half, half)], mode="reflect")
        yield whole[..., : samples + 2 * half]


def _pad(waves: np.ndarray, before: int, after: int) -> np.ndarray:
    return np.pad(waves, [(0, 0)] * (waves.ndim - 1) + [(before, after)])
