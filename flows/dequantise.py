"""Dequantisation: noise added to integers, so that a density can be fitted to them."""

import jax
import jax.numpy as jnp
from flax import nnx

from flows.bijection import Bijection, Chain, Repeat, initialize, replace, sum_elements
from flows.couplings import CHECKERBOARD, MaskedCoupling
from flows.layers import ActNorm
from flows.networks import ResNet
from flows.transforms import Affine

LEVELS = 256


def bits_per_dim(nll: jax.Array, dims: int) -> jax.Array:
    """Return bits per dimension of integers v in 0..255 for `nll` = -ln p(x) + ln q(u) in nats.

    x = (v + u) / 256, so that the density of x is 256 times the density of v + u in each of the
    `dims` dimensions; this accounts for the added 8 bits.
    """
    return nll / (dims * jnp.log(2.0)) + jnp.log2(LEVELS)


def uniform(key: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return x = (v + u) / 256 with u uniform in [0, 1), and ln q(u) = 0, for `v: [batch, ...]`."""
    return (v + jax.random.uniform(key, v.shape)) / LEVELS, jnp.zeros(len(v))


class VariationalDequantiser(nnx.Module):
    """u ~ q(u | v): a flow from noise to (0, 1) given the image v (Ho et al. 2019, section 3.1)."""

    def __init__(
        self,
        channels: int,
        width: int = 32,
        steps: int = 4,
        blocks: int = 2,
        context: int = 16,
        *,
        rngs: nnx.Rngs,
    ):
        self.context = ResNet(channels, context, width, blocks, rngs=rngs)
        transform = Affine()

        def step(key: jax.Array, parity: jax.Array) -> Bijection:
            rngs = nnx.Rngs(key)
            net = ResNet(
                channels, channels * transform.parameters, width, 1, embedding=context, rngs=rngs
            )
            return Chain(
                ActNorm(channels, context, rngs=rngs),
                MaskedCoupling(CHECKERBOARD, transform, net, parity),
            )

        self.flow = Repeat(step, rngs.params(), steps, jnp.arange(steps) % 2)

    def __call__(self, key: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return x = (v + u) / 256 and ln q(u | v), `[batch]`, for integers `[batch, H, W, C]`."""
        noise = jax.random.normal(key, v.shape)
        raw, logdet = self.flow.forward(noise, self.context(_centred(v)))
        slope = jax.nn.log_sigmoid(raw) + jax.nn.log_sigmoid(-raw)
        density = sum_elements(-(noise**2 + jnp.log(2 * jnp.pi)) / 2 - slope) - logdet
        return (v + jax.nn.sigmoid(raw)) / LEVELS, density

    def initialize(self, key: jax.Array, v: jax.Array) -> "VariationalDequantiser":
        """Return this dequantiser with its norms initialised for the images v."""
        context = self.context.initialize(_centred(v))
        noise = jax.random.normal(key, v.shape)
        flow = initialize(self.flow, noise, context(_centred(v)))
        return replace(self, context=context, flow=flow)


def _centred(v: jax.Array) -> jax.Array:
    return v / (LEVELS / 2) - 1.0
