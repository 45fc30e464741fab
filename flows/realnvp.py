"""RealNVP (Dinh et al. 2017)."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from flows.bijection import Bijection, Chain, Repeat
from flows.couplings import CHANNEL, CHECKERBOARD, MaskedCoupling
from flows.layers import ActNorm, Squeeze, squeezed
from flows.multiscale import Level, make_prior
from flows.networks import ResNet
from flows.transforms import Affine, Transform


def realnvp(
    shape: tuple[int, int, int],
    levels: int = 2,
    blocks: int = 4,
    width: int = 32,
    *,
    rngs: nnx.Rngs,
    kernel: tuple[int, int] = (3, 3),
    squeeze: tuple[int, int] = (2, 2),
    prior: str = "conv",
    embedding: int = 0,
    transform: Transform | None = None,
) -> Bijection:
    """Build (3 checkerboard couplings, squeeze, 3 channel couplings, split) for every scale.

    The last scale consists of 4 checkerboard couplings only.

    Args:
        shape: shape of an example, `[H, W, C]`.
        levels: number of scales, at least 1.
        blocks: number of residual blocks of a coupling network.
        width: number of channels of a coupling network.
        rngs: random keys of the initial parameters.
        kernel: kernel size of the networks' convolutions.
        squeeze: factors along height and width at every scale.
        prior: prior of the channels that leave, conv or free (see `flows.multiscale.make_prior`).
        embedding: size of the condition; 0 for an unconditional flow.
        transform: transform of the couplings, by default affine.

    Raises:
        ValueError: if height or width is not divisible by the squeeze at some scale.
    """
    transform = transform or Affine()
    network = partial(ResNet, width=width, blocks=blocks, kernel=kernel, embedding=embedding)
    make = partial(masked_steps, transform=transform, network=network, embedding=embedding)

    def level(shape: tuple[int, int, int], left: int) -> Bijection:
        if left == 1:
            steps = make(CHECKERBOARD, shape[2], 4, rngs.params())
            if prior == "conv":
                return Chain(steps, ActNorm(shape[2], embedding, rngs=rngs))
            return Level(Squeeze((1, 1)), steps, make_prior(prior, shape, 0, kernel, 0, rngs), None)
        height, across, channels = squeezed(shape, squeeze)
        leaving = channels // 2
        staying = channels - leaving
        outer = make(CHECKERBOARD, shape[2], 3, rngs.params())
        steps = make(CHANNEL, channels, 3, rngs.params())
        leaves = make_prior(prior, (height, across, leaving), staying, kernel, embedding, rngs)
        deeper = level((height, across, staying), left - 1)
        return Chain(outer, Level(Squeeze(squeeze), steps, leaves, deeper))

    return level(shape, levels)


def masked_steps(
    kind: int,
    channels: int,
    count: int,
    key: jax.Array,
    *,
    transform: Transform,
    network: Callable[..., ResNet],
    embedding: int,
) -> Repeat:
    """Build `count` x (ActNorm, masked coupling), with masks of alternating parity.

    `network` builds the network of a coupling from numbers of input and output channels.
    """

    def step(key: jax.Array, parity: jax.Array) -> Bijection:
        rngs = nnx.Rngs(key)
        net = network(channels, channels * transform.parameters, rngs=rngs)
        norm = ActNorm(channels, embedding, rngs=rngs)
        return Chain(norm, MaskedCoupling(kind, transform, net, parity))

    return Repeat(step, key, count, jnp.arange(count) % 2)
