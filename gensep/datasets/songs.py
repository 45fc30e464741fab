"""Songs with their stems on disk, in the layouts of the public data sets and of gensep's commands.

A `Track` is a file, a stream of a `.stem.mp4`, or a channel of a stereo file; nothing is read until
it is asked for. Dot files, pictures and text beside the sound are passed over.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.audio.files import probe, read_blocks
from gensep.runtime.errors import UserError

MP4_SECONDS = 60


class TrackInfo(NamedTuple):
    """What is known of a track before it is read; samples are per channel."""

    rate: int
    channels: int
    samples: int

    def __str__(self) -> str:
        return f"{self.channels} channels of {self.samples} samples at {self.rate} Hz"


class Track(NamedTuple):
    """Sound on disk: a whole file, one audio stream of it (MP4), or one channel of it."""

    path: Path
    stream: int | None = None
    channel: int | None = None

    def info(self) -> TrackInfo:
        """Give rate in Hz, channels and samples from the header."""
        if self.stream is not None:
            from gensep.audio import stem_mp4

            return TrackInfo(*stem_mp4.probe(self.path, self.stream))
        info = probe(self.path)
        if self.channel is None:
            return TrackInfo(info.rate, info.channels, info.samples)
        if info.channels <= self.channel:
            raise UserError(
                f"{self.path} has {info.channels} channels where channel "
                f"{self.channel + 1} holds a source; check the layout"
            )
        return TrackInfo(info.rate, 1, info.samples)

    def read(self, start: float = 0.0, duration: float | None = None) -> tuple[np.ndarray, int]:
        """Read from `start` seconds on: float32 `[channels, samples]` and the rate in Hz."""
        info = self.info()
        if self.stream is not None:
            from gensep.audio import stem_mp4

            return stem_mp4.read(self.path, self.stream, start, duration), info.rate
        blocks = read_blocks(self.path, start, duration)
        keep = slice(None) if self.channel is None else slice(self.channel, self.channel + 1)
        return np.concatenate([block[keep] for block in blocks], axis=1), info.rate

    def blocks(self) -> Iterator[np.ndarray]:
        """Read the whole track in float32 blocks `[channels, n]`."""
        if self.stream is not None:
            from gensep.audio import stem_mp4

            rate, _, samples = self.info()
            step = MP4_SECONDS * rate  # whole seconds, so that the blocks fit exactly
            for start in range(0, samples, step):
                yield stem_mp4.read(self.path, self.stream, start / rate, MP4_SECONDS)
            return
        keep = slice(None) if self.channel is None else slice(self.channel, self.channel + 1)
        for block in read_blocks(self.path):
            yield block[keep]


class Song(NamedTuple):
    """A piece with its stems, sorted by name; without a mixture their sum is the mixture."""

    name: str
    mixture: Track | None
    stems: dict[str, Track]
    split: str = ""  # the folder between the root and the song: train, test, Dev, ...

    def read_mixture(
        self, start: float = 0.0, duration: float | None = None
    ) -> tuple[np.ndarray, int]:
        """Read the mixture, or add up the stems: float32 `[channels, samples]` and the rate."""
        if self.mixture is not None:
            return self.mixture.read(start, duration)
        stems, rate = self.read_stems(start, duration)
        return np.sum(list(stems.values()), axis=0), rate

    def mixture_blocks(self) -> Iterator[np.ndarray]:
        """Read the whole mixture, or the sum of the stems, in float32 blocks `[channels, n]`."""
        if self.mixture is not None:
            return self.mixture.blocks()
        together = zip(*(track.blocks() for track in self.stems.values()), strict=True)
        return (np.sum(blocks, axis=0) for blocks in together)

    def read_stems(
        self, start: float = 0.0, duration: float | None = None
    ) -> tuple[dict[str, np.ndarray], int]:
        """Read the stems: name -> float32 `[channels, samples]`, all of one shape, and the rate.

        Raises:
            UserError: where stems differ in rate, channels or length.
        """
        rate = self.info().rate
        waves = {name: track.read(start, duration)[0] for name, track in self.stems.items()}
        return waves, rate

    def info(self) -> TrackInfo:
        """Give what is true of every stem.

        Raises:
            UserError: where stems differ in rate, channels or length.
        """
        first, *rest = infos = {name: track.info() for name, track in self.stems.items()}
        for name in rest:
            if infos[name] != infos[first]:
                raise UserError(
                    f"{self.name}: {first} has {infos[first]}, {name} {infos[name]}; "
                    "make the stems alike"
                )
        return infos[first]
