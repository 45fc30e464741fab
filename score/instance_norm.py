"""InstanceNorm++: normalisation of every image by itself that keeps what it takes away."""

import jax
import jax.numpy as jnp
from flax import nnx


class InstanceNormPlus(nnx.Module):
    """gamma (h + alpha m) + beta, h each channel normalised over the image (Song and Ermon 2019).

    h = (x - mu_c) / sd_c, and m = (mu_c - mean_c mu) / sd_c mu, the channels' means normalised over
    channels: without it the net could not know how bright an image is. gamma, alpha and beta belong
    to the noise level, one row each: conditional where there are several levels.

    `compat` is as in AudioSourceSep: gains start around 0 in place of 1, alpha m stands beside
    gamma h, and h has an affine map of its own that gamma and beta make redundant.
    """

    def __init__(self, channels: int, levels: int = 1, *, compat: bool = False, rngs: nnx.Rngs):
        start = 0.0 if compat else 1.0

        def gain():
            return nnx.Param(start + 0.02 * jax.random.normal(rngs.params(), (levels, channels)))

        self.compat = compat
        self.gamma, self.alpha = gain(), gain()
        self.beta = nnx.Param(jnp.zeros((levels, channels)))
        if compat:
            self.scale, self.shift = nnx.Param(jnp.ones(channels)), nnx.Param(jnp.zeros(channels))

    def __call__(self, x: jax.Array, level: jax.Array) -> jax.Array:
        """Map `x: [batch, height, width, channels]`, `level: [batch]` integers -> like x."""
        mean = x.mean((1, 2), keepdims=True)
        m = _normalise(mean, mean.mean(-1, keepdims=True), -1)
        h = _normalise(x, mean, (1, 2))
        gamma, alpha, beta = (
            p[...][level][:, None, None] for p in (self.gamma, self.alpha, self.beta)
        )
        if self.compat:
            return gamma * (h * self.scale[...] + self.shift[...]) + alpha * m + beta
        return gamma * (h + alpha * m) + beta


def _normalise(x, mean, axes):
    x = x - mean
    return x * jax.lax.rsqrt((x * x).mean(axes, keepdims=True) + 1e-5)
