"""The U-Net of semi-supervised separation: unpadded convolutions on log magnitudes.

Stoller, Ewert and Dixon 2018, "Adversarial semi-supervised audio source separation applied to
singing voice extraction". One 3x3 convolution per level, none of them padded, so that what leaves
is smaller than what enters; the network pads its input with zeros by what it will lose.
"""

import jax
import jax.numpy as jnp
from flax import nnx


def padded_size(wanted: int, levels: int = 4) -> tuple[int, int]:
    """Return the sizes of input and output along one axis, of which `wanted` are kept.

    The smallest ones that every level of the network can halve: (350, 258) for 256 at 4 levels.
    """
    inner = wanted
    for _ in range(levels):
        inner = -(-(inner + 2) // 2)  # of 2 n values after upsampling, a convolution leaves 2 n - 2
    outer = inner
    for _ in range(levels):
        inner, outer = 2 * inner - 2, 2 * (outer + 2)
    return outer + 2, inner


class UNet(nnx.Module):
    """`sources` magnitudes from that of the mixture, or, with `masks`, the mixture's times masks.

    The widths of the levels are `width` times 1, 2, 4, ... The highest bin is not seen; its
    estimates are 0, or an equal share with `masks`.
    """

    def __init__(
        self,
        sources: int,
        width: int = 16,
        levels: int = 4,
        *,
        masks: bool = False,
        rngs: nnx.Rngs,
    ):
        self.sources, self.levels, self.masks = sources, levels, masks
        widths = [width * 2**level for level in range(levels + 1)]
        rising = list(zip(widths[:0:-1], widths[-2::-1], strict=True))

        def conv(entering: int, leaving: int, size: int) -> nnx.Conv:
            return nnx.Conv(entering, leaving, (size, size), padding="VALID", rngs=rngs)

        def doubling(entering: int, leaving: int) -> nnx.ConvTranspose:
            return nnx.ConvTranspose(
                entering, leaving, (2, 2), strides=(2, 2), padding="VALID", rngs=rngs
            )

        sizes = zip([1, *widths[:-1]], widths, strict=True)
        self.down = nnx.List([conv(a, b, 3) for a, b in sizes])
        self.up = nnx.List([doubling(a, b) for a, b in rising])
        self.joined = nnx.List([conv(a, b, 3) for a, b in rising])
        self.heads = conv(width + 1, sources, 1)

    def __call__(self, mixture: jax.Array) -> jax.Array:
        """Return magnitudes `[batch, source, 1, frame, bin]` for `mixture: [batch, 1, frame, bin]`.

        Both are linear.
        """
        magnitude = mixture[:, 0]
        out = self.logarithms(jnp.log1p(magnitude[..., :-1]))
        out = jnp.pad(out, ((0, 0), (0, 0), (0, 0), (0, 1)))
        if self.masks:
            estimates = jax.nn.softmax(out, axis=1) * magnitude[:, None]
        else:
            estimates = jnp.expm1(jax.nn.relu(out))
        return estimates[:, :, None]

    def logarithms(self, x: jax.Array) -> jax.Array:
        """Return what the heads give, `[batch, source, frame, bin]`, for `x: [batch, frame, bin]`.

        Both are on the scale of log(1 + magnitude), before the rectification.
        """
        ends, kept = [], x.shape[1:]
        for size in kept:
            entering, _ = padded_size(size, self.levels)
            before = (entering - size) // 2
            ends.append((before, entering - size - before))
        x = jnp.pad(x, ((0, 0), *ends))[..., None]
        out = self._body(x)
        out = jnp.concatenate([_crop(x, out.shape[1:3]), out], -1)
        out = _crop(self.heads(out), kept)
        return jnp.moveaxis(out, -1, 1)

    def _body(self, x: jax.Array) -> jax.Array:
        """Return features `[batch, frame, bin, width]`, fewer frames and bins than `x` has."""
        skipped = []
        for level, conv in enumerate(self.down):
            x = jax.nn.relu(conv(x))
            if level < self.levels:
                skipped.append(x)
                x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        for up, conv in zip(self.up, self.joined, strict=True):
            x = up(x)
            x = jnp.concatenate([_crop(skipped.pop(), x.shape[1:3]), x], -1)
            x = jax.nn.relu(conv(x))
        return x


def _crop(x: jax.Array, sizes: tuple[int, ...]) -> jax.Array:
    """Return the centre of `x: [batch, frame, bin, feature]`, of that many frames and bins."""
    starts = [(have - want) // 2 for have, want in zip(x.shape[1:3], sizes, strict=True)]
    (a, b), (m, n) = starts, sizes
    return x[:, a : a + m, b : b + n]
