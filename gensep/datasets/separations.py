"""What `gensep.basis` leaves in a folder: the readers and writers of its files.

separation.json says what was separated, with what options, and how it came out. uncertainty.npz,
which only separations with --uncertainty have, says how far the posterior samples differ in every
bin. Levels are those of a source relative to the mixture's in the same bin, in dB, float16:

    names           of the sources
    mean_db         [source, frame, mel], mean over the samples, all of one weight
    sd_db           [source, frame, mel], their standard deviation
    quantiles_db    [probability, source, frame, mel], their quantiles
    probabilities   of these quantiles, float32
    judged_mean_db, judged_sd_db, judged_quantiles_db
                    the same with the weights of the judge, where there was one

Files of earlier versions hold `names` and `sd_db` only.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
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
LEVELS = "mean_db", "sd_db", "quantiles_db"
ARRAYS = *LEVELS, *(f"judged_{name}" for name in LEVELS)  # that uncertainty.npz may hold


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


def write_uncertainty(
    folder: Path,
    names: Sequence[str],
    arrays: Mapping[str, np.ndarray],
    probabilities: Sequence[float],
) -> None:
    """Write uncertainty.npz: `arrays` by their names in ARRAYS, and what their axes stand for."""
    data = {name: values.astype(np.float16) for name, values in arrays.items()}
    data["probabilities"] = np.array(probabilities, np.float32)
    save_arrays(folder / UNCERTAINTY, {**data, "names": np.array(names)})


def read_uncertainty(folder: Path, arrays: Sequence[str] = ARRAYS) -> dict[str, np.ndarray]:
    """Return the arrays of uncertainty.npz that there are, levels as float32; none without a file.

    Args:
        folder: of the separation.
        arrays: names in ARRAYS, `sd_db` among them; names and probabilities are read in any case.

    Raises:
        UserError: if the file is damaged, or sizes do not fit together.
    """
    path = folder / UNCERTAINTY
    if not path.exists():
        return {}
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            found = {n: file[n].astype(np.float32) for n in arrays if n in file}
            found["names"] = file["names"].astype(str)
            if "probabilities" in file:
                found["probabilities"] = file["probabilities"]
        _check_sizes(found)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        expected = "expected sd_db [source, frame, mel] and names; delete it or separate again"
        raise UserError(f"{path} holds no uncertainty ({error}); {expected}") from None
    return found


def read_deviations(folder: Path) -> dict[str, np.ndarray]:
    """Return the deviations of a separation in dB, float32 `[frame, mel]`, by source, if any.

    Raises:
        UserError: if the file is damaged.
    """
    found = read_uncertainty(folder, ("sd_db",))
    return dict(zip(found["names"].tolist(), found["sd_db"], strict=True)) if found else {}


def _check_sizes(found: dict[str, np.ndarray]) -> None:
    """Refuse arrays of an uncertainty whose sizes do not fit together, by a ValueError."""
    names, shape = found["names"], found["sd_db"].shape
    for name in (n for n in ARRAYS if n in found):
        quantiles = name.endswith("quantiles_db")
        first = (len(found["probabilities"]),) if quantiles else ()
        if found[name].shape != (*first, len(names), *shape[1:]) or len(shape) != 3:
            raise ValueError(f"{len(names)} names, {name} {found[name].shape}")
