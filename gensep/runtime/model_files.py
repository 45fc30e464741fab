"""Trained models on disk: one `.npz` with a JSON header and plain arrays; nothing is unpickled."""

import json
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import jax.numpy as jnp
import numpy as np

from gensep.runtime.files import save_arrays
from gensep.runtime.trees import by_path, from_paths

Model = TypeVar("Model")
Header = dict[str, Any]  # JSON
# what reading a damaged or another file may raise
UNREADABLE = OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, NotImplementedError


def save_model(path: Path, header: Header, model: object, *, half: bool = False) -> None:
    """Write a header and the arrays of a tree, whole or not at all.

    With `half` large matrices are stored in float16, for shipping.
    """
    arrays = {"header": np.array(json.dumps(header))}
    for place, leaf in by_path(model).items():
        large = leaf.ndim > 1 and leaf.size > 4096
        arrays[place] = np.asarray(leaf, np.float16 if half and large else None)
    save_arrays(path, arrays)


def read_model(path: Path) -> tuple[Header, dict[str, np.ndarray]]:
    """Return the header and the arrays by their path; raise one of UNREADABLE."""
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("header"))), arrays


def fill(like: Model, arrays: dict[str, np.ndarray]) -> Model:
    """Put arrays by their path into a tree like `like`, whose leaves have shapes and dtypes.

    Raises:
        KeyError: if one is missing or of another shape.
    """
    leaves = by_path(like)
    for path, leaf in leaves.items():
        if path not in arrays or arrays[path].shape != leaf.shape:
            raise KeyError(path)
    return from_paths(like, {p: jnp.asarray(arrays[p], leaf.dtype) for p, leaf in leaves.items()})


def find_model(name: str, shipped: Path, file: str) -> Path | None:
    """Return the file of a model, or None if there is none.

    Args:
        name: of a folder that ships in `shipped`, a run folder (which comes first), or a file.
        shipped: folder of models that ship, one folder each.
        file: name of the file in such folders.
    """
    own, path = shipped / name / file, Path(name)
    if "/" not in name and own.exists() and not (path / file).exists():
        return own
    path = path / file if path.is_dir() else path
    return path if path.exists() else None


def shipped_models(shipped: Path, file: str) -> list[str]:
    """List the names of the models that ship in a folder."""
    return sorted(path.parent.name for path in shipped.glob(f"*/{file}"))
