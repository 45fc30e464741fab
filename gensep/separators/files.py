"""Separator files: a network, the sources it gives and how it was made, in one `.npz`."""

from pathlib import Path
from typing import NamedTuple

import jax

from gensep.cli.records import Json
from gensep.representation.magnitude import Spectra
from gensep.runtime.errors import UserError
from gensep.runtime.model_files import (
    UNREADABLE,
    fill,
    find_model,
    read_model,
    save_model,
    shipped_models,
)
from gensep.separators.family import Family, Separator
from gensep.separators.networks import SEPARATORS, make_separator

SHIPPED = Path(__file__).parents[1] / "assets" / "separators"
FILE = "separator.npz"


class LoadedSeparator(NamedTuple):
    """A trained separator, and how it was made."""

    name: str
    network: Separator
    settings: Json  # see gensep.separators.family.Settings
    about: Json

    @property
    def family(self) -> Family:
        """Row of the table of networks."""
        return SEPARATORS[self.settings["network"]]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources."""
        return tuple(self.settings["sources"])

    @property
    def spectra(self) -> Spectra:
        """The transform of the mixture that the network sees."""
        return Spectra(**self.settings["spectra"])


def save_separator(
    path: Path, network: Separator, settings: Json, *, half: bool = False, **about: object
) -> None:
    """Write a separator file, whole or not at all.

    `settings` are enough for the table of networks to build it again. With `half` large matrices
    are stored in float16, for shipping. `about` is JSON on how the separator was made.
    """
    header = {"kind": "separator", "settings": settings, "about": about}
    save_model(path, header, network, half=half)


def load_separator(name: str) -> LoadedSeparator:
    """Load a shipped separator by name, or one from a run folder or an `.npz` file.

    Raises:
        UserError: if there is none, or the file is not a separator file.
    """
    path = find_separator(name)
    try:
        header, arrays = read_model(path)
        if header["kind"] != "separator":
            raise ValueError(f"it holds a prior of the kind {header['kind']}")
        settings, about = header["settings"], header["about"]
        like = jax.eval_shape(lambda: make_separator(settings))
        loaded = LoadedSeparator(_own_name(path), fill(like, arrays), settings, about)
        Spectra(**settings["spectra"])
    except UNREADABLE as error:
        raise UserError(
            f"{path} is not a separator file that this version reads ({error}); "
            "train it again or fetch a fresh copy"
        ) from None
    return loaded


def find_separator(name: str) -> Path:
    """Return the file of a separator: a shipped name, a run folder (which comes first) or a file.

    Raises:
        UserError: if there is none.
    """
    path = find_model(name, SHIPPED, FILE)
    if path is None:
        expected = ", ".join([*shipped_separators(), f"a run folder that holds {FILE}"])
        remedy = "train one by 'python -m gensep.train_separator'"
        if (Path(name) / "prior.npz").exists():
            remedy = "it holds a prior, with which 'python -m gensep.basis' separates"
        raise UserError(f"no separator '{name}': expected one of {expected}; {remedy}")
    return path


def shipped_separators() -> list[str]:
    """List the separators inside the package."""
    return shipped_models(SHIPPED, FILE)


def _own_name(path: Path) -> str:
    return path.resolve().parent.name if path.name == FILE else path.stem
