"""Separators applied to files of any length, rate and number of channels, at constant memory.

The network hears the mixture at its own rate and in its own channels. Its estimates, and the
magnitudes that they are estimates for, are interpolated at the frames and bins of a transform at
the rate of the file, where their ratios filter every channel of the mixture. So the stems are never
resampled, and keep the frequencies that the network does not hear: there the ratios are those of
the highest eighth of its bins. At the network's own rate both transforms are one, and nothing is
interpolated.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import tee
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gensep.audio.files import Shape, resampled
from gensep.inversion.em import WINDOW, stems_of
from gensep.inversion.masking import native_n_fft
from gensep.representation.blocks import FrameBuffer, spectrum_blocks, wave_blocks
from gensep.representation.magnitude import Spectra
from gensep.separators.family import Separator, Streaming
from gensep.separators.files import LoadedSeparator
from gensep.separators.windows import over_spans, over_stream, over_windows

SECONDS = 30.0  # that a network of any length sees at once
FADE = 16  # frames over which what it makes of neighbouring parts is cross-faded
SILENT = 1e-20  # magnitudes below have no ratio

Blocks = Iterable[np.ndarray]  # a wave in parts `[channels, n]`
# (first frame, number of frames) -> which share of the mixture may be each source's by its score,
# `[source, frame, bin]`
ScoreMasks = Callable[[int, int], np.ndarray]


class Filtering(NamedTuple):
    """How estimates of magnitudes become stems, see `gensep.inversion.em.stems_of`."""

    niter: int = 0  # iterations of EM
    softmask: bool = False
    residual: bool = False  # what the estimates leave of the mixture takes part in EM


def separate_blocks(
    separator: LoadedSeparator,
    mixture: Callable[[], Blocks],
    shape: Shape,
    how: Filtering = Filtering(),  # noqa: B008, immutable
    score: ScoreMasks | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    seconds: float = SECONDS,
) -> Iterator[np.ndarray]:
    """Separate a mixture; yield stems `[source, channel, n]` in blocks, as long as it in total.

    A network of one channel hears the mean of the channels, and its ratios filter all of them. A
    network of several channels hears a mixture of as many as it is, any other one as the mean of
    its channels in every channel of the network.

    Args:
        separator: any but a mel mask, which is applied like the masks of priors.
        mixture: gives float32 blocks `[channel, n]`; called twice where the rates or channels of
            the mixture and the network differ.
        shape: of the mixture.
        how: the estimates become stems.
        score: masks for networks that are informed by scores.
        progress: called with frames done and frames in all.
        seconds: that a network of any length sees at once.
    """
    spectra, rate = separator.spectra, shape.rate
    own = native_spectra(spectra, rate)
    heard = spectrum_blocks(spectra, _heard(mixture(), spectra, rate), WINDOW)
    alike = own == spectra and shape.channels == spectra.channels
    if alike:
        heard, mixed = tee(heard)
    else:
        mixed = spectrum_blocks(own, mixture(), WINDOW)
    samples = max(1, round(shape.samples * spectra.sample_rate / rate))
    total, whole = spectra.frames(samples), own.frames(shape.samples)
    found = _estimates(separator, heard, total, score, seconds)
    loud = own.n_fft**0.5 if own.unitary else 1.0  # EM has constants for spectra that are not
    parts = FrameBuffer(_in_channels(block, shape.channels) for block in found)
    grid = _Grid(spectra, own, total, alike=alike)

    residual = how.residual and how.niter > 0

    def filtered() -> Iterator[np.ndarray]:
        at = 0
        for block in mixed:
            frames = block.shape[-2]
            full = np.pad(block, ((0, 0), (0, WINDOW - frames), (0, 0)))
            estimates = grid.estimates(parts, at, np.abs(full), equal=separator.family.sums)
            asked = {"iterations": how.niter, "softmask": how.softmask, "residual": residual}
            stems = stems_of(estimates * loud, full * loud, **asked) / loud
            yield np.asarray(stems)[: len(separator.sources), :, :frames]
            at += frames
            progress(at, whole)

    return wave_blocks(own, filtered(), shape.samples)


def native_spectra(spectra: Spectra, rate: int) -> Spectra:
    """Return the transform for a file at `rate`: frames of about the same length in seconds."""
    if rate == spectra.sample_rate:
        return spectra
    n_fft = native_n_fft(spectra, rate)
    return replace(spectra, sample_rate=rate, n_fft=n_fft, hop_length=n_fft // 4)


def _heard(blocks: Blocks, spectra: Spectra, rate: int) -> Iterator[np.ndarray]:
    """Return the wave that the network hears, in blocks that are not empty."""

    def planes() -> Iterator[np.ndarray]:
        for block in blocks:
            if len(block) != spectra.channels:
                block = np.repeat(block.mean(0, keepdims=True), spectra.channels, axis=0)
            yield block

    empty = True
    for block in resampled(planes(), rate, spectra.sample_rate):
        if block.shape[1]:
            empty = False
            yield block
    if empty:  # less than half a sample of the network
        yield np.zeros((spectra.channels, 1), np.float32)


def _estimates(
    separator: LoadedSeparator,
    heard: Iterable[np.ndarray],
    total: int,
    score: ScoreMasks | None,
    seconds: float,
) -> Iterator[np.ndarray]:
    """Yield estimates, and after the last source what they are shares of, frame after frame.

    The blocks are `[source + 1, channel, frame, bin]`.
    """
    family, spectra, settings = separator.family, separator.spectra, separator.settings
    run = partial(_run, separator.network, family.scored)

    def network(planes: np.ndarray) -> np.ndarray:
        return np.asarray(run(jnp.asarray(planes)))

    def stream(planes: np.ndarray, states: Any) -> tuple[np.ndarray, Any]:
        found, states = _stream(separator.network, states, jnp.asarray(planes))
        return np.asarray(found), states

    planes = FrameBuffer(_planes(heard, score))
    if frames := settings.get("frames", family.frames):
        return over_windows(network, planes, total, frames, min(family.overlap, frames - 1))
    wanted = round(seconds * spectra.sample_rate / spectra.hop_length)
    if isinstance(separator.network, Streaming) and separator.network.streams:
        return over_stream(stream, planes, total, max(wanted, 1))
    length = max(wanted, 2 * family.context + 2 * FADE)
    return over_spans(network, planes, total, length, family.context, FADE)


def _planes(heard: Iterable[np.ndarray], score: ScoreMasks | None) -> Iterator[np.ndarray]:
    """Yield the magnitudes that the network is given, `[plane, frame, bin]`."""
    at = 0
    for block in heard:
        magnitudes = np.abs(block)
        yield magnitudes if score is None else score(at, block.shape[-2]) * magnitudes
        at += block.shape[-2]


@partial(jax.jit, static_argnums=1)
def _run(network: Separator, scored: bool, planes: jax.Array) -> jax.Array:  # noqa: FBT001
    """Return estimates and the mixture `[batch, source + 1, channel, frame, bin]`."""
    return _beside(network(planes), planes.sum(1, keepdims=True) if scored else planes)


@jax.jit
def _stream(network: Streaming, states: Any, planes: jax.Array) -> tuple[jax.Array, Any]:
    """Return estimates and the mixture, and the states in which the network stops."""
    estimates, states = network.stream(planes, states)
    return _beside(estimates, planes), states


def _beside(estimates: jax.Array, mixture: jax.Array) -> jax.Array:
    """Put the mixture behind the estimates, both with the channels that they have in common."""
    if mixture.shape[1] != estimates.shape[2]:
        mixture = mixture.mean(1, keepdims=True)
        estimates = estimates.mean(2, keepdims=True)
    return jnp.concatenate([estimates, mixture[:, None]], 1)


def _in_channels(parts: np.ndarray, channels: int) -> np.ndarray:
    """Return `[source + 1, channel, ...]` for a file of so many channels: as they are, or 1."""
    return parts if parts.shape[1] == channels else parts.mean(1, keepdims=True)


class _Grid:
    """Where the frames and bins of the transform of a file lie in that of the network."""

    def __init__(self, heard: Spectra, own: Spectra, total: int, *, alike: bool) -> None:
        """Relate them; `alike` if both transforms and their channels are the same."""
        self.alike, self.last = alike, total - 1
        self.pace = own.hop_length / own.sample_rate * heard.sample_rate / heard.hop_length
        place = np.arange(own.bins) * (own.sample_rate / own.n_fft)
        place = place * (heard.n_fft / heard.sample_rate)
        above, low = place > heard.bins - 1, np.minimum(place.astype(int), heard.bins - 2)
        # one more bin, behind the last, stands for all that the network does not hear
        self.low = np.where(above, heard.bins, low)
        self.high = np.where(above, heard.bins, low + 1)
        self.part = np.where(above, 0, place - low).astype(np.float32)

    def estimates(
        self, parts: FrameBuffer, first: int, mixture: np.ndarray, *, equal: bool
    ) -> jax.Array:
        """Return estimates `[source, channel, frame, bin]` for frames of the file from `first` on.

        `mixture` are its magnitudes `[channel, frame, bin]`. Where the network heard nothing, the
        sources have equal shares with `equal`, or none.
        """
        count = mixture.shape[-2]
        if self.alike:
            found = parts.take(first, first + count)
            fill = count - found.shape[-2]
            return jnp.asarray(np.pad(found[:-1], ((0, 0), (0, 0), (0, fill), (0, 0))))
        place = np.minimum((first + np.arange(count)) * self.pace, self.last)
        start = int(place[0])
        found = parts.take(start, math.ceil(place[-1]) + 1)
        low = place.astype(int)
        high = np.minimum(low + 1, self.last) - start
        part = (place - low).astype(np.float32)[:, None]
        low = np.minimum(low - start, found.shape[-2] - 1)
        high = np.minimum(high, found.shape[-2] - 1)
        between = found[..., low, :] * (1 - part) + found[..., high, :] * part
        bins = self.low, self.high, self.part
        share = 1 / (len(found) - 1) if equal else 0.0
        return _scaled(between, bins, mixture, share)


@jax.jit
def _scaled(
    parts: jax.Array,
    bins: tuple[jax.Array, jax.Array, jax.Array],
    mixture: jax.Array,
    share: float,
) -> jax.Array:
    """Return the mixture's magnitudes times the ratios of estimates, at interpolated bins."""
    low, high, part = bins
    top = parts[..., -(parts.shape[-1] // 8) - 1 :].mean(-1, keepdims=True)
    parts = jnp.concatenate([parts, top], -1)
    part = part[None, None, None]
    parts = parts[..., low] * (1 - part) + parts[..., high] * part
    heard = parts[-1:]
    silent = heard < SILENT
    return jnp.where(silent, share, parts[:-1] / jnp.where(silent, 1, heard)) * mixture[None]
