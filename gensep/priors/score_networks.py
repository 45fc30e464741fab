"""Networks of score priors: the one table that knows how each is built and what it is told.

A network is a denoiser, `(x, sigma) -> E[x0 | x]` for `x: [batch, ..., features]`.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gensep.cli.records import Json

if TYPE_CHECKING:  # commands read the table for their options, without waiting for JAX
    import jax
    from flax import nnx

# `settings` of a prior file: `network`, `features` (size of the last axis: mel bands or channels),
# `mean` and `sigma_data` of the training data, and what the row of the network reads
Settings = Json


class Denoiser(Protocol):
    """What a network is: an estimate of the clean examples, with a weight for its training."""

    def __call__(self, x: "jax.Array", sigma: "jax.Array") -> "jax.Array":
        """Return E[x0 | x], shaped like `x: [batch, ..., features]`, at `sigma: [batch]` or []."""

    def weight(self, sigma: "jax.Array") -> "jax.Array":
        """Return the weight of the squared error in training, shaped like sigma."""


Build = Callable[[Settings, "nnx.Rngs"], Denoiser]


class Network(NamedTuple):
    """A row of the table: how a denoiser is built, and which settings only some networks have."""

    build: Build
    of_form: tuple[str, ...] = ()  # settings that are members of the form of the data
    of_options: tuple[str, ...] = ()  # settings that are options of gensep.train_ncsn
    geometric: bool = False  # knows the levels of a geometric schedule (`sigmas`) and no others


def _edm(name: str, settings: Settings, rngs: "nnx.Rngs") -> Denoiser:
    """Build a network F(x, ln sigma) of `score` as an EDM denoiser (Karras et al. 2022)."""
    import jax.numpy as jnp

    import score

    net = getattr(score, name)(features(settings), settings["width"], settings["blocks"], rngs=rngs)
    mean = jnp.asarray(settings.get("mean", jnp.zeros(features(settings))))
    return score.EDM(net, mean, jnp.asarray(settings.get("sigma_data", 0.5)))


def _ncsn(name: str, settings: Settings, rngs: "nnx.Rngs") -> Denoiser:
    """Build a network of Song and Ermon, of 2019 (NCSNv1, of fixed levels) or 2020 (NCSNv2)."""
    import score

    levels = [settings["sigmas"]] if name == "NCSNv1" else []
    own = {option: settings[option] for option in ("rescale", "compat")}
    sizes = settings["channels"], settings["width"]
    return getattr(score, name)(*sizes, *levels, **own, rngs=rngs)


OF_FORM = "channels", "rescale"
# name -> its row; a new network is one file in score/ and one row here
NETWORKS: dict[str, Network] = {
    "conv1d": Network(partial(_edm, "Conv1dDenoiser")),
    "unet": Network(partial(_edm, "UNet")),
    "ncsnv1": Network(partial(_ncsn, "NCSNv1"), OF_FORM, ("compat",), geometric=True),
    "ncsnv2": Network(partial(_ncsn, "NCSNv2"), OF_FORM, ("compat",)),
}


def features(settings: Settings) -> int:
    """Return the size of the last axis; the first prior files called it `n_mels`."""
    return settings["features"] if "features" in settings else settings["n_mels"]


def make_denoiser(settings: Settings, seed: int = 0) -> Denoiser:
    """Build an untrained denoiser; the first prior files name no network and hold a conv1d.

    Raises:
        KeyError: for a network that is not in the table or a setting that is missing.
    """
    from flax import nnx

    return NETWORKS[settings.get("network", "conv1d")].build(settings, nnx.Rngs(seed))
