"""What `gensep.basis` leaves in a folder: the one reader and the one writer of separation.json."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from gensep.audio.excerpt import Excerpt
from gensep.cli.records import Json, write_record
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError

FILE = "separation.json"


class Separation(NamedTuple):
    """A separation on disk."""

    folder: Path
    record: Json  # all that separation.json holds
    stems: dict[str, Path]  # file of every stem, by its name
    mixture: Excerpt  # what was separated; its path is as the record has it

    @property
    def representation(self) -> Representation:
        """Representation that the masks were sampled in."""
        return Representation(**self.record.get("representation", {}))

    def option(self, name: str, default: Any = None) -> Any:
        """Return an option of the separation."""
        return self.record.get("options", {}).get(name, default)


def write_separation(folder: Path, config: Any, facts: Json) -> None:
    """Write separation.json: what was separated and how it came out, with the options."""
    write_record(folder / FILE, config, facts)


def read_separation(folder: Path) -> Separation:
    """Read the record of a separation.

    Raises:
        UserError: if there is none, or it is not what `gensep.basis` writes.
    """
    path = folder / FILE
    try:
        record = json.loads(path.read_text())
        stems = {Path(name).stem: folder / name for name in record["stems"]}
        options = record.get("options", {})
        start, duration = options.get("start", 0.0), options.get("duration")
        mixture = Excerpt(
            Path(record["mixture"]), float(start), None if duration is None else float(duration)
        )
        if not stems:
            raise KeyError("stems")
    except FileNotFoundError:
        raise UserError(f"there is no {path}; give a folder that gensep.basis wrote") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no record of gensep.basis ({error!r}); separate again"
        ) from None
    return Separation(folder, record, stems, mixture)
