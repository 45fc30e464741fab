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

from gensep.checkpoint import by_path, from_paths
from gensep.errors import UserError
from gensep.representation import Representation
from gensep.runs import save_arrays

SHIPPED = Path(__file__).parent / "assets" / "priors"
FILE = "prior.npz"


class LoadedPrior(NamedTuple):
    """A prior, what it was trained on and where it came from."""

    name: str
    prior: Any  # a basis.Prior
    representation: Representation
    header: dict[str, Any]


def make_edm(settings: dict[str, Any], seed: int = 0) -> Any:
    """Build an untrained EDM denoiser from `n_mels`, `width`, `blocks`, `sigma_data`, `mean`."""
    from flax import nnx

    from score import EDM, Conv1dDenoiser

    net = Conv1dDenoiser(settings["n_mels"], settings["width"], settings["blocks"],
                         rngs=nnx.Rngs(seed))
    mean = jnp.asarray(settings.get("mean", jnp.zeros(settings["n_mels"])))
    return EDM(net, mean, jnp.asarray(settings.get("sigma_data", 0.5)))


def _load_edm(settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    from score import EDMPrior

    def make():
        table = jnp.zeros((settings["levels"], settings["n_mels"]))
        return EDMPrior(make_edm(settings), table[:, 0], table)

    like = jax.eval_shape(make)
    for path, leaf in by_path(like).items():
        if path not in arrays or arrays[path].shape != leaf.shape:
            raise KeyError(path)
    typed = {path: jnp.asarray(arrays[path], leaf.dtype) for path, leaf in by_path(like).items()}
    return from_paths(like, typed)


# kind -> build a prior from the header's settings and the arrays by path
KINDS: dict[str, Callable[[dict[str, Any], dict[str, np.ndarray]], Any]] = {
    "edm": _load_edm,
}


def save_prior(
    path: Path, kind: str, prior: Any, settings: dict[str, Any], representation: Representation,
    *, half: bool = False, **about: Any,
) -> None:
    """Write a prior file, atomically; `half` stores matrices in float16 for shipping."""
    header = {"kind": kind, "settings": settings, "about": about,
              "representation": dataclasses.asdict(representation)}
    arrays = {p: np.asarray(x) for p, x in by_path(prior).items()}
    if half:
        arrays = {p: x.astype(np.float16) if x.ndim > 1 and x.size > 4096 else x
                  for p, x in arrays.items()}
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
        representation = Representation(**header["representation"])
        load = KINDS[header["kind"]]
        prior = load(header["settings"], arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile,
            NotImplementedError) as error:
        raise UserError(f"{path} is not a prior file that this version reads ({error}); "
                        "train it again or fetch a fresh copy") from None
    own = path.resolve().parent.name if path.name == FILE else path.stem
    return LoadedPrior(own, prior, representation, header)


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
        raise UserError(f"no prior '{name}': expected one of {expected}; 'python -m "
                        "gensep.train_ncsn' makes one")
    return path


def shipped_names() -> list[str]:
    """List the priors inside the package."""
    return sorted(p.parent.name for p in SHIPPED.glob(f"*/{FILE}"))
