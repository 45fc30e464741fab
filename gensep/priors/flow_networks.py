"""Flows: the one table that knows how each is built from plain settings."""

from typing import TYPE_CHECKING, NamedTuple

from gensep.cli.records import Json

if TYPE_CHECKING:
    from flax import nnx

    from flows import Bijection, Density, VariationalDequantiser

# `settings` of a prior file: `architecture`, `shape` of an example [H, W, C], `layout`, `features`
# (size of the last axis of the data), `mean`, `sd`, `low` and `high` of the training data,
# `embedding` of sigma (0: a flow of one level) and its `floor`, `logit` (0 for none), `dequantise`,
# and what the row of the architecture reads
Settings = Json


class FlowModel(NamedTuple):
    """What is trained: a density and, for integer data, perhaps the noise that dequantises them."""

    density: "Density"
    dequantiser: "VariationalDequantiser | None" = None  # None: uniform noise


class Architecture(NamedTuple):
    """A function of `flows` that builds a flow, and the settings that it takes."""

    function: str
    sizes: tuple[str, ...]  # in the order of the function's parameters, after the shape
    others: dict[str, str] = {}  # parameter -> setting

    def build(self, settings: Settings, rngs: "nnx.Rngs") -> "Bijection":
        """Build the untrained flow.

        Kernels and squeezes act in both dimensions, or in time alone if bands are channels.
        """
        import flows

        across, factor = settings["shape"][1] > 1, settings.get("squeeze", 2)
        return getattr(flows, self.function)(
            tuple(settings["shape"]),
            *(settings[name] for name in self.sizes),
            **{parameter: settings[name] for parameter, name in self.others.items()},
            embedding=settings["embedding"],
            kernel=(3, 3) if across else (3, 1),
            squeeze=(factor, factor if across else 1),
            rngs=rngs,
        )


# a new flow is one file in flows/ and one row here
FLOWS = {
    "glow": Architecture(
        "glow", ("scales", "depth", "width"), {"prior": "latents", "dtype": "dtype"}
    ),
    "realnvp": Architecture("realnvp", ("scales", "blocks", "width")),
    "flowpp": Architecture("flowpp", ("width", "blocks", "components")),
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
    flow = FLOWS[settings["architecture"]].build(settings, rngs)
    if settings["logit"]:
        flow = Chain(Logit(settings["logit"]), flow)
    size, embed = settings["embedding"], None
    if size:
        embed = SigmaEmbedding(size, settings["floor"], rngs=rngs)
    mean, sd, low, high = (jnp.asarray(settings[name]) for name in ("mean", "sd", "low", "high"))
    density = Density(flow, mean, sd, settings["layout"], embed, low, high)
    if settings["dequantise"] == "uniform":
        return FlowModel(density)
    return FlowModel(density, VariationalDequantiser(settings["features"], rngs=rngs))
