"""Glow (Kingma and Dhariwal 2018), of images or of sequences of bands."""

from functools import partial
from typing import Any

import jax
from flax import nnx

from flows.bijection import Bijection, Chain, Repeat
from flows.couplings import HalfCoupling
from flows.layers import ActNorm, InvertibleConv, Squeeze, squeezed
from flows.multiscale import Level, make_prior
from flows.networks import ConvNet
from flows.transforms import Affine


def glow(
    shape: tuple[int, int, int],
    levels: int = 3,
    steps: int = 32,
    width: int = 512,
    *,
    rngs: nnx.Rngs,
    kernel: tuple[int, int] = (3, 3),
    squeeze: tuple[int, int] = (2, 2),
    prior: str = "conv",
    embedding: int = 0,
    transform: Any = None,
    dtype: str = "float32",
) -> Bijection:
    """Make `levels` x (squeeze, `steps` x (ActNorm, 1x1 convolution, coupling), split).

    Args:
        shape: of an example, `[H, W, C]`.
        levels: of scale.
        steps: a level; stacked, and run by a scan.
        width: channels of the coupling networks.
        rngs: source of parameters.
        kernel: of their outer convolutions; (3, 1) for bands that are channels.
        squeeze: of every level, down and across; (2, 1) for bands that are channels.
        prior: of what leaves: conv or free (see `flows.multiscale.make_prior`).
        embedding: size of the condition; 0 for an unconditional flow.
        transform: of the couplings, by default affine.
        dtype: of the inside of the coupling networks; bfloat16 makes sampling less exact.

    Raises:
        ValueError: where the shape does not divide.
    """
    transform = transform or Affine()

    def step(channels: int, key: jax.Array) -> Bijection:
        rngs = nnx.Rngs(key)
        net = ConvNet(
            channels // 2,
            channels // 2 * transform.parameters,
            width,
            kernel,
            embedding,
            rngs=rngs,
            dtype=dtype,
        )
        return Chain(
            ActNorm(channels, embedding, rngs=rngs),
            InvertibleConv(channels, rngs=rngs),
            HalfCoupling(channels, transform, net),
        )

    def level(shape: tuple[int, int, int], left: int) -> Bijection:
        height, across, channels = squeezed(shape, squeeze)
        leaving = channels // 2 if left > 1 else channels
        made: Bijection = Repeat(partial(step, channels), rngs.params(), steps)
        if left == 1 and prior == "conv":
            made = Chain(made, ActNorm(channels, embedding, rngs=rngs))
        leaves = make_prior(
            prior, (height, across, leaving), channels - leaving, kernel, embedding, rngs
        )
        deeper = level((height, across, channels - leaving), left - 1) if left > 1 else None
        return Level(Squeeze(squeeze), made, leaves, deeper)

    return level(shape, levels)
