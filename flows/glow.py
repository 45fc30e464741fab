"""Glow (Kingma and Dhariwal 2018), for images or for sequences of bands."""

from functools import partial

import jax
from flax import nnx

from flows.bijection import Bijection, Chain, Repeat
from flows.couplings import HalfCoupling
from flows.layers import ActNorm, InvertibleConv, Squeeze, squeezed
from flows.multiscale import Level, make_prior
from flows.networks import ConvNet
from flows.transforms import Affine, Transform


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
    transform: Transform | None = None,
    dtype: str = "float32",
) -> Bijection:
    """Build `levels` x (squeeze, `steps` x (ActNorm, 1x1 convolution, coupling), split).

    Args:
        shape: shape of an example, `[H, W, C]`.
        levels: number of scales.
        steps: number of steps per scale; they are stacked and run by a scan.
        width: number of channels of the coupling networks.
        rngs: random keys of the initial parameters.
        kernel: kernel size of the networks' outer convolutions; (3, 1) where bands are channels.
        squeeze: factors along height and width at every scale; (2, 1) where bands are channels.
        prior: prior of the channels that leave, conv or free (see `flows.multiscale.make_prior`).
        embedding: size of the condition; 0 for an unconditional flow.
        transform: transform of the couplings, by default affine.
        dtype: precision inside the coupling networks; bfloat16 makes sampling less exact.

    Raises:
        ValueError: if height or width is not divisible by the squeeze at some scale.
    """
    transform = transform or Affine()

    network = partial(ConvNet, width=width, kernel=kernel, embedding=embedding, dtype=dtype)

    def step(channels: int, key: jax.Array) -> Bijection:
        rngs = nnx.Rngs(key)
        net = network(channels // 2, channels // 2 * transform.parameters, rngs=rngs)
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
