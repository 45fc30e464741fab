"""A gated convolution network over time, with mel bands as channels."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from score.broadcast import align_last
from score.layers import embed_log_sigma, layer_norm

DILATIONS = (1, 2, 4, 8)
Saved = tuple[jax.Array, jax.Array]  # x and kernel, for the gradient


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    """Convolve `x: [batch, frames, in]` with `kernel: [taps, in, out]`, zeros beyond the ends.

    The number of taps is odd. The gradient is written out as a convolution of the same kind: the
    one that XLA derives runs five times slower on CPUs inside loops, where samplers use it.
    """
    reach = dilation * (len(kernel) // 2)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1,),
        [(reach, reach)],
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )


def _forward(x: jax.Array, kernel: jax.Array, dilation: int) -> tuple[jax.Array, Saved]:
    return convolve(x, kernel, dilation), (x, kernel)


def _backward(dilation: int, saved: Saved, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    for_x = convolve(cotangent, jnp.flip(kernel, 0).swapaxes(1, 2), dilation)
    reach, frames = dilation * (len(kernel) // 2), x.shape[1]
    padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
    starts = range(0, 2 * reach + 1, dilation)
    for_kernel = [jnp.einsum("bti,bto->io", padded[:, i : i + frames], cotangent) for i in starts]
    return for_x, jnp.stack(for_kernel)


convolve.defvjp(_forward, _backward)


def _apply(layer: nnx.Conv, x: jax.Array, dilation: int = 1) -> jax.Array:
    """Apply the weights of `layer` with `convolve`."""
    assert layer.bias is not None
    return convolve(x, layer.kernel[...], dilation) + align_last(layer.bias[...], x)


class Block(nnx.Module):
    """x + W2 glu(conv(film(norm(x), sigma)))."""

    def __init__(self, width: int, embedding: int, dilation: int, *, rngs: nnx.Rngs):
        self.dilation = dilation
        self.film = nnx.Linear(embedding, 2 * width, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.conv = nnx.Conv(width, 2 * width, (3,), kernel_dilation=dilation, rngs=rngs)
        # zero weights, so that every block starts as the identity
        self.out = nnx.Linear(width, width, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
        """Return the block's output, shaped like `x: [batch, frames, width]`.

        `embedding: [batch, embedding]` describes the noise level.
        """
        scale, shift = jnp.split(self.film(embedding)[:, None], 2, -1)
        h = layer_norm(x) * (1 + scale) + shift
        h = _apply(self.conv, h, self.dilation)
        value, gate = jnp.split(h, 2, -1)
        return x + self.out(value * jax.nn.sigmoid(gate))


class Conv1dDenoiser(nnx.Module):
    """The raw network F(x, ln sigma) of an EDM denoiser on `[batch, frames, n_mels]`.

    It is convolutional in time: trained on short windows, it accepts any number of frames. The
    dilations 1, 2, 4, 8 repeat. Normalisation is per frame, so that no frame depends on the length
    of its window. The values per frame that leave it are as many as enter it, or `outputs`.
    """

    any_length = True

    def __init__(
        self,
        n_mels: int,
        width: int,
        blocks: int,
        embedding: int = 64,
        outputs: int | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        self.embedding = embedding
        self.embed1 = nnx.Linear(embedding, embedding, rngs=rngs)
        self.embed2 = nnx.Linear(embedding, embedding, rngs=rngs)
        self.enter = nnx.Conv(n_mels, width, (3,), rngs=rngs)
        self.blocks = nnx.List(
            [
                Block(width, embedding, DILATIONS[i % len(DILATIONS)], rngs=rngs)
                for i in range(blocks)
            ]
        )
        zeros, leaving = nnx.initializers.zeros, outputs or n_mels
        self.leave = nnx.Conv(width, leaving, (3,), kernel_init=zeros, rngs=rngs)

    def __call__(self, x: jax.Array, log_sigma: jax.Array) -> jax.Array:
        """Return F for `x: [batch, frames, n_mels]`, `log_sigma: [batch]`; shaped like x.

        With `outputs`, the last axis has that size.
        """
        embedding = embed_log_sigma(log_sigma, self.embedding, 8.0)
        embedding = jax.nn.silu(self.embed2(jax.nn.silu(self.embed1(embedding))))
        h = _apply(self.enter, x)
        for block in self.blocks:
            h = block(h, embedding)
        h = jax.nn.silu(layer_norm(h))
        return _apply(self.leave, h)
