"""One audio stream of an MP4 file (Native Instruments' stems, MUSDB18) through PyAV, no ffmpeg."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gensep.runtime.errors import UserError

PRE_ROLL = 0.2  # seconds: AAC needs the frames before the one that a seek lands on


def probe(path: Path, stream: int) -> tuple[int, int, int]:
    """Give rate in Hz, channels and samples of the audio stream with this number."""
    with _open(path, stream) as (_, found):
        samples = round(float(found.duration * found.time_base) * found.rate)
        return found.rate, found.codec_context.channels, samples


def read(path: Path, stream: int, start_s: float, duration_s: float | None) -> np.ndarray:
    """Decode from `start_s` seconds on: float32 `[channels, samples]`, full scale 1.

    A duration that passes the end stops there; what the decoder gives beyond it is dropped.
    """
    rate, channels, samples = probe(path, stream)
    start = round(start_s * rate)
    stop = samples if duration_s is None else min(samples, start + round(duration_s * rate))
    if not 0 <= start < stop:
        raise UserError(
            f"{path} lasts {samples / rate:.3f} s; it cannot be read from {start_s} s "
            f"on for {duration_s} s"
        )
    wave = np.zeros((channels, stop - start), np.float32)
    with _open(path, stream) as (container, found):
        begin = max(0.0, start_s - PRE_ROLL)
        if begin:
            container.seek(int(begin / found.time_base), stream=found, backward=True)
        for frame in container.decode(found):
            first = round(float(frame.pts * found.time_base) * rate) - start
            if first >= wave.shape[1]:
                break
            part = _planar(frame, channels)[:, max(0, -first) :]
            at = max(0, first)
            wave[:, at : at + part.shape[1]] = part[:, : wave.shape[1] - at]
    if not np.isfinite(wave).all():
        raise UserError(f"stream {stream} of {path} holds NaN or Inf; write it again")
    return wave


@contextmanager
def _open(path: Path, stream: int) -> Iterator[tuple[Any, Any]]:
    """Open a file and find the stream; refuse what cannot be decoded in one line."""
    try:
        import av
    except ModuleNotFoundError:
        raise UserError(
            f"{path} needs PyAV to be read: pip install av, or gensep with the extra [stems]"
        ) from None
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the name")
    try:
        with av.open(str(path)) as container:
            streams = container.streams.audio
            if stream >= len(streams):
                raise UserError(
                    f"{path} has {len(streams)} audio streams, not {stream + 1}; give a stems file"
                )
            yield container, streams[stream]
    except av.FFmpegError as error:
        raise UserError(f"{path} cannot be decoded ({error.strerror}); copy it again") from None


def _planar(frame: Any, channels: int) -> np.ndarray:
    """Give a frame as float32 `[channels, n]`."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T
    if samples.dtype.kind == "i":
        samples = samples / np.float32(-float(np.iinfo(samples.dtype).min))
    return samples.astype(np.float32, copy=False)
