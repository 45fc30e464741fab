"""A small U-Net for images, which works at a half and at a quarter of their size."""

import jax
import jax.numpy as jnp
from flax import nnx

from score.conv2d import Conv2d
from score.layers import embed_log_sigma, layer_norm

HEADS = 4
ZEROS = nnx.initializers.zeros


class Block(nnx.Module):
    """x + conv(silu(film(norm(conv(silu(norm(x)))), sigma)))."""

    def __init__(self, width: int, embedding: int, *, rngs: nnx.Rngs):
        self.conv1 = _conv(width, width, rngs)
        self.film = nnx.Linear(embedding, 2 * width, kernel_init=ZEROS, rngs=rngs)
        # zero weights, so that every block starts as the identity
        self.conv2 = Conv2d(width, width, kernel_init=ZEROS, rngs=rngs)

    def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
        """Return the block's output, shaped like `x: [batch, H, W, width]`.

        `embedding: [batch, embedding]` describes the noise level.
        """
        scale, shift = jnp.split(self.film(embedding)[:, None, None], 2, -1)
        h = self.conv1(jax.nn.silu(layer_norm(x)))
        h = layer_norm(h) * (1 + scale) + shift
        return x + self.conv2(jax.nn.silu(h))


class Attention(nnx.Module):
    """x + out(attention over all pixels of norm(x))."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, kernel_init=ZEROS, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the output, shaped like `x: [batch, H, W, width]`."""
        batch, height, width, channels = x.shape
        h = self.qkv(layer_norm(x)).reshape(batch, height * width, 3, HEADS, -1)
        mixed = jax.nn.dot_product_attention(h[:, :, 0], h[:, :, 1], h[:, :, 2])
        return x + self.out(mixed.reshape(x.shape))


class UNet(nnx.Module):
    """The raw network F(x, ln sigma) of an EDM denoiser on `[batch, H, W, C]`.

    H and W must be divisible by 4. Blocks of 2 x 2 pixels become channels first, so that all
    convolutions run at half the size or, with twice the channels, at a quarter: for small pictures
    a few layers are then enough to see the whole.
    """

    def __init__(
        self, channels: int, width: int, blocks: int, embedding: int = 128, *, rngs: nnx.Rngs
    ):
        self.embedding = embedding
        self.embed1 = nnx.Linear(embedding, embedding, rngs=rngs)
        self.embed2 = nnx.Linear(embedding, embedding, rngs=rngs)
        self.enter = _conv(4 * channels, width, rngs)

        def level(width: int, blocks: int) -> nnx.List:
            return nnx.List([Block(width, embedding, rngs=rngs) for _ in range(blocks)])

        self.down = level(width, blocks)
        self.narrow = nnx.Linear(4 * width, 2 * width, rngs=rngs)
        self.middle = level(2 * width, 2 * blocks)
        self.attention = Attention(2 * width, rngs=rngs)
        self.widen = nnx.Linear(2 * width, 4 * width, rngs=rngs)
        self.up = level(width, blocks)
        self.leave = Conv2d(width, 4 * channels, kernel_init=ZEROS, rngs=rngs)

    def __call__(self, x: jax.Array, log_sigma: jax.Array) -> jax.Array:
        """Return F for `x: [batch, H, W, C]`, `log_sigma: [batch]`; shaped like x."""
        embedding = embed_log_sigma(log_sigma, self.embedding, 8.0)
        embedding = jax.nn.silu(self.embed2(jax.nn.silu(self.embed1(embedding))))
        h = self.enter(squeeze(x))
        for block in self.down:
            h = block(h, embedding)
        skip = h
        h = self.narrow(squeeze(h))
        for i, block in enumerate(self.middle):
            h = block(h, embedding)
            if i == len(self.middle) // 2 - 1:
                h = self.attention(h)
        h = skip + unsqueeze(self.widen(h))
        for block in self.up:
            h = block(h, embedding)
        return unsqueeze(self.leave(jax.nn.silu(layer_norm(h))))


def squeeze(x: jax.Array) -> jax.Array:
    """Turn blocks of 2 x 2 pixels into channels: `[batch, H, W, C]` to `[batch, H/2, W/2, 4 C]`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, 4 * channels)


def unsqueeze(x: jax.Array) -> jax.Array:
    """Undo `squeeze`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)


def _conv(channels: int, out: int, rngs: nnx.Rngs) -> Conv2d:
    """Build a layer that keeps the variance, for inputs that are normalised."""
    return Conv2d(channels, out, kernel_init=nnx.initializers.lecun_normal(), rngs=rngs)
