"""Segments of songs of frames, shuffled within blocks that fit in memory."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np


def step_of(context: int, overlap: int) -> int:
    """Return the frames from one segment of `context` frames to the next; at least one.

    An overlap that is not shorter than a segment becomes half a segment, as in DeepConvSep.
    """
    return context - (overlap if overlap < context else context // 2)


def starts(frames: int, context: int, overlap: int, *, padded: bool = False) -> range:
    """Return the first frames of the segments of a song.

    As in DeepConvSep, segments are taken while one ends before the last frame, so that the tail is
    left out; a song that has none is one segment, to be filled up. With `padded`, segments go on
    until they hold every frame.
    """
    step = step_of(context, overlap)
    if padded:
        return range(0, step * (1 + -(-max(0, frames - context) // step)), step)
    return range(0, max(1, frames - context), step)


def announced(frames: int, context: int, overlap: int) -> int:
    """Return how many segments DeepConvSep allots to a song before it cuts it."""
    return max(1, (frames + frames // context * overlap) // context)


class Span(NamedTuple):
    """Successive frames of one song, from `first` up to `stop`."""

    song: int
    first: int
    stop: int


class Segments:
    """All segments of some songs, by number, in the order of the songs."""

    def __init__(
        self, frames: Sequence[int], context: int, overlap: int, *, padded: bool = False
    ) -> None:
        """Take the frames of every song, and the frames of a segment and what they share."""
        self.context, self.step = context, step_of(context, overlap)
        counts = [len(starts(each, context, overlap, padded=padded)) for each in frames]
        self._first = np.r_[0, np.cumsum(counts)]  # segment of each song

    def __len__(self) -> int:
        return int(self._first[-1])

    def of(self, number: int) -> tuple[int, int]:
        """Return song and first frame of a segment."""
        song = int(np.searchsorted(self._first, number, side="right")) - 1
        return song, int(number - self._first[song]) * self.step

    def spans(self, first: int, stop: int) -> list[Span]:
        """Return which frames the segments from `first` up to `stop` consist of, by song."""
        found = []
        for song in range(self.of(first)[0], self.of(stop - 1)[0] + 1):
            begin = max(first, self._first[song]) - self._first[song]
            last = min(stop, self._first[song + 1]) - self._first[song] - 1
            if last >= begin:
                start, end = int(begin) * self.step, int(last) * self.step + self.context
                found.append(Span(song, start, end))
        return found

    def costs(self) -> np.ndarray:
        """Return the frames that every segment adds to those of the segments before it."""
        costs = np.full(len(self), self.step)
        costs[self._first[:-1]] = self.context
        return costs


class Plan(NamedTuple):
    """Which segments every batch of a training holds."""

    blocks: np.ndarray  # first segments of the blocks, and the number of all segments
    size: int  # of a batch

    def at(self, seed: int, step: int) -> tuple[int, np.ndarray]:
        """Return the block of a batch and the numbers of its segments.

        An epoch takes the blocks in random order, and the segments of each in random order; those
        that make no whole batch are left out.
        """
        batches = np.maximum(np.diff(self.blocks) // self.size, len(self.blocks) == 2)
        epoch, turn = divmod(step, int(batches.sum()))
        order = np.random.default_rng((seed, epoch)).permutation(len(batches))
        until = np.cumsum(batches[order])
        place = int(np.searchsorted(until, turn, side="right"))
        block = int(order[place])
        turn -= int(until[place] - batches[block])
        first, stop = self.blocks[block : block + 2]
        shuffled = np.random.default_rng((seed, epoch, block)).permutation(np.arange(first, stop))
        # fewer segments than a batch has: some of them twice
        return block, np.resize(shuffled[turn * self.size :], self.size)


def plan(segments: Segments, size: int, frames: int) -> Plan:
    """Divide segments into blocks of whole batches that hold at most `frames` frames.

    A block has at least one batch, and the last one what is left.
    """
    total = np.r_[0, np.cumsum(segments.costs())]
    blocks, spare = [0], segments.context - segments.step  # a block may begin within a song
    while len(segments) - blocks[-1] >= 2 * size:
        first = blocks[-1]
        fitting = int(np.searchsorted(total, total[first] + frames - spare, side="right")) - 1
        following = first + max(1, (fitting - first) // size) * size
        if following > len(segments) - size:
            break
        blocks.append(following)
    return Plan(np.array([*blocks, len(segments)]), size)


cached_plan = lru_cache(maxsize=4)(plan)
