"""The coupling network of Flow++: gated convolutions, and self-attention over all positions."""

import jax
import jax.numpy as jnp
from flax import nnx

from flows.bijection import Condition, replace
from flows.layers import ActNorm
from flows.networks import Conv

WAVES = 8  # number of sines and of cosines of the position, along each of height and width


class _Block(nnx.Module):
    """x + glu(conv(...)), then x + glu(attention(...)); both second terms are zero initially."""

    def __init__(
        self, width: int, heads: int, kernel: tuple[int, int], embedding: int, *, rngs: nnx.Rngs
    ):
        self.heads = heads
        self.norm1 = ActNorm(width, embedding, rngs=rngs)
        self.conv = Conv(width, width, kernel, rngs=rngs)
        self.norm2 = ActNorm(width, embedding, rngs=rngs)
        self.gate = Conv(width, 2 * width, rngs=rngs, zero=True)
        self.queries = Conv(width, 3 * width, rngs=rngs)
        self.mix = Conv(width, 2 * width, rngs=rngs, zero=True)

    def __call__(self, x: jax.Array, condition: Condition = None) -> jax.Array:
        h = self.conv(jax.nn.silu(self.norm1(x, condition)))
        x = x + _glu(self.gate(jax.nn.silu(self.norm2(h, condition))))
        b, height, across, width = x.shape
        qkv = self.queries(_layer_norm(x)).reshape(b, height * across, 3, self.heads, -1)
        mixed = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return x + _glu(self.mix(mixed.reshape(b, height, across, width)))

    def initialize(self, x: jax.Array, condition: Condition = None) -> "_Block":
        norm1, h = self.norm1.initialize(x, condition)
        norm2, _ = self.norm2.initialize(self.conv(jax.nn.silu(h)), condition)
        return replace(self, norm1=norm1, norm2=norm2)


class AttentionNet(nnx.Module):
    """Gated residual convolutions with self-attention (Ho et al. 2019, section 3.3)."""

    def __init__(
        self,
        inside: int,
        outside: int,
        width: int,
        blocks: int,
        heads: int = 4,
        kernel: tuple[int, int] = (3, 3),
        embedding: int = 0,
        *,
        rngs: nnx.Rngs,
    ):
        if width % heads:
            raise ValueError(f"expected a width divisible by {heads} heads, got {width}")
        self.enter = Conv(inside, width, kernel, rngs=rngs)
        self.place = Conv(4 * WAVES, width, rngs=rngs)
        self.blocks = nnx.List(
            [_Block(width, heads, kernel, embedding, rngs=rngs) for _ in range(blocks)]
        )
        self.norm = ActNorm(width, embedding, rngs=rngs)
        self.leave = Conv(width, outside, kernel, rngs=rngs, zero=True)

    def _enter(self, x: jax.Array) -> jax.Array:
        return self.enter(x) + self.place(_places(*x.shape[1:3]))

    def __call__(self, x: jax.Array, condition: Condition = None) -> jax.Array:
        """Return the output, `[batch, H, W, outside]`, for `x: [batch, H, W, inside]`."""
        h = self._enter(x)
        for block in self.blocks:
            h = block(h, condition)
        return self.leave(jax.nn.silu(self.norm(h, condition)))

    def initialize(self, x: jax.Array, condition: Condition = None) -> "AttentionNet":
        """Return this network with its norms set from their inputs for the batch x."""
        h, blocks = self._enter(x), []
        for block in self.blocks:
            blocks.append(block.initialize(h, condition))
            h = blocks[-1](h, condition)
        norm, _ = self.norm.initialize(h, condition)
        return replace(self, blocks=nnx.List(blocks), norm=norm)


def _places(height: int, across: int) -> jax.Array:
    """Return sines and cosines of every position, `[1, H, W, 4 WAVES]`."""
    frequency = (jnp.pi * 0.5 ** jnp.arange(WAVES))[None, None]
    down = jnp.arange(height)[:, None, None] * frequency + jnp.zeros((1, across, 1))
    along = jnp.arange(across)[None, :, None] * frequency + jnp.zeros((height, 1, 1))
    angles = jnp.concatenate([down, along], -1)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)[None]


def _glu(x: jax.Array) -> jax.Array:
    value, gate = jnp.split(x, 2, -1)
    return value * jax.nn.sigmoid(gate)


def _layer_norm(x: jax.Array) -> jax.Array:
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)
