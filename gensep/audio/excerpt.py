"""Sound on disk that is read only when it is asked for: a file, or a part of one."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.audio.files import Shape, mid_stream, probe, read_blocks, read_range, samples_of
from gensep.runtime.errors import UserError

MP4_SECONDS = 60  # decoded at once


class Excerpt(NamedTuple):
    """A file, or some seconds of it; of an MP4 one audio stream; perhaps one channel only.

    Start and duration are rounded to whole samples of the file; a duration that passes the end of
    the file stops there.
    """

    path: Path
    start: float = 0.0  # seconds
    duration: float | None = None  # seconds at most; None reads to the end
    stream: int | None = None  # number of the audio stream, for MP4 files only
    channel: int | None = None  # None reads all channels

    def shape(self) -> Shape:
        """Return rate, channels and samples of the excerpt, from the header.

        Raises:
            UserError: if the file cannot be read, has too few channels, or holds nothing of the
                excerpt.
        """
        whole = self._file()
        if self.channel is not None and whole.channels <= self.channel:
            has = f"has {whole.channels} channels where channel {self.channel + 1} holds a source"
            raise UserError(f"{self.path} {has}; check the layout")
        channels = whole.channels if self.channel is None else 1
        there = samples_of(self.path, whole, self.start, self.duration)
        return Shape(whole.rate, channels, len(there))

    def blocks(self) -> Iterator[np.ndarray]:
        """Read float32 blocks `[channels, samples]`.

        Raises:
            UserError: as `shape` does, and if a sample is NaN or infinite.
        """
        return self._blocks(MP4_SECONDS)

    def read(self) -> tuple[np.ndarray, int]:
        """Read the excerpt at once: float32 `[channels, samples]` and the rate in Hz."""
        return np.concatenate(list(self._blocks()), axis=1), self._file().rate

    def span(self, shape: Shape, first: int, count: int) -> np.ndarray:
        """Read float32 `[channels, count]` from sample `first` of the excerpt on.

        `shape` is that of the excerpt, known from before, so that the header is not read again.

        Raises:
            UserError: if the file cannot be read, ends earlier, or holds NaN or Inf.
        """
        if self.stream is not None:
            return self.part(first / shape.rate, count / shape.rate).read()[0]
        start = round(self.start * shape.rate) + first
        blocks = read_range(self.path, shape.rate, range(start, start + count))
        wave = np.concatenate(list(blocks), axis=1)
        return wave if self.channel is None else wave[self.channel : self.channel + 1]

    def mid(self, rate: int) -> Iterator[np.ndarray]:
        """Read the mean of the channels, resampled to `rate` Hz, in float32 blocks `[samples]`."""
        return mid_stream(self.blocks(), self._file().rate, rate)

    def part(self, start: float = 0.0, duration: float | None = None) -> "Excerpt":
        """Return the part of this excerpt from `start` seconds on, for `duration` seconds at most.

        It begins at a whole sample of the excerpt and never passes the end of the excerpt.
        """
        rate = self._file().rate
        skipped = round(start * rate)
        first = round(self.start * rate) + skipped
        ends = [] if duration is None else [round(duration * rate)]
        if self.duration is not None:
            ends.append(round(self.duration * rate) - skipped)
        return self._replace(start=first / rate, duration=min(ends) / rate if ends else None)

    def _file(self) -> Shape:
        """Return rate, channels and samples of the whole file."""
        if self.stream is None:
            return probe(self.path)
        from gensep.audio import stem_mp4

        return stem_mp4.probe(self.path, self.stream)

    def _blocks(self, mp4_seconds: int | None = None) -> Iterator[np.ndarray]:
        if self.stream is None:
            blocks = read_blocks(self.path, self.start, self.duration)
        else:
            blocks = self._mp4_blocks(self.stream, self.shape(), mp4_seconds)
        if self.channel is None:
            return blocks
        self.shape()  # refuses a channel that does not exist
        keep = slice(self.channel, self.channel + 1)
        return (block[keep] for block in blocks)

    def _mp4_blocks(self, stream: int, shape: Shape, seconds: int | None) -> Iterator[np.ndarray]:
        """Decode so many seconds at once, all of them with None.

        A decoder fills bands that were coded as noise from a generator of its own, so the two
        differ there.
        """
        from gensep.audio import stem_mp4

        first, step = round(self.start * shape.rate), (seconds or shape.samples) * shape.rate
        for at in range(first, first + shape.samples, step):
            length = min(step, first + shape.samples - at)
            yield stem_mp4.read(self.path, stream, at / shape.rate, length / shape.rate)
