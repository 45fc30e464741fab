"""InstanceNorm++: normalisation of every image by its own statistics, which stay available."""

import jax
import jax.numpy as jnp
from flax import nnx

from score.broadcast import align_last


class InstanceNormPlus(nnx.Module):
    """gamma (h + alpha m) + beta with h = (x - mu_c) / sd_c (Song and Ermon 2019, appendix A).

    h is each channel normalised over the image, and m = (mu_c - mean_c mu) / sd_c mu are the means
    of the channels normalised over the channels: without m the network could not know how bright an
    image is. gamma, alpha and beta have one row per noise level.

    `compat` builds the layer of AudioSourceSep instead: initial gains are around 0, not around 1;
    the result is gamma h + alpha m + beta; and h passes an affine map of its own, which gamma and
    beta make redundant.
    """

    def __init__(self, channels: int, levels: int = 1, *, compat: bool = False, rngs: nnx.Rngs):
        start = 0.0 if compat else 1.0

        def gain() -> nnx.Param[jax.Array]:
            return nnx.Param(start + 0.02 * jax.random.normal(rngs.params(), (levels, channels)))

        self.compat = compat
        self.gamma, self.alpha = gain(), gain()
        self.beta = nnx.Param(jnp.zeros((levels, channels)))
        if compat:
            self.scale, self.shift = nnx.Param(jnp.ones(channels)), nnx.Param(jnp.zeros(channels))

    def __call__(self, x: jax.Array, level: jax.Array) -> jax.Array:
        """Normalise `x: [batch, height, width, channels]` at the integer `level: [batch]`."""
        mean = x.mean((1, 2), keepdims=True)
        m = _normalise(mean, mean.mean(-1, keepdims=True), -1)
        h = _normalise(x, mean, (1, 2))
        gamma, alpha, beta = (
            p[...][level][:, None, None] for p in (self.gamma, self.alpha, self.beta)
        )
        if self.compat:
            scale, shift = align_last(self.scale[...], h), align_last(self.shift[...], h)
            return gamma * (h * scale + shift) + alpha * m + beta
        return gamma * (h + alpha * m) + beta


def _normalise(x: jax.Array, mean: jax.Array, axes: int | tuple[int, ...]) -> jax.Array:
    x = x - mean
    return x * jax.lax.rsqrt((x * x).mean(axes, keepdims=True) + 1e-5)
