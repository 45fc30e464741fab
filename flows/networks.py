"""Networks inside couplings: `(x, condition) -> [batch, H, W, out]`, initially zero.

Their activation is SiLU where the papers have ReLU: the score of a flow is a derivative of these
networks, and with ReLU it would have jumps and no useful derivative for samplers.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from flows.bijection import Condition, replace
from flows.broadcast import align_last
from flows.layers import ActNorm


class Conv(nnx.Module):
    """A convolution with an odd kernel and zeros outside the image, as products of matrices.

    XLA's own convolutions, and above all their gradients, are 4 to 15 times slower on CPUs inside
    loops, which run the steps of a flow. The kernel has the shape `[kh, kw, in, out]`.
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: tuple[int, int] = (1, 1),
        *,
        rngs: nnx.Rngs,
        zero: bool = False,
    ):
        shape = (*kernel, inside, outside)
        scale = 0.0 if zero else (kernel[0] * kernel[1] * inside) ** -0.5
        self.kernel = nnx.Param(scale * jax.random.normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(outside))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[batch, H, W, in]` to `[batch, H, W, out]`, in the precision of x."""
        kernel = self.kernel[...].astype(x.dtype)
        bias = align_last(self.bias[...].astype(x.dtype), x)
        kh, kw, inside, outside = kernel.shape
        if kh == kw == 1:
            return x @ kernel[0, 0] + bias
        if inside <= outside:  # gather the neighbours, then multiply
            return _around(x, kh, kw) @ kernel.reshape(-1, outside) + bias
        # multiply, then add the contributions of the neighbours
        spread = x @ kernel.transpose(2, 0, 1, 3).reshape(inside, -1)
        parts = jnp.split(spread, kh * kw, -1)
        return sum(_shifted(part, kh, kw)[i] for i, part in enumerate(parts)) + bias


def _shifted(x: jax.Array, kh: int, kw: int) -> list[jax.Array]:
    """Return x shifted to each element of a kernel, kh kw arrays `[batch, H, W, C]`."""
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
    return [padded[:, i : i + h, j : j + w] for i in range(kh) for j in range(kw)]


def _around(x: jax.Array, kh: int, kw: int) -> jax.Array:
    return jnp.concatenate(_shifted(x, kh, kw), -1)


class ConvNet(nnx.Module):
    """The network of Glow: 3x3, 1x1 and 3x3 convolutions; ActNorm normalises hidden layers."""

    def __init__(
        self,
        inside: int,
        outside: int,
        width: int,
        kernel: tuple[int, int] = (3, 3),
        embedding: int = 0,
        *,
        rngs: nnx.Rngs,
        dtype: str = "float32",
    ):
        self.dtype = dtype
        self.enter = Conv(inside, width, kernel, rngs=rngs)
        self.norm1 = ActNorm(width, embedding, rngs=rngs)
        self.middle = Conv(width, width, rngs=rngs)
        self.norm2 = ActNorm(width, embedding, rngs=rngs)
        self.leave = Conv(width, outside, kernel, rngs=rngs, zero=True)

    def __call__(self, x: jax.Array, condition: Condition = None) -> jax.Array:
        """Return the output for x, in the precision of x; hidden layers have `dtype`."""
        h = self.enter(x.astype(self.dtype))
        h = jax.nn.silu(self.norm1(h, condition)).astype(self.dtype)
        h = self.middle(h)
        h = jax.nn.silu(self.norm2(h, condition)).astype(self.dtype)
        return self.leave(h).astype(x.dtype)

    def initialize(self, x: jax.Array, condition: Condition = None) -> "ConvNet":
        """Return this network with its norms set from their inputs for the batch x."""
        norm1, h = self.norm1.initialize(self.enter(x), condition)
        norm2, _ = self.norm2.initialize(self.middle(jax.nn.silu(h)), condition)
        return replace(self, norm1=norm1, norm2=norm2)


class _Residual(nnx.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); the second convolution is initially zero."""

    def __init__(self, width: int, kernel: tuple[int, int], embedding: int, *, rngs: nnx.Rngs):
        self.norm1 = ActNorm(width, embedding, rngs=rngs)
        self.conv1 = Conv(width, width, kernel, rngs=rngs)
        self.norm2 = ActNorm(width, embedding, rngs=rngs)
        self.conv2 = Conv(width, width, kernel, rngs=rngs, zero=True)

    def __call__(self, x: jax.Array, condition: Condition = None) -> jax.Array:
        h = self.conv1(jax.nn.silu(self.norm1(x, condition)))
        return x + self.conv2(jax.nn.silu(self.norm2(h, condition)))

    def initialize(self, x: jax.Array, condition: Condition = None) -> "_Residual":
        norm1, h = self.norm1.initialize(x, condition)
        norm2, _ = self.norm2.initialize(self.conv1(jax.nn.silu(h)), condition)
        return replace(self, norm1=norm1, norm2=norm2)


class ResNet(nnx.Module):
    """The residual network of RealNVP, with ActNorm in place of weight normalisation."""

    def __init__(
        self,
        inside: int,
        outside: int,
        width: int,
        blocks: int,
        kernel: tuple[int, int] = (3, 3),
        embedding: int = 0,
        *,
        rngs: nnx.Rngs,
    ):
        self.enter = Conv(inside, width, kernel, rngs=rngs)
        self.blocks = nnx.List(
            [_Residual(width, kernel, embedding, rngs=rngs) for _ in range(blocks)]
        )
        self.norm = ActNorm(width, embedding, rngs=rngs)
        self.leave = Conv(width, outside, rngs=rngs, zero=True)

    def __call__(self, x: jax.Array, condition: Condition = None) -> jax.Array:
        """Return the output for x."""
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, condition)
        return self.leave(jax.nn.silu(self.norm(h, condition)))

    def initialize(self, x: jax.Array, condition: Condition = None) -> "ResNet":
        """Return this network with its norms set from their inputs for the batch x."""
        h, blocks = self.enter(x), []
        for block in self.blocks:
            blocks.append(block.initialize(h, condition))
            h = blocks[-1](h, condition)
        norm, _ = self.norm.initialize(h, condition)
        return replace(self, blocks=nnx.List(blocks), norm=norm)
