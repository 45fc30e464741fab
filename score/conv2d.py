"""Convolution of images whose gradients are fast inside loops too."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from score.broadcast import align_last

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
Saved = tuple[jax.Array, jax.Array]  # x and kernel, for the gradient


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve2d(x: jax.Array, kernel: jax.Array, dilation: int = 1) -> jax.Array:
    """Convolve `x: [batch, height, width, in]` with `kernel: [rows, columns, in, out]`.

    The kernel has odd numbers of rows and columns; the stride is 1, and pixels outside the image
    are 0, so that the result is as large as x. Both gradients are written out as convolutions in
    the one layout for which XLA has fast code on CPUs: XLA brings the gradients that it derives
    itself into that layout only outside loops, and inside the loops of samplers they run 20 to 200
    times slower.
    """
    return _convolve(x, kernel, _reach(kernel.shape, dilation), dilation=dilation)


def _convolve(
    x: jax.Array, kernel: jax.Array, reach: tuple[int, int], *, stride: int = 1, dilation: int = 1
) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(r, r) for r in reach],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=DIMENSIONS,
    )


def _reach(shape: tuple[int, ...], dilation: int) -> tuple[int, int]:
    """Return how many rows and columns a kernel of `shape` covers on either side of its centre."""
    return dilation * (shape[0] // 2), dilation * (shape[1] // 2)


def _forward(x: jax.Array, kernel: jax.Array, dilation: int) -> tuple[jax.Array, Saved]:
    return convolve2d(x, kernel, dilation), (x, kernel)


def _backward(dilation: int, saved: Saved, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    for_x = convolve2d(cotangent, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), dilation)
    if kernel.shape[:2] == (1, 1):
        return for_x, jnp.einsum("bhwi,bhwo->io", x, cotangent)[None, None]
    # dL/dk[r] = sum_b,p x[b, p + dilation r] g[b, p] is a convolution, too: the channels of x take
    # the place of the batch, the batch that of the channels, and the dilation that of the stride
    for_kernel = _convolve(
        x.transpose(3, 1, 2, 0),
        cotangent.transpose(1, 2, 0, 3),
        _reach(kernel.shape, dilation),
        stride=dilation,
    )
    return for_x, for_kernel.transpose(1, 2, 0, 3)


convolve2d.defvjp(_forward, _backward)


class Conv2d(nnx.Module):
    """A layer of `convolve2d`; by default its initial weights have variance 1 / (3 fan_in)."""

    def __init__(
        self,
        channels: int,
        out: int,
        size: int = 3,
        dilation: int = 1,
        *,
        bias: bool = True,
        kernel_init: nnx.Initializer | None = None,
        rngs: nnx.Rngs,
    ):
        # small weights, because RefineNet sums dozens of branches and U-Nets sum their skips
        init = kernel_init or nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        self.kernel = nnx.Param(init(rngs.params(), (size, size, channels, out), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(out)) if bias else None
        self.dilation = dilation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[batch, height, width, channels]` to `[batch, height, width, out]`."""
        y = convolve2d(x, self.kernel[...], self.dilation)
        return y if self.bias is None else y + align_last(self.bias[...], y)
