"""Several stems of equal length written at once; all of them appear at the end, or none."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from gensep.audio.files import reason
from gensep.runtime.errors import UserError
from gensep.runtime.files import check_writable

DEFAULT_SUBTYPE = {"WAV": "FLOAT", "RF64": "FLOAT", "FLAC": "PCM_24"}
_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_SAMPLE_BYTES = {"PCM_U8": 1, "PCM_S8": 1, "PCM_16": 2, "PCM_24": 3, "DOUBLE": 8}


def subtype_for(path: str | os.PathLike, ext: str, subtype: str | None) -> str | None:
    """Return the subtype of stems `.ext`; "same" is that of the file `path`.

    Where a format cannot have that, or the file is coded with losses, it is the default, None.

    Raises:
        UserError: if the file is no audio that can be read.
    """
    if subtype != "same":
        return subtype
    try:
        own = soundfile.info(os.fspath(path)).subtype
    except soundfile.SoundFileError as error:
        raise UserError(f"{path} is no audio that can be read ({reason(error)})") from None
    name = ext.lstrip(".").upper()
    plain = own.startswith("PCM_") or own in ("FLOAT", "DOUBLE")
    return own if plain and soundfile.check_format(_container(name), own) else None


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
        """Check that the format of each path, from its extension, allows these stems.

        The rate is in Hz, `samples` is per channel; a subtype is for example PCM_16, by default
        float in wav and 24 bits in flac.

        Raises:
            UserError: if it does not, or two paths are equal.
        """
        self.paths = [Path(path) for path in paths]
        self.rate, self.channels, self.samples = rate, channels, samples
        if len(set(self.paths)) < len(self.paths):
            names = ", ".join(map(str, self.paths))
            raise UserError(f"two stems have one name: {names}; rename one")
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
        """Open `target` to write what will become the file `path`."""
        form, subtype = kind
        try:
            return soundfile.SoundFile(target, "w", self.rate, self.channels, subtype, format=form)
        except soundfile.SoundFileError as error:
            what = f"{path} with {self.channels} channels at {self.rate} Hz"
            raise UserError(f"cannot write {what} ({reason(error)}); wav takes any") from None

    def write(self, stem: int, block: np.ndarray) -> None:
        """Append a block of floats `[channels, n]` to a stem; full scale is 1."""
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"expected [{self.channels}, n], got {list(block.shape)}")
        samples, bits = np.ascontiguousarray(block.T), _BITS.get(self._kinds[stem][1])
        if bits:  # rounded here, since libsndfile rounds down: sums of stems would drift
            top = 2.0 ** (bits - 1)
            whole = np.clip(np.rint(samples.astype(np.float64) * top), -top, top - 1)
            samples = whole.astype(np.int32) << (32 - bits)
        try:
            self._files[stem].write(samples)
        except (soundfile.SoundFileError, AssertionError):  # an assertion when the disk is full
            remedy = "free some space or choose another folder"
            problem = f"cannot write {self.paths[stem]}: the disk may be full"
            raise UserError(f"{problem}; {remedy}") from None
        self._written[stem] += block.shape[1]

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Move the stems to their names; after an error remove what was written."""
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


def _format(path: Path, subtype: str | None, channels: int, samples: int) -> tuple[str, str]:
    """Return format and subtype of an output path; refuse what libsndfile cannot write."""
    kind = _container(name := path.suffix[1:].upper())
    if kind not in soundfile.available_formats() or kind == "RAW":
        problem = f"'{path.suffix}' is no audio format that can be written"
        raise UserError(f"{path}: {problem}; use .wav, .flac or .ogg")
    default = DEFAULT_SUBTYPE.get(kind) or soundfile.default_subtype(kind)
    chosen = subtype.upper() if subtype else "OPUS" if name == "OPUS" else default
    if not soundfile.check_format(kind, chosen):
        valid = [s for s in soundfile.available_subtypes(kind) if soundfile.check_format(kind, s)]
        known = ", ".join(valid)
        raise UserError(f"{path.suffix} files cannot have the subtype {subtype}; use {known}")
    size = samples * channels * _SAMPLE_BYTES.get(chosen, 4)
    if kind == "WAV" and size > 0xFFFF0000:  # 4 GB, less room for the header
        kind = "RF64"
    return kind, chosen


def _container(name: str) -> str:
    """Return libsndfile's name of a format by its extension, in capitals."""
    return {"OGA": "OGG", "OPUS": "OGG", "AIF": "AIFF"}.get(name, name)
