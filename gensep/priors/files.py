"""Prior files: one `.npz` a prior, and the one table that knows every kind.

A file holds a JSON header (kind, network sizes, representation, how it was made) and plain
arrays; nothing in it is executed or unpickled.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from gensep.priors.flow_networks import make_flow
from gensep.priors.score_networks import features, make_denoiser
from gensep.representation.image import ImageForm
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.runtime.files import save_arrays
from gensep.runtime.trees import by_path, from_paths

SHIPPED = Path(__file__).parents[1] / "assets" / "priors"
FILE = "prior.npz"


class LoadedPrior(NamedTuple):
    """A prior, what it was trained on and where it came from."""

    name: str
    prior: Any  # a basis.Prior
    representation: Any  # what its arrays mean: a Representation or another of FORMS
    header: dict[str, Any]


Settings = dict[str, Any]


def _denoiser(settings: Settings) -> Any:
    from score import DenoiserPrior

    table = jnp.zeros((settings["levels"], features(settings)))
    return DenoiserPrior(make_denoiser(settings), table[:, 0], table)


def _flow(settings: Settings) -> Any:
    from flows import FlowPrior

    table, model = jnp.zeros((settings["levels"], settings["features"])), make_flow(settings)
    return FlowPrior(model.density, table[:, 0], table, model.dequantiser)


def _stacked_flows(settings: Settings) -> Any:
    from flows import StackedFlowPrior

    table, model = jnp.zeros((settings["levels"], settings["features"])), make_flow(settings)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(table)), model.density)
    return StackedFlowPrior(many, table[:, 0], table)


def _fill(make: Callable[[Settings], Any], settings: Settings, arrays: dict[str, Any]) -> Any:
    """Put arrays by path into what `make` would build.

    Raises:
        KeyError: where one is missing or of another shape.
    """
    like = jax.eval_shape(lambda: make(settings))
    for path, leaf in by_path(like).items():
        if path not in arrays or arrays[path].shape != leaf.shape:
            raise KeyError(path)
    typed = {path: jnp.asarray(arrays[path], leaf.dtype) for path, leaf in by_path(like).items()}
    return from_paths(like, typed)


# key of the header -> what the arrays of a prior are
FORMS: dict[str, type] = {"representation": Representation, "images": ImageForm}

# kind -> build an untrained prior from the header's settings
KINDS: dict[str, Callable[[Settings], Any]] = {
    "edm": _denoiser,  # any network of gensep.priors.score_networks
    "flow": _flow,  # any architecture of gensep.priors.flow_networks
    "stacked_flows": _stacked_flows,  # one for every level
}


def save_prior(
    path: Path,
    kind: str,
    prior: Any,
    settings: dict[str, Any],
    form: Any,
    *,
    half: bool = False,
    **about: Any,
) -> None:
    """Write a prior file, atomically; `half` stores matrices in float16 for shipping."""
    key = next(key for key, form_type in FORMS.items() if isinstance(form, form_type))
    header = {"kind": kind, "settings": settings, "about": about, key: dataclasses.asdict(form)}
    arrays = {p: np.asarray(x) for p, x in by_path(prior).items()}
    if half:
        arrays = {
            p: x.astype(np.float16) if x.ndim > 1 and x.size > 4096 else x
            for p, x in arrays.items()
        }
    save_arrays(path, {"header": np.array(json.dumps(header)), **arrays})


def load_prior(name: str) -> LoadedPrior:
    """Load a shipped prior by name, or one from a run folder or an `.npz` file.

    Raises:
        UserError: if there is none, or the file is not one of ours.
    """
    path = find_prior(name)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = dict(file)
        header = json.loads(str(arrays.pop("header")))
        key = next(key for key in FORMS if key in header)
        form = FORMS[key](**header[key])
        prior = _fill(KINDS[header["kind"]], header["settings"], arrays)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        BadZipFile,
        NotImplementedError,
        StopIteration,
    ) as error:
        raise UserError(
            f"{path} is not a prior file that this version reads ({error}); "
            "train it again or fetch a fresh copy"
        ) from None
    own = path.resolve().parent.name if path.name == FILE else path.stem
    return LoadedPrior(own, prior, form, header)


def find_prior(name: str) -> Path:
    """Give the file of a prior: a shipped name, a run folder or a file."""
    shipped = SHIPPED / name / FILE
    if "/" not in name and shipped.exists() and not (Path(name) / FILE).exists():
        return shipped
    path = Path(name)
    if path.is_dir():
        path = path / FILE
    if not path.exists():
        expected = ", ".join([*shipped_names(), f"a run folder that holds {FILE}"])
        raise UserError(
            f"no prior '{name}': expected one of {expected}; 'python -m "
            "gensep.train_ncsn' makes one"
        )
    return path


def shipped_names() -> list[str]:
    """List the priors inside the package."""
    return sorted(p.parent.name for p in SHIPPED.glob(f"*/{FILE}"))
