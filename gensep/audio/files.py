"""Audio files in and out, in blocks: probing, reading, resampling, writing several stems."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from gensep.runtime.errors import UserError

BLOCK = 1 << 18

# libsndfile's note "data : 176400 (should be 88178)" on a wav, aiff, au or w64 that is cut short
_CUT = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


class Shape(NamedTuple):
    """Rate in Hz, channels, and samples per channel."""

    rate: int
    channels: int
    samples: int

    def __str__(self) -> str:
        return f"{self.channels} channels of {self.samples} samples at {self.rate} Hz"


def probe(path: str | os.PathLike) -> Shape:
    """Read the header of an audio file.

    Raises:
        UserError: if the file is missing, empty, cut short, or no audio.
    """
    with _open(Path(path)) as file:
        shape = Shape(file.samplerate, file.channels, file.frames)
        if shape.samples == 0:
            raise UserError(f"{path} is empty: it holds 0 samples; give a file with sound")
        for stated, there in _CUT.findall(file.extra_info):
            # Programs that write to a pipe cannot know the size and state 2 GB or more.
            if int(there) + 1 < int(stated) < 0x7FFF0000:
                bytes_there = f"{there} of {stated} bytes are there"
                raise UserError(f"{path} is cut short: {bytes_there}; copy it again")
        try:
            file.seek(shape.samples - 1)
            whole = len(file.read(1)) == 1
        except soundfile.SoundFileError:
            whole = False
    if not whole:
        problem = "is cut short or damaged: its last sample cannot be read"
        raise UserError(f"{path} {problem}; copy it again")
    return shape


def samples_of(
    path: str | os.PathLike, shape: Shape, start_s: float, duration_s: float | None
) -> range:
    """Return which samples of a file lie from `start_s` seconds on, for `duration_s` at most.

    Without a duration, or if it passes the end of the file, they stop at its end.

    Raises:
        UserError: if there are none.
    """
    rate, _, samples = shape
    start = round(start_s * rate)
    if not 0 <= start < samples:
        length = f"{samples / rate:.3f} s"
        raise UserError(f"{path} lasts {length}; it cannot be read from {start_s} s on")
    stop = samples if duration_s is None else min(samples, start + round(duration_s * rate))
    if stop <= start:
        raise UserError(f"a duration of {duration_s} s of {path} holds no sample; take more")
    return range(start, stop)


def read_blocks(
    path: str | os.PathLike,
    start_s: float = 0.0,
    duration_s: float | None = None,
    block: int = BLOCK,
) -> Iterator[np.ndarray]:
    """Read a file, or a part of it, in float32 blocks `[channels, n]`, n <= `block`.

    Raises:
        UserError: if the file cannot be read, holds none of these seconds, or holds NaN or Inf.
    """
    shape = probe(path)
    return read_range(path, shape.rate, samples_of(path, shape, start_s, duration_s), block)


def mid_stream(blocks: Iterable[np.ndarray], rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Average the channels and resample blocks `[channels, n]` to float32 blocks `[n]`.

    n samples at `rate` become round(n to_rate / rate) samples at `to_rate`.
    """
    mids = (np.asarray(block, np.float32).mean(axis=0, keepdims=True) for block in blocks)
    return (block[0] for block in resampled(mids, rate, to_rate))


def resampled(blocks: Iterable[np.ndarray], rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Resample float32 blocks `[channels, n]`, all of one number of channels, at constant memory.

    n samples at `rate` become round(n to_rate / rate) samples at `to_rate`.
    """
    if rate == to_rate:
        yield from blocks
        return
    stream: soxr.ResampleStream | None = None
    taken = given = 0
    for block in blocks:
        if stream is None:
            stream = soxr.ResampleStream(rate, to_rate, len(block), dtype="float32")
            end = np.zeros((0, len(block)), np.float32)
        taken += block.shape[1]
        out = stream.resample_chunk(np.ascontiguousarray(block.T)).T
        given += out.shape[1]
        yield out
    if stream is not None:
        rest = stream.resample_chunk(end, last=True).T
        missing = round(taken * to_rate / rate) - given
        yield np.pad(rest[:, :missing], ((0, 0), (0, max(0, missing - rest.shape[1]))))


def _open(path: Path) -> soundfile.SoundFile:
    if path.is_dir():
        raise UserError(f"{path} is a folder; give an audio file")
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the name")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} may not be read; check its permissions")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty: it holds 0 bytes; give a file with sound")
    try:
        return soundfile.SoundFile(path)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: a headerless .raw
        problem = f"is no audio that can be read ({reason(error)})"
        raise UserError(f"{path} {problem}; convert it to wav or flac") from None


def read_range(
    path: str | os.PathLike, rate: int, wanted: range, block: int = BLOCK
) -> Iterator[np.ndarray]:
    """Read these samples of a file, known to have this rate, in blocks as `read_blocks` does."""
    start, left = wanted.start, len(wanted)
    with _open(Path(path)) as file:
        file.seek(start)
        while left:
            try:
                part = file.read(min(block, left), dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                place = f"{start / rate:.3f} s ({reason(error)})"
                raise UserError(f"{path} is damaged at {place}; copy it again") from None
            if not len(part):
                place = f"{start / rate:.3f} s though its header states more"
                raise UserError(f"{path} ends at {place}; copy it again")
            bad = ~np.isfinite(part).all(axis=1)
            if bad.any():
                place = f"{(start + bad.argmax()) / rate:.3f} s"
                raise UserError(f"{path} holds NaN or Inf at {place}; write it again")
            start, left = start + len(part), left - len(part)
            yield np.ascontiguousarray(part.T)


def reason(error: Exception) -> str:
    """Return what libsndfile says about an error, without a full stop."""
    return (getattr(error, "error_string", None) or str(error)).strip().rstrip(".")
