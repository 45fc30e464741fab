"""A network over the frames of a whole file, part by part, with one compiled program."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from gensep.representation.blocks import FrameBuffer

BATCH = 32  # windows that a network of fixed length is given at once

# `[batch, plane, frame, bin]` -> `[batch, ..., frame, bin]`
Network = Callable[[np.ndarray], np.ndarray]
# the same, with the states that it stopped in, None at first -> the same, and the next states
Stream = Callable[[np.ndarray, Any], tuple[np.ndarray, Any]]


class Span(NamedTuple):
    """What a network reads at once and what of it is kept, in frames of the file."""

    read: int  # first frame that is read; `length` of them are, or all there are
    start: int  # first frame that is kept
    stop: int


def spans(total: int, length: int, context: int = 0, overlap: int = 0) -> list[Span]:
    """Cut `total` frames into spans of which the network reads `length` frames each.

    At least `context` frames are read on either side of what is kept, save at the ends of the file,
    and neighbours keep `overlap` frames in common. The last span reads as many frames as the
    others, so that one program serves all; a file that is shorter is one span.
    """
    step = length - 2 * context - overlap
    if step < 1:
        raise ValueError(f"{length} frames leave nothing between twice {context} and {overlap}")
    found, at = [], 0
    while True:
        stop = min(at + step + overlap, total)
        if total <= length:
            return [Span(0, 0, total)]
        found.append(Span(min(max(0, at - context), total - length), at, stop))
        if stop == total:
            return found
        at += step


def over_spans(
    network: Network, frames: FrameBuffer, total: int, length: int, context: int, overlap: int
) -> Iterator[np.ndarray]:
    """Apply a network of any length to `[plane, frame, bin]`, span by span (see `spans`).

    Yields blocks `[..., frame, bin]`, cross-faded linearly where they overlap. They equal what the
    network makes of the whole file if no frame of it depends on frames further than `context`.
    """

    def parts() -> Iterator[np.ndarray]:
        for span in spans(total, length, context, overlap):
            seen = frames.take(span.read, min(span.read + length, total))
            kept = slice(span.start - span.read, span.stop - span.read)
            yield network(seen[None])[0][..., kept, :]

    return cross_fade(parts(), overlap)


def over_windows(
    network: Network, frames: FrameBuffer, total: int, length: int, overlap: int
) -> Iterator[np.ndarray]:
    """Apply a network of a fixed number of frames to `[plane, frame, bin]`, in windows.

    Yields blocks `[..., frame, bin]`, cross-faded linearly one after the other, as the published
    programs do. The last window is filled up with zeros.
    """
    step = length - overlap
    starts = range(0, max(1, total - overlap), step)

    def parts() -> Iterator[np.ndarray]:
        for at in range(0, len(starts), BATCH):
            some = starts[at : at + BATCH]
            seen = frames.take(some[0], some[-1] + length)
            fill = (BATCH - 1) * step + length - seen.shape[-2]
            seen = np.pad(seen, ((0, 0), (0, fill), (0, 0)))
            windows = np.stack([seen[:, i * step : i * step + length] for i in range(BATCH)])
            estimates = network(windows)
            for start, estimate in zip(some, estimates[: len(some)], strict=True):
                yield estimate[..., : total - start, :]

    return cross_fade(parts(), overlap)


def over_stream(
    network: Stream, frames: FrameBuffer, total: int, length: int
) -> Iterator[np.ndarray]:
    """Apply a network that looks only backwards to `[plane, frame, bin]`, `length` frames at once.

    Its states go from part to part, so the blocks are what it makes of the whole file. The last
    part is filled up with zeros, so that one program serves all.
    """
    states = None
    for at in range(0, total, length):
        seen = frames.take(at, min(at + length, total))
        fill = min(length, total) - seen.shape[-2]
        estimates, states = network(np.pad(seen, ((0, 0), (0, fill), (0, 0)))[None], states)
        yield estimates[0][..., : seen.shape[-2], :]


def cross_fade(parts: Iterable[np.ndarray], overlap: int) -> Iterator[np.ndarray]:
    """Join parts `[..., frame, bin]`, each of which begins `overlap` frames before the last ends.

    Where they overlap, the weight of the new one rises linearly from 0 to 1.
    """
    rise = np.linspace(0, 1, overlap, dtype=np.float32)[:, None]
    tail: np.ndarray | None = None
    for part in parts:
        if tail is not None and overlap:
            common = tail * (1 - rise) + part[..., :overlap, :] * rise
            part = np.concatenate([common, part[..., overlap:, :]], axis=-2)
        ready = max(0, part.shape[-2] - overlap)
        if ready:
            yield part[..., :ready, :]
        tail = part[..., ready:, :]
    if tail is not None and tail.shape[-2]:
        yield tail
