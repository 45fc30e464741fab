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

# "data : 176400 (should be 88178)": what libsndfile notes on a wav, aiff, au or w64 cut short
_CUT = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


class AudioInfo(NamedTuple):
    """What a file's header says; samples are per channel."""

    path: Path
    rate: int
    channels: int
    samples: int
    format: str
    subtype: str


def probe(path: str | os.PathLike) -> AudioInfo:
    """Read the header of an audio file; refuse what is missing, empty, cut short or no audio."""
    path = Path(path)
    with _open(path) as file:
        info = AudioInfo(
            path, file.samplerate, file.channels, file.frames, file.format, file.subtype
        )
        if info.samples == 0:
            raise UserError(f"{path} is empty: it holds 0 samples; give a file with sound")
        for stated, there in _CUT.findall(file.extra_info):
            # 2 GB and more is what programs state that write to a pipe
            if int(there) + 1 < int(stated) < 0x7FFF0000:
                raise UserError(
                    f"{path} is cut short: {there} of {stated} bytes are there; copy it again"
                )
        try:
            file.seek(info.samples - 1)
            whole = len(file.read(1)) == 1
        except soundfile.SoundFileError:
            whole = False
    if not whole:
        raise UserError(
            f"{path} is cut short or damaged: its last sample cannot be read; copy it again"
        )
    return info


def read_blocks(
    path: str | os.PathLike,
    start_s: float = 0.0,
    duration_s: float | None = None,
    block: int = BLOCK,
) -> Iterator[np.ndarray]:
    """Read from `start_s` seconds on, in float32 `[channels, n]`, n <= block; refuse NaN and Inf.

    A duration that passes the end stops there; a start behind the end is refused.
    """
    info = probe(path)
    start = round(start_s * info.rate)
    if not 0 <= start < info.samples:
        raise UserError(
            f"{path} lasts {info.samples / info.rate:.3f} s; it cannot be read from {start_s} s on"
        )
    left = info.samples - start
    if duration_s is not None:
        left = min(left, round(duration_s * info.rate))
        if left < 1:
            raise UserError(f"a duration of {duration_s} s of {path} holds no sample; take more")
    return _blocks(info, start, left, block)


def read(
    path: str | os.PathLike, start_s: float = 0.0, duration_s: float | None = None
) -> tuple[np.ndarray, int]:
    """Read a file or a part of it at once: float32 `[channels, n]` and its rate in Hz."""
    rate = probe(path).rate
    return np.concatenate(list(read_blocks(path, start_s, duration_s)), axis=1), rate


def mid_stream(blocks: Iterable[np.ndarray], rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Average the channels and resample: `[channels, n]` blocks -> float32 `[n]` blocks.

    n samples give round(n to_rate / rate) in all.
    """
    mids = (np.asarray(block, np.float32).mean(axis=0) for block in blocks)
    if rate == to_rate:
        yield from mids
        return
    stream = soxr.ResampleStream(rate, to_rate, 1, dtype="float32")
    taken = given = 0
    for mid in mids:
        taken += len(mid)
        out = stream.resample_chunk(mid)
        given += len(out)
        yield out
    rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    missing = round(taken * to_rate / rate) - given
    yield np.pad(rest[:missing], (0, max(0, missing - len(rest))))


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
        raise UserError(
            f"{path} is no audio that can be read ({_reason(error)}); convert it to wav or flac"
        ) from None


def _blocks(info: AudioInfo, start: int, left: int, block: int) -> Iterator[np.ndarray]:
    with _open(info.path) as file:
        file.seek(start)
        while left:
            try:
                part = file.read(min(block, left), dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise UserError(
                    f"{info.path} is damaged at {start / info.rate:.3f} s "
                    f"({_reason(error)}); copy it again"
                ) from None
            if not len(part):
                raise UserError(
                    f"{info.path} ends at {start / info.rate:.3f} s though its header "
                    "tells of more; copy it again"
                )
            bad = ~np.isfinite(part).all(axis=1)
            if bad.any():
                raise UserError(
                    f"{info.path} holds NaN or Inf at "
                    f"{(start + bad.argmax()) / info.rate:.3f} s; write it again"
                )
            start, left = start + len(part), left - len(part)
            yield np.ascontiguousarray(part.T)


def _reason(error: Exception) -> str:
    return (getattr(error, "error_string", None) or str(error)).strip().rstrip(".")
