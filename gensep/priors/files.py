"""Prior files: one `.npz` per prior, and the one table of the kinds of priors.

A file holds a JSON header (kind, network sizes, form of the data, how it was made) and plain
arrays; nothing in it is executed or unpickled.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from gensep.cli.records import Json
from gensep.priors.critic_networks import make_critic
from gensep.priors.flow_networks import make_flow
from gensep.priors.score_networks import features, make_denoiser
from gensep.representation.form import FORMS, Form
from gensep.runtime.errors import UserError
from gensep.runtime.model_files import (
    UNREADABLE,
    fill,
    find_model,
    read_model,
    save_model,
    shipped_models,
)

if TYPE_CHECKING:
    from basis import Prior
    from score import CriticPrior

SHIPPED = Path(__file__).parents[1] / "assets" / "priors"
FILE = "prior.npz"


class LoadedPrior(NamedTuple):
    """A prior, what its examples mean and how it was made."""

    name: str
    prior: "Prior"
    form: Form
    header: Json  # `kind` (a row of KINDS), `settings` of the network, `about` its training


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


def _critic(settings: Json) -> "CriticPrior":
    from score import CriticPrior

    table = jnp.zeros((settings["levels"], settings["features"]))
    return CriticPrior(make_critic(settings), table[:, 0], table)


# kind in the header -> build an untrained prior from the header's settings
KINDS: dict[str, Callable[[Json], "Prior"]] = {
    "edm": _denoiser,  # any network of gensep.priors.score_networks, not the EDM ones alone
    "flow": _flow,  # any architecture of gensep.priors.flow_networks
    "stacked_flows": _stacked_flows,  # a flow for every noise level
    "critic": _critic,  # density ratios, any network of gensep.priors.critic_networks
}
GUIDE = "guide"  # kind of the file of a critic that corrects another prior

# kinds that are no priors -> why, and what to do
REFUSED = {
    GUIDE: "holds a critic that corrects another prior; name it after --guide, as SOURCE=RUN",
    "wgan_critic": "holds a critic of the Wasserstein distance, whose gradient has norm 1 "
    "everywhere and is no score; train one that has a score by 'python -m gensep.train_critic'",
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

    `settings` of the network are enough for the row `kind` of KINDS to build it again. With `half`
    large matrices are stored in float16, for shipping. `about` is JSON on how the prior was made.
    """
    fields = dataclasses.asdict(form)
    header = {"kind": kind, "settings": settings, "about": about, form.key: fields}
    save_model(path, header, prior, half=half)


def load_prior(name: str) -> LoadedPrior:
    """Load a shipped prior by name, or one from a run folder or an `.npz` file.

    Raises:
        UserError: if there is none, or the file is not a prior file.
    """
    return _load(name, KINDS)


def load_guide(name: str) -> LoadedPrior:
    """Load a critic that was trained against a prior, from a run folder or an `.npz` file.

    Its `prior` is a `score.CriticPrior`, of which the critic alone has a meaning; the name of the
    prior that it corrects is `header["settings"]["against"]`.

    Raises:
        UserError: if there is none, or the file is that of a prior.
    """
    return _load(name, {GUIDE: _critic})


def _load(name: str, kinds: Mapping[str, Callable[[Json], "Prior"]]) -> LoadedPrior:
    path = find_prior(name)
    try:
        header, arrays = read_model(path)
        if header["kind"] not in {*KINDS, *REFUSED}:
            raise ValueError(f"it holds a {header['kind']}")
        (key,) = set(FORMS) & set(header)
        form, kind = FORMS[key](**header[key]), header["kind"]
    except UNREADABLE as error:
        raise _unreadable(path, error) from None
    if kind not in kinds and kind in REFUSED:
        raise UserError(f"{path} {REFUSED[kind]}")
    if kind not in kinds and kind in KINDS:
        raise UserError(
            f"{path} is a prior of kind {kind}; a guide is trained by "
            "'python -m gensep.train_critic --against PRIOR'"
        )
    try:
        prior = fill(jax.eval_shape(lambda: kinds[kind](header["settings"])), arrays)
    except UNREADABLE as error:
        raise _unreadable(path, error) from None
    own = path.resolve().parent.name if path.name == FILE else path.stem
    return LoadedPrior(own, prior, form, header)


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is not a prior file that this version reads ({error}); "
        "train it again or fetch a fresh copy"
    )


def find_prior(name: str) -> Path:
    """Return the file of a prior: a shipped name, a run folder (which comes first) or a file.

    Raises:
        UserError: if there is none.
    """
    path = find_model(name, SHIPPED, FILE)
    if path is None:
        expected = ", ".join([*shipped_names(), f"a run folder that holds {FILE}"])
        remedy = "train one by 'python -m gensep.train_ncsn'"
        if (Path(name) / "separator.npz").exists():
            remedy = "it holds a separator, which 'python -m gensep.separate' applies"
        raise UserError(f"no prior '{name}': expected one of {expected}; {remedy}")
    return path


def shipped_names() -> list[str]:
    """List the priors inside the package."""
    return shipped_models(SHIPPED, FILE)
