"""Networks of score priors: the one table that knows how each is built from plain settings.

A network is a denoiser: `(x, sigma) -> E[x0 | x]` for `x: [batch, ..., features]`, with a method
`weight(sigma)`, the weight of its squared error in training.
"""

from collections.abc import Callable
from typing import Any

# settings of a prior file: `network`, `features` (size of the last axis: mel bands or channels),
# `mean` and `sigma_data` of the training data, and what the network's maker reads
Settings = dict[str, Any]


def _edm(net: Any, settings: Settings) -> Any:
    """Wrap a raw network F(x, ln sigma) as an EDM denoiser of data with this mean and scale."""
    import jax.numpy as jnp

    from score import EDM

    mean = jnp.asarray(settings.get("mean", jnp.zeros(features(settings))))
    return EDM(net, mean, jnp.asarray(settings.get("sigma_data", 0.5)))


def _conv1d(settings: Settings, rngs: Any) -> Any:
    from score import Conv1dDenoiser

    net = Conv1dDenoiser(features(settings), settings["width"], settings["blocks"], rngs=rngs)
    return _edm(net, settings)


def _unet(settings: Settings, rngs: Any) -> Any:
    from score import UNet

    net = UNet(features(settings), settings["width"], settings["blocks"], rngs=rngs)
    return _edm(net, settings)


def _ncsnv1(settings: Settings, rngs: Any) -> Any:
    from score import NCSNv1

    return NCSNv1(
        settings["channels"],
        settings["width"],
        settings["sigmas"],
        rescale=settings["rescale"],
        compat=settings["compat"],
        rngs=rngs,
    )


def _ncsnv2(settings: Settings, rngs: Any) -> Any:
    from score import NCSNv2

    return NCSNv2(
        settings["channels"],
        settings["width"],
        rescale=settings["rescale"],
        compat=settings["compat"],
        rngs=rngs,
    )


# name -> build the untrained denoiser from settings and nnx.Rngs
NETWORKS: dict[str, Callable[[Settings, Any], Any]] = {
    "conv1d": _conv1d,
    "unet": _unet,
    "ncsnv1": _ncsnv1,  # Song and Ermon 2019; knows the levels of a geometric schedule
    "ncsnv2": _ncsnv2,  # Song and Ermon 2020
}


def features(settings: Settings) -> int:
    """Give the size of the last axis; the first prior files called it `n_mels`."""
    return settings["features"] if "features" in settings else settings["n_mels"]


def make_denoiser(settings: Settings, seed: int = 0) -> Any:
    """Build an untrained denoiser; the first prior files name no network and hold a conv1d.

    Raises:
        KeyError: for a network that is not in the table or a setting that is missing.
    """
    from flax import nnx

    return NETWORKS[settings.get("network", "conv1d")](settings, nnx.Rngs(seed))
