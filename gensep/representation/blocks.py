"""Spectra of waves of any length and their inverse, block by block, as transforms of the whole."""

from collections.abc import Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gensep.representation.magnitude import Spectra
from gensep.representation.stft import WINDOWS, overlap_add, stft

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


def wave_blocks(
    spectra: Spectra, blocks: Iterable[np.ndarray], samples: int
) -> Iterator[np.ndarray]:
    """Return the wave of complex spectra `[..., frame, bin]`, given as blocks of frames.

    The blocks `[..., n]` together are `spectra.waves` of all frames, of so many samples.
    """
    n_fft, hop = spectra.n_fft, spectra.hop_length
    scale = np.float32(spectra.n_fft**0.5 if spectra.unitary else 1)
    window = WINDOWS[spectra.window](n_fft).astype(np.float32)
    rest = weight = np.zeros(n_fft - hop, np.float32)  # of the wave, which later frames add to
    skipped, given = n_fft // 2, 0
    for block in blocks:
        ready = block.shape[-2] * hop
        wave = np.array(_overlapped(block * scale, hop, spectra.window))
        wave[..., : n_fft - hop] += rest
        reached = np.zeros(wave.shape[-1], np.float32)
        for at in range(0, ready, hop):
            reached[at : at + n_fft] += window**2
        reached[: n_fft - hop] += weight
        rest, weight = wave[..., ready:], reached[ready:]
        out = _divided(wave[..., :ready], reached[:ready])[..., skipped:][..., : samples - given]
        skipped, given = max(0, skipped - ready), given + out.shape[-1]
        if out.shape[-1]:
            yield out
    last = _divided(rest, weight)[..., skipped:][..., : samples - given]
    if missing := samples - given:
        yield _pad(last, 0, missing - last.shape[-1])


class FrameBuffer:
    """Frames `[..., frame, bin]` that are made only when they are asked for, in order."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks, self._first = iter(blocks), 0
        self._held: np.ndarray | None = None

    def take(self, start: int, stop: int) -> np.ndarray:
        """Return frames `start` to `stop`, fewer where there are no more; forget those before.

        Raises:
            ValueError: if frame `start` is forgotten, or there never was a frame.
        """
        held = self._held
        while held is None or self._first + held.shape[-2] < stop:
            block = next(self._blocks, None)
            if block is None:
                break
            held = block if held is None else np.concatenate([held, block], axis=-2)
        if held is None or start < self._first:
            raise ValueError(f"frames from {start} on are no longer there")
        self._held, self._first = held[..., start - self._first :, :], start
        return self._held[..., : stop - start, :]


@partial(jax.jit, static_argnames=("hop_length", "window"))
def _overlapped(spectra: jax.Array, hop_length: int, window: str) -> jax.Array:
    """Overlap and add the windowed frames of complex spectra `[..., frame, bin]`."""
    n_fft = 2 * (spectra.shape[-1] - 1)
    shape = jnp.asarray(WINDOWS[window](n_fft).astype(np.float32))
    frames = jnp.fft.irfft(spectra, n_fft)
    return overlap_add(frames * jnp.expand_dims(shape, range(frames.ndim - 1)), hop_length)


def _divided(wave: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Divide by the sum of squared windows; samples that no frame reaches are 0."""
    reached = weight > 1e-10
    return np.where(reached, wave / np.where(reached, weight, 1), 0).astype(np.float32)


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
