"""RefineNet with dilated residual blocks, the network of NCSN (Song and Ermon 2019, 2020).

Images pass residual blocks at full and at half size, ever more dilated; refine blocks lead back
from the last: residual conv units (RCU), fusion of scales (MSF), chained residual pooling (CRP).
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from score.conv2d import Conv2d
from score.instance_norm import InstanceNormPlus

# channels -> a layer (x, level) -> like x
MakeNorm = Callable[[int], Any]


class RefineNet(nnx.Module):
    """Maps `[batch, height, width, channels]` and the number of the level to an image like it.

    With `levels` every norm is conditional and stands everywhere, and the pools are means (NCSN);
    without, the refine blocks have no norms, and their pools are maxima (NCSNv2).
    `compat` builds AudioSourceSep's: RCUs without activation, fewer biases, and its norms.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        levels: int | None,
        *,
        compat: bool = False,
        rngs: nnx.Rngs,
    ):
        norm = partial(InstanceNormPlus, levels=levels or 1, compat=compat, rngs=rngs)
        refine = partial(
            RefineBlock,
            norm=norm if levels else _no_norm,
            rngs=rngs,
            pool=mean_pool if levels else max_pool,
            activate=not compat,
        )

        def pair(inside: int, out: int, dilation: int = 1) -> nnx.List:
            block = partial(
                ResidualBlock,
                dilation=dilation,
                norm=norm,
                rngs=rngs,
                biased=not compat or dilation > 1,
            )
            first = block(inside, out, halve=inside != out, reshape=inside != out or dilation > 1)
            return nnx.List([first, block(out, out)])

        twice = 2 * width
        self.enter = Conv2d(channels, width, rngs=rngs)
        self.down = nnx.List(
            [pair(width, width), pair(width, twice), pair(twice, twice, 2), pair(twice, twice, 4)]
        )
        self.up = nnx.List(
            [
                refine([twice], twice),
                refine([twice, twice], twice),
                refine([twice, twice], width),
                refine([width, width], width, out_blocks=3),
            ]
        )
        self.norm = norm(width)
        self.leave = Conv2d(width, channels, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x: jax.Array, level: jax.Array) -> jax.Array:
        """Map `x: [batch, height, width, channels]`, `level: [batch]` -> like x."""
        h, sizes = self.enter(x), []
        for pair in self.down:
            for block in pair:
                h = block(h, level)
            sizes.append(h)
        h = self.up[0]([sizes[3]], level)
        for refine, side in zip(list(self.up)[1:], sizes[2::-1], strict=True):
            h = refine([side, h], level)
        return self.leave(jax.nn.elu(self.norm(h, level)))


class ResidualBlock(nnx.Module):
    """Shortcut + conv(elu(norm(conv(elu(norm(x)))))), at half the size if `halve`."""

    def __init__(
        self,
        channels: int,
        out: int,
        *,
        dilation: int,
        norm: MakeNorm,
        biased: bool,
        halve: bool = False,
        reshape: bool = False,
        rngs: nnx.Rngs,
    ):
        self.halve = halve
        self.norm1, self.norm2 = norm(channels), norm(channels)
        self.conv1 = Conv2d(channels, channels, 3, dilation, bias=biased, rngs=rngs)
        self.conv2 = Conv2d(channels, out, 3, dilation, bias=biased or halve, rngs=rngs)
        # a shortcut across another size is of one tap, one into a dilation has that dilation
        size = 1 if halve else 3
        self.shortcut = Conv2d(channels, out, size, dilation, rngs=rngs) if reshape else None

    def __call__(self, x: jax.Array, level: jax.Array) -> jax.Array:
        """Map `[batch, height, width, channels]` -> `[batch, height, width, out]`."""
        h = self.conv1(jax.nn.elu(self.norm1(x, level)))
        h = self.conv2(jax.nn.elu(self.norm2(h, level)))
        if self.halve:
            x, h = halve(x), halve(h)
        return h + (x if self.shortcut is None else self.shortcut(x))


