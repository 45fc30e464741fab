"""Networks of score priors: the one table that knows how each is built and what it is told.

A network is a denoiser, `(x, sigma) -> E[x0 | x]` for `x: [batch, ..., features]`.
"""

from collections.abc import Callable
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


def _edm(net: "nnx.Module", settings: Settings) -> Denoiser:
    """Wrap a raw network F(x, ln sigma) as an EDM denoiser of data with this mean and scale."""
    import jax.numpy as jnp

    from score import EDM

    mean = jnp.asarray(settings.get("mean", jnp.zeros(features(settings))))
    return EDM(net, mean, jnp.asarray(settings.get("sigma_data", 0.5)))


def _conv1d(settings: Settings, rngs: "nnx.Rngs") -> Denoiser:
    from score import Conv1dDenoiser

    net = Conv1dDenoiser(features(settings), settings["width"], settings["blocks"], rngs=rngs)
    return _edm(net, settings)


def _unet(settings: Settings, rngs: "nnx.Rngs") -> Denoiser:
    from score import UNet

    net = UNet(features(settings), settings["width"], settings["blocks"], rngs=rngs)
    return _edm(net, settings)


def _ncsnv1(settings: Settings, rngs: "nnx.Rngs") -> Denoiser:
    """Build the network of Song and Ermon 2019."""
    from score import NCSNv1

    own = {name: settings[name] for name in ("rescale", "compat")}
    return NCSNv1(settings["channels"], settings["width"], settings["sigmas"], **own, rngs=rngs)


def _ncsnv2(settings: Settings, rngs: "nnx.Rngs") -> Denoiser:
    """Build the network of Song and Ermon 2020."""
    from score import NCSNv2

    own = {name: settings[name] for name in ("rescale", "compat")}
    return NCSNv2(settings["channels"], settings["width"], **own, rngs=rngs)


# name -> its row; a new network is one file in score/ and one row here
NETWORKS: dict[str, Network] = {
    "conv1d": Network(_conv1d),
    "unet": Network(_unet),
    "ncsnv1": Network(_ncsnv1, ("channels", "rescale"), ("compat",), geometric=True),
    "ncsnv2": Network(_ncsnv2, ("channels", "rescale"), ("compat",)),
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
