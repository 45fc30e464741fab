"""Flow++ (Ho et al. 2019): mixture-of-logistics couplings with attention."""

from functools import partial

import jax
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
    """Build 4 checkerboard couplings, a squeeze, then 2 channel and 3 checkerboard couplings.

    All channels pass all layers. Every coupling follows an ActNorm and a 1x1 convolution.

    Args:
        shape: shape of an example, `[H, W, C]`.
        width: number of channels of the coupling networks.
        blocks: number of blocks of each network.
        components: number of components of the mixtures of logistics.
        rngs: random keys of the initial parameters.
        kernel: kernel size of the networks' convolutions.
        squeeze: factors of the squeeze along height and width.
        embedding: size of the condition; 0 for an unconditional flow.
        heads: number of attention heads.

    Raises:
        ValueError: if height or width is not divisible by the squeeze.
    """
    transform = LogisticMixture(components)
    network = partial(
        AttentionNet, width=width, blocks=blocks, heads=heads, kernel=kernel, embedding=embedding
    )

    def step(channels: int, key: jax.Array, kind: jax.Array, parity: jax.Array) -> Bijection:
        rngs = nnx.Rngs(key)
        net = network(channels, channels * transform.parameters, rngs=rngs)
        return Chain(
            ActNorm(channels, embedding, rngs=rngs),
            InvertibleConv(channels, rngs=rngs),
            MaskedCoupling(kind, transform, net, parity),
        )

    def couplings(channels: int, kinds: list[int], parities: list[int]) -> Bijection:
        varied = jnp.asarray(kinds), jnp.asarray(parities)
        return Repeat(partial(step, channels), rngs.params(), len(kinds), *varied)

    channels = squeezed(shape, squeeze)[2]
    inner = Chain(
        couplings(channels, [CHANNEL] * 2 + [CHECKERBOARD] * 3, [0, 1, 0, 1, 0]),
        ActNorm(channels, embedding, rngs=rngs),
    )
    return Chain(
        couplings(shape[2], [CHECKERBOARD] * 4, [0, 1, 0, 1]),
        Level(Squeeze(squeeze), inner, None, None),
    )