class ResidualUnits(nnx.Module):
    """RCU: `blocks` times x + conv(elu(norm(conv(elu(norm(x)))))."""

    def __init__(
        self, channels: int, blocks: int, *, norm: MakeNorm, activate: bool, rngs: nnx.Rngs
    ):
        self.activate = activate
        self.norms = nnx.List([norm(channels) for _ in range(2 * blocks)])
        self.convs = nnx.List(
            [Conv2d(channels, channels, bias=False, rngs=rngs) for _ in range(2 * blocks)]
        )

    def __call__(self, x: jax.Array, level: jax.Array) -> jax.Array:
        """Map x -> like x."""
        h = x
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            h = norm(h, level)
            h = conv(jax.nn.elu(h) if self.activate else h)
            if i % 2:
                x = h = x + h
        return x


class RefineBlock(nnx.Module):
    """RCUs of every input, their fusion (MSF) at the largest size, CRP and RCUs of the sum."""

    def __init__(
        self,
        channels: Sequence[int],
        out: int,
        *,
        norm: MakeNorm,
        pool: Callable,
        activate: bool,
        out_blocks: int = 1,
        rngs: nnx.Rngs,
    ):
        units = partial(ResidualUnits, norm=norm, activate=activate, rngs=rngs)
        self.pool = pool
        self.enter = nnx.List([units(c, 2) for c in channels])
        fused = channels if len(channels) > 1 else []
        self.fuse_norms = nnx.List([norm(c) for c in fused])
        self.fuse_convs = nnx.List([Conv2d(c, out, rngs=rngs) for c in fused])
        self.pool_norms = nnx.List([norm(out) for _ in range(2)])
        self.pool_convs = nnx.List([Conv2d(out, out, bias=False, rngs=rngs) for _ in range(2)])
        self.leave = units(out, out_blocks)

    def __call__(self, inputs: Sequence[jax.Array], level: jax.Array) -> jax.Array:
        """Map images of any sizes -> `[batch, height, width, out]`, as large as the largest."""
        hs = [units(x, level) for units, x in zip(self.enter, inputs, strict=True)]
        if len(hs) > 1:
            layers = zip(self.fuse_norms, self.fuse_convs, hs, strict=True)
            hs = [conv(norm(h, level)) for norm, conv, h in layers]
            height, width = (max(h.shape[axis] for h in hs) for axis in (1, 2))
            hs = [_resize(h, height, width) for h in hs]
        x = h = jax.nn.elu(sum(hs[1:], hs[0]))
        for norm, conv in zip(self.pool_norms, self.pool_convs, strict=True):
            h = conv(self.pool(norm(h, level)))
            x = x + h
        return self.leave(x, level)


class NoNorm(nnx.Module):
    """Stands where there is no norm."""

    def __call__(self, x: jax.Array, level: jax.Array) -> jax.Array:
        """Give x."""
        return x


def _no_norm(channels: int) -> NoNorm:
    return NoNorm()


def _resize(x, height, width):
    if x.shape[1:3] == (height, width):
        return x
    return jax.image.resize(x, (len(x), height, width, x.shape[-1]), "bilinear")


def halve(x: jax.Array) -> jax.Array:
    """Give means of 2 x 2 places; an odd last row or column stands twice."""
    batch, height, width, channels = x.shape
    if height % 2 or width % 2:
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return x.reshape(batch, -(-height // 2), 2, -(-width // 2), 2, channels).mean((2, 4))


def mean_pool(x: jax.Array) -> jax.Array:
    """Give means over 5 x 5 places, of those inside the image, shaped like x."""
    return _pool(x, jnp.add, 0.0) / _pool(jnp.ones((1, *x.shape[1:3], 1)), jnp.add, 0.0)


def max_pool(x: jax.Array) -> jax.Array:
    """Give maxima over 5 x 5 places, shaped like x."""
    return _pool(x, jnp.maximum, -jnp.inf)


def _pool(x, combine, outside):
    """Combine shifted copies, along one axis and the other: quick to differentiate on CPUs."""
    for axis in (1, 2):
        ends = [(2, 2) if a == axis else (0, 0) for a in range(4)]
        padded = jnp.pad(x, ends, constant_values=outside)
        shifts = [jax.lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(5)]
        x = reduce(combine, shifts)
    return x
