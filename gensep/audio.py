"""Audio files in and out, in blocks: probing, reading, resampling, writing several stems."""

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from gensep.errors import UserError

BLOCK = 1 << 18
DEFAULT_SUBTYPE = {"WAV": "FLOAT", "RF64": "FLOAT", "FLAC": "PCM_24"}
_SAMPLE_BYTES = {"PCM_U8": 1, "PCM_S8": 1, "PCM_16": 2, "PCM_24": 3, "DOUBLE": 8}
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


class StemWriter:
    """Write several stems of equal length at once; all of them appear at the end, or none."""

    def __init__(
        self,
        paths: Sequence[str | os.PathLike],
        rate: int,
        channels: int,
        samples: int,
        subtype: str | None = None,
    ):
        """Check the formats; the format comes from the extension. `samples` is per channel."""
        self.paths = [Path(path) for path in paths]
        self.rate, self.channels, self.samples = rate, channels, samples
        if len(set(self.paths)) < len(self.paths):
            raise UserError(f"two stems have one name: {', '.join(map(str, self.paths))}")
        self._kinds = [_format(path, subtype, channels, samples) for path in self.paths]
        for path, kind in zip(self.paths, self._kinds, strict=True):
            self._open(path, io.BytesIO(), kind).close()
        self._temporary: list[Path] = []
        self._files: list[soundfile.SoundFile] = []
        self._written = [0] * len(self.paths)

    def __enter__(self) -> "StemWriter":
        """Open a temporary file beside each output."""
        try:
            for path, kind in zip(self.paths, self._kinds, strict=True):
                check_writable(path.parent)
                self._temporary.append(path.with_name(f".{path.name}.{os.getpid()}.part"))
                self._files.append(self._open(path, self._temporary[-1], kind))
        except BaseException:
            self._discard()
            raise
        return self

    def _open(
        self, path: Path, target: Path | io.BytesIO, kind: tuple[str, str]
    ) -> soundfile.SoundFile:
        """Open what will be `path`."""
        try:
            return soundfile.SoundFile(
                target, "w", self.rate, self.channels, kind[1], format=kind[0]
            )
        except soundfile.SoundFileError as error:
            raise UserError(
                f"cannot write {path} with {self.channels} channels at {self.rate} Hz "
                f"({_reason(error)}); wav takes any"
            ) from None

    def write(self, stem: int, block: np.ndarray) -> None:
        """Append float `[channels, n]` to a stem; full scale is 1."""
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"expected [{self.channels}, n], got {list(block.shape)}")
        try:
            self._files[stem].write(np.ascontiguousarray(block.T))
        except (soundfile.SoundFileError, AssertionError):  # an assertion when the disk is full
            raise UserError(
                f"cannot write {self.paths[stem]}: the disk may be full; free some "
                "space or choose another folder"
            ) from None
        self._written[stem] += block.shape[1]

    def __exit__(self, kind, error, trace) -> None:
        """Move the stems to their names, or remove what was written where anything failed."""
        try:
            if kind is None:
                for file in self._files:
                    file.close()
                for path, written in zip(self.paths, self._written, strict=True):
                    if written != self.samples:
                        raise ValueError(f"{path} got {written} samples, not {self.samples}")
                for temporary, path in zip(self._temporary, self.paths, strict=True):
                    os.replace(temporary, path)
        finally:
            self._discard()

    def _discard(self) -> None:
        for file in self._files:
            file.close()
        for temporary in self._temporary:
            temporary.unlink(missing_ok=True)


def check_writable(folder: str | os.PathLike) -> None:
    """Make the folder where needed; refuse in one line where no file can be written there."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=Path(folder)):
            pass
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}; choose another") from None


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Make a folder for what the body writes; where it fails, no new and empty folder stays."""
    new = [place for place in (Path(folder), *Path(folder).parents) if not place.exists()]
    try:
        check_writable(folder)
        yield Path(folder)
    except BaseException:
        with contextlib.suppress(OSError):  # not empty
            for place in new:
                place.rmdir()
        raise


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


def _format(path: Path, subtype: str | None, channels: int, samples: int) -> tuple[str, str]:
    """Give format and subtype for an output path; refuse what libsndfile cannot write."""
    kind = {"OGA": "OGG", "OPUS": "OGG", "AIF": "AIFF"}.get(name := path.suffix[1:].upper(), name)
    if kind not in soundfile.available_formats() or kind == "RAW":
        raise UserError(
            f"{path}: '{path.suffix}' is no audio format that can be written; use "
            ".wav, .flac or .ogg"
        )
    default = DEFAULT_SUBTYPE.get(kind) or soundfile.default_subtype(kind)
    chosen = subtype.upper() if subtype else "OPUS" if name == "OPUS" else default
    if not soundfile.check_format(kind, chosen):
        valid = ", ".join(
            s for s in soundfile.available_subtypes(kind) if soundfile.check_format(kind, s)
        )
        raise UserError(f"{path.suffix} files cannot have the subtype {subtype}; use {valid}")
    size = samples * channels * _SAMPLE_BYTES.get(chosen, 4)
    if kind == "WAV" and size > 0xFFFF0000:  # 4 GB, less room for the header
        kind = "RF64"
    return kind, chosen


def _reason(error: Exception) -> str:
    return (getattr(error, "error_string", None) or str(error)).strip().rstrip(".")
