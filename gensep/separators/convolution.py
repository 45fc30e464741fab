"""Convolutions over spectrograms `[batch, bin, frame, channel]`, and their transposes.

Bins stand before frames so that frames and channels together are one axis of a matrix product.
Nothing is padded; the stride is along bins only. A transposed convolution with the weights of an
encoder is what DeepConvSep decodes with.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from gensep.runtime.errors import UserError


def size_after(size: int, taps: int, stride: int = 1) -> int:
    """Return how many positions a kernel of `taps` has on an axis of `size`.

    Raises:
        UserError: if there is none.
    """
    if size < taps:
        raise UserError(
            f"a convolution of {taps} taps does not fit into {size} bins or frames; this network "
            "needs a larger --n_fft"
        )
    return (size - taps) // stride + 1


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve `x: [batch, bin, frame, in]` with `kernel: [bin taps, frame taps, in, out]`.

    The kernel moves by `stride` bins and one frame, and only where it fits wholly. All is written
    as products of large matrices: on CPUs the gradients of XLA's own convolutions are many times
    slower, and inside loops the convolutions as well.
    """
    rows, columns, inputs, outputs = kernel.shape
    x, kernel = _unfold(x, kernel, stride)
    frames = size_after(x.shape[2], columns)
    if rows == 1 and x.shape[1] > 1:  # many bins: one matrix for all frames at once
        matrix = _over_frames(kernel, x.shape[2], frames)
        y = x.reshape(*x.shape[:2], -1) @ matrix
        return y.reshape(*x.shape[:2], frames, outputs)
    # all taps of all frames first, then sums along diagonals
    taps = x @ kernel.swapaxes(0, 1).reshape(-1, columns * outputs)
    taps = taps.reshape(*taps.shape[:3], columns, outputs)
    return sum(taps[:, :, k : k + frames, k] for k in range(1, columns)) + taps[:, :, :frames, 0]


def transposed(y: jax.Array, kernel: jax.Array, bins: int, stride: int = 1) -> jax.Array:
    """Apply the transpose of `convolve`: `[batch, bin, frame, out]` to `[batch, bins, frame, in]`.

    Bins that the kernel did not reach are 0.
    """
    frames = y.shape[2] + kernel.shape[1] - 1
    x = jnp.zeros((len(y), bins, frames, kernel.shape[2]), y.dtype)
    return jax.vjp(lambda x: convolve(x, kernel, stride), x)[1](y)[0]


def _unfold(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, jax.Array]:
    """Gather the bins that each position of the kernel sees in the last axis.

    Return `[batch, position, frame, taps x in]` and the kernel as `[frame taps, taps x in, out]`.
    """
    batch, bins, frames, inputs = x.shape
    rows, columns, _, outputs = kernel.shape
    positions = size_after(bins, rows, stride)
    blocks = -(-rows // stride)  # of `stride` bins each
    if positions == 1:
        x = x[:, :rows].swapaxes(1, 2)
    elif rows > 1 or stride > 1:
        kernel = jnp.pad(kernel, ((0, blocks * stride - rows), (0, 0), (0, 0), (0, 0)))
        whole = (positions + blocks - 1) * stride
        x = jnp.pad(x, ((0, 0), (0, max(0, whole - bins)), (0, 0), (0, 0)))[:, :whole]
        x = x.reshape(batch, -1, stride, frames, inputs).swapaxes(2, 3)
        x = jnp.stack([x[:, i : i + positions] for i in range(blocks)], 3)
    x = x.reshape(batch, positions, frames, -1)
    return x, kernel.swapaxes(0, 1).reshape(columns, -1, outputs)


def _over_frames(kernel: jax.Array, frames: int, positions: int) -> jax.Array:
    """Return the matrix `[frames x in, positions x out]` of a `kernel: [frame taps, in, out]`."""
    rest = positions - 1
    columns = [jnp.pad(kernel, ((i, rest - i), (0, 0), (0, 0))) for i in range(positions)]
    return jnp.stack(columns, 2).reshape(frames * kernel.shape[1], -1)


class Convolution(nnx.Module):
    """A convolution with a bias, or with several that add up, as in DeepConvSep."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        taps: tuple[int, int],
        stride: int = 1,
        biases: int = 1,
        *,
        rngs: nnx.Rngs,
    ):
        start = nnx.initializers.glorot_uniform()
        self.stride = stride
        self.kernel = nnx.Param(start(rngs.params(), (*taps, inputs, outputs)))
        self.biases = nnx.List([nnx.Param(jnp.zeros(outputs)) for _ in range(biases)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return `[batch, bin, frame, out]` for `x: [batch, bin, frame, in]`."""
        y = convolve(x, self.kernel[...], self.stride)
        for bias in self.biases:
            y = y + bias[...][None, None, None]
        return y

    def transpose(self, y: jax.Array, bins: int) -> jax.Array:
        """Return `[batch, bins, frame, in]` for `y: [batch, bin, frame, out]`, without biases."""
        return transposed(y, self.kernel[...], bins, self.stride)
