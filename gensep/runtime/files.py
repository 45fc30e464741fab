"""Files that appear whole or not at all, and checks of output folders."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gensep.runtime.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed to `path` unless the body fails."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, "utf-8")


def save_arrays(path: Path, arrays: Mapping[str, "np.ndarray"]) -> None:
    """Write a compressed .npz, whole or not at all."""
    import numpy as np

    with atomic(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def claim(record: Path, text: str) -> None:
    """Write the options that a folder is begun with, unless it was begun with the same before.

    Raises:
        UserError: if it was begun with others.
    """
    if record.exists() and record.read_text() != text:
        begun = f"{record.parent} was begun with other options (see {record})"
        raise UserError(f"{begun}; choose another --output or delete it")
    record.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(record, text)


def check_writable(folder: str | os.PathLike) -> None:
    """Create the folder if needed.

    Raises:
        UserError: if no file can be written there.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=Path(folder)):
            pass
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}; choose another") from None


def output_folder(template: str, **names: object) -> Path:
    """Fill {name} and the like into the template of an output folder.

    Raises:
        UserError: if the template has braces around anything else.
    """
    try:
        return Path(template.format(**names))
    except (KeyError, IndexError, ValueError):
        known = " and ".join(f"{{{name}}}" for name in names)
        raise UserError(f"--output knows {known}, not what is in '{template}'") from None


def output_folders(template: str, inputs: Sequence[str]) -> list[Path]:
    """Return an output folder for every input file: {name} is its name, {folder} its folder.

    Raises:
        UserError: as `output_folder` does, or if two of them are one.
    """
    paths = [Path(path) for path in inputs]
    folders = [output_folder(template, name=path.stem, folder=path.parent) for path in paths]
    if len(set(folders)) < len(folders):
        raise UserError(
            f"several inputs would be written to {max(folders, key=folders.count)}; "
            "put {name} or {folder} into --output"
        )
    return folders


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Create a folder for what the body writes; if it fails, new and empty folders are removed."""
    new = [place for place in (Path(folder), *Path(folder).parents) if not place.exists()]
    try:
        check_writable(folder)
        yield Path(folder)
    except BaseException:
        with contextlib.suppress(OSError):  # not empty
            for place in new:
                place.rmdir()
        raise
