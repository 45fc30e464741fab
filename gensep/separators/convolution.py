"""Convolutions over spectrograms `[batch, bin, frame, channel]`, and their transposes.

Bins stand before frames so that frames and channels together are one axis of a matrix product.
Nothing is padded; the stride is along bins only. A transposed convolution with the weights of an
encoder is what DeepConvSep decodes with.
"""

import jax
import jax.numpy as jnp
from flax import nnx

AXES = ("NHWC", "HWIO", "NHWC")  # of jax.lax, for bins and frames


def size_after(size: int, taps: int, stride: int = 1) -> int:
    """Return how many positions a kernel of `taps` has on an axis of `size`."""
    return (size - taps) // stride + 1


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve `x: [batch, bin, frame, in]` with `kernel: [bin taps, frame taps, in, out]`.

    The kernel moves by `stride` bins and one frame, and only where it fits wholly.
    """
    return jax.lax.conv_general_dilated(x, kernel, (stride, 1), "VALID", dimension_numbers=AXES)


def transposed(y: jax.Array, kernel: jax.Array, bins: int, stride: int = 1) -> jax.Array:
    """Apply the transpose of `convolve`: `[batch, bin, frame, out]` to `[batch, bins, frame, in]`.

    Bins that the kernel did not reach are 0.
    """
    rows, columns = kernel.shape[:2]
    rest = bins - ((y.shape[1] - 1) * stride + rows)
    return jax.lax.conv_general_dilated(
        y,
        jnp.flip(kernel, (0, 1)).swapaxes(2, 3),
        (1, 1),
        ((rows - 1, rows - 1 + rest), (columns - 1, columns - 1)),
        lhs_dilation=(stride, 1),
        dimension_numbers=AXES,
    )


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
