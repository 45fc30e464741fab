"""Flow++ (Ho et al. 2019): mixture-of-logistics couplings with attention."""

from functools import partial

import jax.numpy as jnp
from flax import nnx

from flows.attention import AttentionNet
from flows.bijection import Bijection, Chain, Repeat
from flows.couplings import CHANNEL, CHECKERBOARD, MaskedCoupling
from flows.layers import ActNorm, InvertibleConv, Squeeze, squeezed
from flows.multiscale import Level
from flows.transforms import LogisticMixture


def flowpp(
    shape: tuple[int, int, int],
    width: int = 96,
    blocks: int = 4,
    components: int = 16,
    *,
    rngs: nnx.Rngs,
    kernel: tuple[int, int] = (3, 3),
    squeeze: tuple[int, int] = (2, 2),
    embedding: int = 0,
    heads: int = 4,
) -> Bijection:
    """Make 4 checkerboard couplings, squeeze, 2 channel and 3 checkerboard couplings.

    Nothing leaves early; every coupling comes after an ActNorm and a 1x1 convolution.

    Args:
        shape: of an example, `[H, W, C]`.
        width: channels of the coupling networks.
        blocks: of each network.
        components: of the mixtures.
        rngs: source of parameters.
        kernel: of the networks' convolutions.
        squeeze: down and across.
        embedding: size of the condition; 0 for an unconditional flow.
        heads: of the attention.

    Raises:
        ValueError: where the shape does not divide.
    """
    transform = LogisticMixture(components)

    def step(channels, key, kind, parity):
        rngs = nnx.Rngs(key)
        net = AttentionNet(
            channels,
            channels * transform.parameters,
            width,
            blocks,
            heads,
            kernel,
            embedding,
            rngs=rngs,
        )
        return Chain(
            ActNorm(channels, embedding, rngs=rngs),
            InvertibleConv(channels, rngs=rngs),
            MaskedCoupling(kind, transform, net, parity),
        )

    def couplings(channels: int, kinds: list[int], parities: list[int]) -> Bijection:
        return Repeat(
            partial(step, channels),
            rngs.params(),
            len(kinds),
            jnp.asarray(kinds),
            jnp.asarray(parities),
        )

    channels = squeezed(shape, squeeze)[2]
    inner = Chain(
        couplings(channels, [CHANNEL] * 2 + [CHECKERBOARD] * 3, [0, 1, 0, 1, 0]),
        ActNorm(channels, embedding, rngs=rngs),
    )
    return Chain(
        couplings(shape[2], [CHECKERBOARD] * 4, [0, 1, 0, 1]),
        Level(Squeeze(squeeze), inner, None, None),
    )
