"""RealNVP (Dinh et al. 2017)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from flows.bijection import Bijection, Chain, Repeat
from flows.couplings import CHANNEL, CHECKERBOARD, MaskedCoupling
from flows.layers import ActNorm, Squeeze, squeezed
from flows.multiscale import Level, make_prior
from flows.networks import ResNet
from flows.transforms import Affine


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
    transform: Any = None,
) -> Bijection:
    """Make (3 checkerboard couplings, squeeze, 3 channel couplings, split) and, at last, 4.

    Args:
        shape: of an example, `[H, W, C]`.
        levels: of scale, at least 1; the last has 4 checkerboard couplings alone.
        blocks: residual blocks of a coupling network.
        width: its channels.
        rngs: source of parameters.
        kernel: of its convolutions.
        squeeze: of every level, down and across.
        prior: of what leaves: conv or free (see `flows.multiscale.make_prior`).
        embedding: size of the condition; 0 for an unconditional flow.
        transform: of the couplings, by default affine.

    Raises:
        ValueError: where the shape does not divide.
    """
    transform = transform or Affine()
    make = partial(
        masked_steps,
        transform=transform,
        blocks=blocks,
        width=width,
        kernel=kernel,
        embedding=embedding,
    )
    if levels == 1:
        steps: Bijection = make(CHECKERBOARD, shape[2], 4, rngs.params())
        if prior == "conv":
            return Chain(steps, ActNorm(shape[2], embedding, rngs=rngs))
        return Level(Squeeze((1, 1)), steps, make_prior(prior, shape, 0, kernel, 0, rngs), None)
    inner = squeezed(shape, squeeze)
    leaving = inner[2] // 2
    outer = make(CHECKERBOARD, shape[2], 3, rngs.params())
    steps = make(CHANNEL, inner[2], 3, rngs.params())
    leaves = make_prior(prior, (*inner[:2], leaving), inner[2] - leaving, kernel, embedding, rngs)
    deeper = realnvp(
        (*inner[:2], inner[2] - leaving),
        levels - 1,
        blocks,
        width,
        rngs=rngs,
        kernel=kernel,
        squeeze=squeeze,
        prior=prior,
        embedding=embedding,
        transform=transform,
    )
    return Chain(outer, Level(Squeeze(squeeze), steps, leaves, deeper))


def masked_steps(
    kind: int,
    channels: int,
    count: int,
    key: jax.Array,
    *,
    transform: Any,
    blocks: int,
    width: int,
    kernel: tuple[int, int],
    embedding: int,
) -> Repeat:
    """Make `count` x (ActNorm, masked coupling), the mask changing sides."""

    def step(key: jax.Array, parity: jax.Array) -> Bijection:
        rngs = nnx.Rngs(key)
        net = ResNet(
            channels, channels * transform.parameters, width, blocks, kernel, embedding, rngs=rngs
        )
        return Chain(
            ActNorm(channels, embedding, rngs=rngs), MaskedCoupling(kind, transform, net, parity)
        )

    return Repeat(step, key, count, jnp.arange(count) % 2)
