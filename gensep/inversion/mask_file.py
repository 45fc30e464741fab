"""Mask files: the mel masks of a separation, from which other stems can be made without sampling.

An `.npz` with float16 `masks [source, frame, mel]`, float32 `power [frame, mel]` of the mixture,
`names` of the sources and the `representation` as JSON. A file without masks and names holds the
power of one sound.
"""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.runtime.files import save_arrays

FILE = "masks.npz"
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, AttributeError)


class MaskFile(NamedTuple):
    """What a mask file holds."""

    names: tuple[str, ...]
    masks: np.ndarray | None  # [source, frame, mel]; sum 1 over sources when read
    power: np.ndarray  # [frame, mel]
    representation: Representation


def write_masks(path: Path, content: MaskFile) -> None:
    """Write a mask file; it appears whole or not at all."""
    form = json.dumps(dataclasses.asdict(content.representation))
    arrays = {"power": content.power.astype(np.float32), "representation": np.array(form)}
    if content.masks is not None:
        arrays |= {"masks": content.masks.astype(np.float16), "names": np.array(content.names)}
    save_arrays(path, arrays)


def read_masks(path: Path) -> MaskFile:
    """Read a mask file.

    Raises:
        UserError: if the file is missing or no mask file, or its arrays do not fit together.
    """
    if not path.is_file():
        raise UserError(f"there is no {path}; separate with --save_masks to have one")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = dict(file)
        form = Representation(**json.loads(str(arrays["representation"])))
        power = arrays["power"].astype(np.float32)
        masks = arrays["masks"].astype(np.float32) if "masks" in arrays else None
        names = tuple(str(name) for name in arrays["names"]) if masks is not None else ("sound",)
    except DAMAGED as error:
        reason = f"{path} is no mask file that this version reads ({error})"
        raise UserError(f"{reason}; separate again with --save_masks") from None
    shape = (len(names), *power.shape)
    fits = power.ndim == 2 and power.shape[1] == form.n_mels and len(power) > 1
    if not fits or (masks is not None and masks.shape != shape):
        got = "" if masks is None else f" and masks {list(masks.shape)}"
        expected = f"expected power [frame >= 2, {form.n_mels}] and masks {list(shape)}"
        raise UserError(f"{path} holds power {list(power.shape)}{got}; {expected}")
    if not all(np.isfinite(x).all() and x.min() >= 0 for x in (power, masks) if x is not None):
        raise UserError(f"{path} holds values that are negative or not finite; separate again")
    if masks is not None:  # rounding to float16 changes the sum by up to 0.001
        total = masks.sum(0)
        masks = np.where(total > 0, masks / np.where(total > 0, total, 1), 1 / len(masks))
    return MaskFile(names, masks, power, form)
