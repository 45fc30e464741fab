"""Prior files: one `.npz` per prior, and the one table of the kinds of priors.

A file holds a JSON header (kind, network sizes, form of the data, how it was made) and plain
arrays; nothing in it is executed or unpickled.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from gensep.cli.records import Json
from gensep.priors.flow_networks import make_flow
from gensep.priors.score_networks import features, make_denoiser
from gensep.representation.form import FORMS, Form
from gensep.runtime.errors import UserError
from gensep.runtime.files import save_arrays
from gensep.runtime.trees import by_path, from_paths

if TYPE_CHECKING:
    from basis import Prior

SHIPPED = Path(__file__).parents[1] / "assets" / "priors"
FILE = "prior.npz"


class LoadedPrior(NamedTuple):
    """A prior, what its examples mean and how it was made."""

    name: str
    prior: "Prior"
    form: Form
    header: Json  # `kind` (a row of KINDS), `settings` of the network, `about` its training


Make = Callable[[Json], "Prior"]


def _denoiser(settings: Json) -> "Prior":
    from score import DenoiserPrior

    table = jnp.zeros((settings["levels"], features(settings)))
    return DenoiserPrior(make_denoiser(settings), table[:, 0], table)


def _flow(settings: Json) -> "Prior":
    from flows import FlowPrior

    table, model = jnp.zeros((settings["levels"], settings["features"])), make_flow(settings)
    return FlowPrior(model.density, table[:, 0], table, model.dequantiser)


def _stacked_flows(settings: Json) -> "Prior":
    from flows import StackedFlowPrior

    table, model = jnp.zeros((settings["levels"], settings["features"])), make_flow(settings)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(table)), model.density)
    return StackedFlowPrior(many, table[:, 0], table)


def _fill(make: Make, settings: Json, arrays: dict[str, np.ndarray]) -> "Prior":
    """Put arrays by path into the prior that `make` would build.

    Raises:
        KeyError: if one is missing or of another shape.
    """
    like = jax.eval_shape(lambda: make(settings))
    for path, leaf in by_path(like).items():
        if path not in arrays or arrays[path].shape != leaf.shape:
            raise KeyError(path)
    typed = {path: jnp.asarray(arrays[path], leaf.dtype) for path, leaf in by_path(like).items()}
    return from_paths(like, typed)


# kind in the header -> build an untrained prior from the header's settings
KINDS: dict[str, Make] = {
    "edm": _denoiser,  # any network of gensep.priors.score_networks, not the EDM ones alone
    "flow": _flow,  # any architecture of gensep.priors.flow_networks
    "stacked_flows": _stacked_flows,  # a flow for every noise level
}


def save_prior(
    path: Path,
    kind: str,
    prior: "Prior",
    settings: Json,
    form: Form,
    *,
    half: bool = False,
    **about: object,
) -> None:
    """Write a prior file, whole or not at all.

    Args:
        path: of the file.
        kind: a row of KINDS.
        prior: its arrays are stored by their path.
        settings: of the network, enough for KINDS to build it again.
        form: what the examples mean.
        half: store large matrices in float16, for shipping.
        **about: how the prior was made, JSON.
    """
    fields = dataclasses.asdict(form)
    header = {"kind": kind, "settings": settings, "about": about, form.key: fields}
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
        UserError: if there is none, or the file is not a prior file.
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
    """Return the file of a prior: a shipped name, a run folder or a file.

    A run folder comes before a shipped prior of the same name.

    Raises:
        UserError: if there is none.
    """
    shipped = SHIPPED / name / FILE
    if "/" not in name and shipped.exists() and not (Path(name) / FILE).exists():
        return shipped
    path = Path(name)
    if path.is_dir():
        path = path / FILE
    if not path.exists():
        expected = ", ".join([*shipped_names(), f"a run folder that holds {FILE}"])
        raise UserError(
            f"no prior '{name}': expected one of {expected}; train one by "
            "'python -m gensep.train_ncsn'"
        )
    return path


def shipped_names() -> list[str]:
    """List the priors inside the package."""
    return sorted(p.parent.name for p in SHIPPED.glob(f"*/{FILE}"))
