"""Flows: the one table that knows how each is built from plain settings."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from gensep.cli.records import Json

if TYPE_CHECKING:
    from flax import nnx

    from flows import Bijection, Density, VariationalDequantiser

# `settings` of a prior file: `architecture`, `shape` of an example [H, W, C], `layout`, `features`
# (size of the last axis of the data), `mean`, `sd`, `low` and `high` of the training data,
# `embedding` of sigma (0: a flow of one level) and its `floor`, `logit` (0 for none), `dequantise`,
# and what the builder of the architecture reads
Settings = Json


class FlowModel(NamedTuple):
    """What is trained: a density and, for integer data, perhaps the noise that dequantises them."""

    density: "Density"
    dequantiser: "VariationalDequantiser | None" = None  # None: uniform noise


def _geometry(settings: Settings) -> Json:
    """Return sizes of kernels and squeezes: in two dimensions, or in time if bands are channels."""
    across, factor = settings["shape"][1] > 1, settings.get("squeeze", 2)
    return {"kernel": (3, 3) if across else (3, 1), "squeeze": (factor, factor if across else 1)}


def _glow(settings: Settings, rngs: "nnx.Rngs") -> "Bijection":
    from flows import glow

    return glow(
        tuple(settings["shape"]),
        settings["scales"],
        settings["depth"],
        settings["width"],
        rngs=rngs,
        prior=settings["latents"],
        embedding=settings["embedding"],
        dtype=settings["dtype"],
        **_geometry(settings),
    )


def _realnvp(settings: Settings, rngs: "nnx.Rngs") -> "Bijection":
    from flows import realnvp

    return realnvp(
        tuple(settings["shape"]),
        settings["scales"],
        settings["blocks"],
        settings["width"],
        rngs=rngs,
        embedding=settings["embedding"],
        **_geometry(settings),
    )


def _flowpp(settings: Settings, rngs: "nnx.Rngs") -> "Bijection":
    from flows import flowpp

    return flowpp(
        tuple(settings["shape"]),
        settings["width"],
        settings["blocks"],
        settings["components"],
        rngs=rngs,
        embedding=settings["embedding"],
        **_geometry(settings),
    )


# name -> build the untrained flow from settings and nnx.Rngs
FLOWS: dict[str, Callable[[Settings, "nnx.Rngs"], "Bijection"]] = {
    "glow": _glow,
    "realnvp": _realnvp,
    "flowpp": _flowpp,
}


def make_flow(settings: Settings, seed: int = 0) -> FlowModel:
    """Build an untrained flow.

    Raises:
        KeyError: for an architecture that is not in the table or a setting that is missing.
        ValueError: for a shape that it cannot divide.
    """
    import jax

    # under one jit: otherwise every random draw of the initial weights is compiled separately
    return jax.jit(lambda: _build(settings, seed))()


def _build(settings: Settings, seed: int) -> FlowModel:
    import jax.numpy as jnp
    from flax import nnx

    from flows import Chain, Density, Logit, SigmaEmbedding, VariationalDequantiser

    rngs = nnx.Rngs(seed)
    flow = FLOWS[settings["architecture"]](settings, rngs)
    if settings["logit"]:
        flow = Chain(Logit(settings["logit"]), flow)
    embed = (
        SigmaEmbedding(settings["embedding"], settings["floor"], rngs=rngs)
        if settings["embedding"]
        else None
    )
    density = Density(
        flow,
        jnp.asarray(settings["mean"]),
        jnp.asarray(settings["sd"]),
        settings["layout"],
        embed,
        jnp.asarray(settings["low"]),
        jnp.asarray(settings["high"]),
    )
    if settings["dequantise"] == "uniform":
        return FlowModel(density)
    return FlowModel(density, VariationalDequantiser(settings["features"], rngs=rngs))
