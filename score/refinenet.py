"""RefineNet with dilated residual blocks, the network of NCSN (Song and Ermon 2019, 2020).

Images pass residual blocks at full and at half size with increasing dilation. Refine blocks then
combine the results, from the last to the first, by residual convolution units (RCU), multi-scale
fusion (MSF) and chained residual pooling (CRP).
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
from flax import nnx

from score.conv2d import Conv2d
from score.instance_norm import InstanceNormPlus

Pool = Callable[[jax.Array], jax.Array]
# number of channels -> a layer (x, level) -> like x
MakeNorm = Callable[[int], nnx.Module]


class RefineNet(nnx.Module):
    """A network from images and the index of their noise level to images of the same shape.

    With `levels` all blocks have norms, conditional on the level, and pools are means (NCSN).
    Without, the refine blocks have no norms, and their pools are maxima (NCSNv2). `compat` builds
    the network of AudioSourceSep: RCUs without activation, fewer biases, and other norms.
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
        """Return the output for `x: [batch, height, width, channels]`, `level: [batch]`, like x."""
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
    """shortcut(x) + conv(elu(norm(conv(elu(norm(x)))))), at half the size if `halve`."""

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
        # a shortcut to half the size has one tap; one into a dilated block has the same dilation
        size = 1 if halve else 3
        self.shortcut = Conv2d(channels, out, size, dilation, rngs=rngs) if reshape else None

    def __call__(self, x: jax.Array, level: jax.Array) -> jax.Array:
        """Map `[batch, height, width, channels]` to `[batch, height, width, out]`."""
        h = self.conv1(jax.nn.elu(self.norm1(x, level)))
        h = self.conv2(jax.nn.elu(self.norm2(h, level)))
        if self.halve:
            x, h = halve(x), halve(h)
        return h + (x if self.shortcut is None else self.shortcut(x))


class ResidualUnits(nnx.Module):
    """RCU: `blocks` times x + conv(elu(norm(conv(elu(norm(x))))))."""

    def __init__(
        self, channels: int, blocks: int, *, norm: MakeNorm, activate: bool, rngs: nnx.Rngs
    ):
        self.activate = activate
        self.norms = nnx.List([norm(channels) for _ in range(2 * blocks)])
        self.convs = nnx.List(
            [Conv2d(channels, channels, bias=False, rngs=rngs) for _ in range(2 * blocks)]
        )

    def __call__(self, x: jax.Array, level: jax.Array) -> jax.Array:
        """Return the output, shaped like x."""
        h = x
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            h = norm(h, level)
            h = conv(jax.nn.elu(h) if self.activate else h)
            if i % 2:
                x = h = x + h
        return x


class RefineBlock(nnx.Module):
    """RCUs of every input, their fusion (MSF) at the largest size, then CRP and RCUs of the sum."""

    def __init__(
        self,
        channels: Sequence[int],
        out: int,
        *,
        norm: MakeNorm,
        pool: Pool,
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
        """Map images of several sizes to `[batch, height, width, out]` of the largest size."""
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
    """The identity, in place of a norm."""

    def __call__(self, x: jax.Array, level: jax.Array) -> jax.Array:
        """Return x unchanged."""
        return x


def _no_norm(channels: int) -> NoNorm:
    return NoNorm()


def _resize(x: jax.Array, height: int, width: int) -> jax.Array:
    if x.shape[1:3] == (height, width):
        return x
    return jax.image.resize(x, (len(x), height, width, x.shape[-1]), "bilinear")


def halve(x: jax.Array) -> jax.Array:
    """Return means of 2 x 2 pixels; an odd last row or column is counted twice."""
    batch, height, width, channels = x.shape
    if height % 2 or width % 2:
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return x.reshape(batch, -(-height // 2), 2, -(-width // 2), 2, channels).mean((2, 4))


def mean_pool(x: jax.Array) -> jax.Array:
    """Return means over those of 5 x 5 pixels that lie inside the image, shaped like x."""
    return _pool(x, jnp.add, 0.0) / _pool(jnp.ones((1, *x.shape[1:3], 1)), jnp.add, 0.0)


def max_pool(x: jax.Array) -> jax.Array:
    """Return maxima over 5 x 5 pixels, shaped like x."""
    return _pool(x, jnp.maximum, -jnp.inf)


def _pool(x: jax.Array, combine: Callable[..., jax.Array], outside: float) -> jax.Array:
    """Combine shifted copies along both axes in turn, which is fast to differentiate on CPUs."""
    for axis in (1, 2):
        ends = [(2, 2) if a == axis else (0, 0) for a in range(4)]
        padded = jnp.pad(x, ends, constant_values=outside)
        shifts = [jax.lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(5)]
        x = reduce(combine, shifts)
    return x
