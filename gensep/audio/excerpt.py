"""Sound on disk that is read only when it is asked for: a file, or a part of one."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.audio.files import mid_stream, probe, read_blocks
from gensep.runtime.errors import UserError

MP4_SECONDS = 60


class Shape(NamedTuple):
    """Rate in Hz, channels, and samples per channel."""

    rate: int
    channels: int
    samples: int

    def __str__(self) -> str:
        return f"{self.channels} channels of {self.samples} samples at {self.rate} Hz"


class Excerpt(NamedTuple):
    """A file, or some seconds of it, one audio stream (MP4) of it, or one channel of it."""

    path: Path
    start: float = 0.0  # seconds
    duration: float | None = None  # seconds at most; None reads to the end
    stream: int | None = None
    channel: int | None = None

    def shape(self) -> Shape:
        """Return rate, channels and samples of the excerpt, from the header.

        Raises:
            UserError: if the file cannot be read, or has too few channels.
        """
        rate, channels, samples = self._file()
        if self.channel is not None:
            if channels <= self.channel:
                raise UserError(
                    f"{self.path} has {channels} channels where channel {self.channel + 1} holds "
                    "a source; check the layout"
                )
            channels = 1
        left = samples - round(self.start * rate)
        if self.duration is not None:
            left = min(left, round(self.duration * rate))
        return Shape(rate, channels, left)

    def blocks(self) -> Iterator[np.ndarray]:
        """Read float32 blocks `[channels, samples]`.

        Raises:
            UserError: if the file cannot be read, or holds nothing of the excerpt.
        """
        if self.stream is not None:
            return self._mp4_blocks()
        blocks = read_blocks(self.path, self.start, self.duration)
        if self.channel is None:
            return blocks
        keep = slice(self.channel, self.channel + 1)
        return (block[keep] for block in blocks)

    def read(self) -> tuple[np.ndarray, int]:
        """Read the excerpt at once: float32 `[channels, samples]` and the rate in Hz."""
        rate = self.shape().rate
        return np.concatenate(list(self.blocks()), axis=1), rate

    def mid(self, rate: int) -> Iterator[np.ndarray]:
        """Read the mean of the channels, resampled to `rate` Hz, in float32 blocks `[samples]`."""
        return mid_stream(self.blocks(), self._file().rate, rate)

    def part(self, start: float, duration: float | None = None) -> "Excerpt":
        """Return the part of this excerpt from `start` seconds on, for `duration` seconds at most.

        The part begins at a whole sample of the excerpt.
        """
        if not start:
            begin = self.start
        else:
            rate = self._file().rate
            begin = (round(self.start * rate) + round(start * rate)) / rate
        known = [x for x in (duration, self.duration and self.duration - start) if x is not None]
        return self._replace(start=begin, duration=min(known) if known else None)

    def _file(self) -> Shape:
        """Return rate, channels and samples of the whole file."""
        if self.stream is not None:
            from gensep.audio import stem_mp4

            return Shape(*stem_mp4.probe(self.path, self.stream))
        info = probe(self.path)
        return Shape(info.rate, info.channels, info.samples)

    def _mp4_blocks(self) -> Iterator[np.ndarray]:
        from gensep.audio import stem_mp4

        assert self.stream is not None
        rate, _, samples = self.shape()
        first = round(self.start * rate)
        for at in range(first, first + samples, MP4_SECONDS * rate):  # whole seconds fit exactly
            seconds = min(MP4_SECONDS, (first + samples - at) / rate)
            yield stem_mp4.read(self.path, self.stream, at / rate, seconds)
