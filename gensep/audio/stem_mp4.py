"""One audio stream of an MP4 file (Native Instruments' stems, MUSDB18) through PyAV, no ffmpeg."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gensep.audio.files import Shape, samples_of
from gensep.runtime.errors import UserError

PRE_ROLL = 0.2  # seconds: AAC needs the frames before the one that a seek lands on


def probe(path: Path, stream: int) -> Shape:
    """Return rate, channels and samples of the audio stream with this number."""
    with _open(path, stream) as (_, found):
        samples = round(float(found.duration * found.time_base) * found.rate)
        return Shape(found.rate, found.codec_context.channels, samples)


def read(path: Path, stream: int, start_s: float, duration_s: float | None) -> np.ndarray:
    """Decode from `start_s` seconds on: float32 `[channels, samples]`, full scale 1.

    A duration that passes the end stops there; samples that the decoder adds behind it are dropped.

    Raises:
        UserError: if the file cannot be decoded, or holds none of these seconds.
    """
    shape = probe(path, stream)
    wanted = samples_of(path, shape, start_s, duration_s)
    wave = np.zeros((shape.channels, len(wanted)), np.float32)
    with _open(path, stream) as (container, found):
        begin = max(0.0, start_s - PRE_ROLL)
        if begin:
            container.seek(int(begin / found.time_base), stream=found, backward=True)
        for frame in container.decode(found):
            first = round(float(frame.pts * found.time_base) * shape.rate) - wanted.start
            if first >= wave.shape[1]:
                break
            part = _planar(frame, shape.channels)[:, max(0, -first) :]
            at = max(0, first)
            wave[:, at : at + part.shape[1]] = part[:, : wave.shape[1] - at]
    if not np.isfinite(wave).all():
        raise UserError(f"stream {stream} of {path} holds NaN or Inf; write it again")
    return wave


@contextmanager
def _open(path: Path, stream: int) -> Iterator[tuple[Any, Any]]:
    """Open a file and find the stream, with decoding errors as one line for the user."""
    try:
        import av
    except ModuleNotFoundError:
        remedy = "pip install av, or gensep with the extra [stems]"
        raise UserError(f"{path} needs PyAV to be read: {remedy}") from None
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the name")
    try:
        with av.open(str(path)) as container:
            streams = container.streams.audio
            if stream >= len(streams):
                has = f"has {len(streams)} audio streams, not {stream + 1}"
                raise UserError(f"{path} {has}; give a stems file")
            yield container, streams[stream]
    except av.FFmpegError as error:
        raise UserError(f"{path} cannot be decoded ({error.strerror}); copy it again") from None


def _planar(frame: Any, channels: int) -> np.ndarray:
    """Return a frame as float32 `[channels, n]`."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T
    if samples.dtype.kind == "i":
        samples = samples / np.float32(-float(np.iinfo(samples.dtype).min))
    return samples.astype(np.float32, copy=False)
