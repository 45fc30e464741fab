"""What `gensep.basis` leaves in a folder: the readers and writers of its files.

separation.json says what was separated, with what options, and how it came out. uncertainty.npz
holds float16 `sd_db [source, frame, mel]`, the standard deviation over the posterior samples in dB,
and `names` of the sources; only separations with --uncertainty have it.
"""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gensep.audio.excerpt import Excerpt
from gensep.cli.records import Json, write_record
from gensep.runtime.errors import UserError
from gensep.runtime.files import save_arrays

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from gensep.representation.mel import Representation

FILE = "separation.json"
UNCERTAINTY = "uncertainty.npz"


class Separation(NamedTuple):
    """A separation on disk."""

    folder: Path
    root: Path  # folder that relative paths in the record start from
    record: Json  # all that separation.json holds
    stems: dict[str, Path]  # file of every stem, by its name
    mixture: Excerpt  # what was separated

    @property
    def options(self) -> Json:
        """Options of the command that separated."""
        return self.record.get("options", {})

    @property
    def representation(self) -> "Representation":
        """Representation that the masks were sampled in."""
        from gensep.representation.mel import Representation

        return Representation(**self.record.get("representation", {}))


def write_separation(folder: Path, config: "DataclassInstance | None", facts: Json) -> None:
    """Write separation.json: what was separated and how it came out, with the options."""
    write_record(folder / FILE, config, facts)


def read_separation(folder: Path, root: str | Path = "") -> Separation:
    """Read separation.json; its paths start from `root` unless it names another folder itself.

    Raises:
        UserError: if there is no record, or it is not one that `gensep.basis` writes.
    """
    path = folder / FILE
    try:
        record = json.loads(path.read_text())
        base = folder / record["root"] if "root" in record else Path(root)
        stems = {Path(name).stem: folder / name for name in record["stems"]}
        options = record.get("options", {})
        duration = options.get("duration")
        duration = None if duration is None else float(duration)
        mixture = Excerpt(base / record["mixture"], float(options.get("start") or 0), duration)
        if not stems:
            raise KeyError("stems")
    except FileNotFoundError:
        raise UserError(f"there is no {path}; give a folder that gensep.basis wrote") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"is no record of gensep.basis ({error!r})"
        raise UserError(f"{path} {problem}; separate again") from None
    return Separation(folder, base, record, stems, mixture)


def write_deviations(folder: Path, names: Sequence[str], sd_db: np.ndarray) -> None:
    """Write uncertainty.npz of deviations in dB, `[source, frame, mel]`."""
    data = {"sd_db": sd_db.astype(np.float16), "names": np.array(names)}
    save_arrays(folder / UNCERTAINTY, data)


def read_deviations(folder: Path) -> dict[str, np.ndarray]:
    """Return the deviations of a separation in dB, float32 `[frame, mel]`, by source, if any.

    Raises:
        UserError: if the file is damaged.
    """
    path = folder / UNCERTAINTY
    if not path.exists():
        return {}
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            values, names = file["sd_db"].astype(np.float32), [str(n) for n in file["names"]]
        if values.ndim != 3 or len(values) != len(names):
            raise ValueError(f"{len(names)} names, sd_db {values.shape}")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        expected = "expected sd_db [source, frame, mel] and names; delete it or separate again"
        raise UserError(f"{path} holds no uncertainty ({error}); {expected}") from None
    return dict(zip(names, values, strict=True))
