"""Noise-conditional score networks as denoisers: NCSN (Song and Ermon 2019) and NCSNv2 (2020).

Both give E[x0 | x] = x + sigma^2 s(x, sigma). Their training loss sigma^2 |s - target|^2 / D is
|D(x) - x0|^2 / (D sigma^2): a score of zero costs 1.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from score.refinenet import RefineNet


class NCSNv1(nnx.Module):
    """s = net(x, i), i the nearest of the trained `sigmas`, falling: the index never leaves it."""

    def __init__(
        self,
        channels: int,
        width: int,
        sigmas: Sequence[float] | np.ndarray,
        *,
        rescale: bool = False,
        compat: bool = False,
        rngs: nnx.Rngs,
    ):
        """Make an untrained network, whose score is 0.

        Args:
            channels: of the images; spectrograms `[batch, frames, n_mels]` are of 1.
            width: channels of its first layers, twice as many at half the size ("ngf").
            sigmas: noise levels, falling.
            rescale: the network sees 2 x - 1, for images of 0 to 1.
            compat: build AudioSourceSep's network (see `RefineNet`).
            rngs: start of the weights.
        """
        levels = np.asarray(sigmas, np.float32)
        if levels.ndim != 1 or not (levels > 0).all() or not (np.diff(levels) < 0).all():
            raise ValueError(f"expected falling positive noise levels, not {levels}")
        self.sigmas = nnx.Variable(jnp.asarray(levels))
        self.rescale = rescale
        self.net = RefineNet(channels, width, len(levels), compat=compat, rngs=rngs)

    def __call__(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give E[x0 | x] of `x: [batch, H, W, C]` or `[batch, frames, n_mels]`; shaped like x.

        sigma, a scalar or `[batch]`, chooses the nearest level on a scale of ln sigma.
        """
        sigma = jnp.broadcast_to(sigma, (len(x),))
        steps = jnp.log(jax.lax.stop_gradient(self.sigmas[...]))
        level = jnp.abs(jnp.log(sigma)[:, None] - steps).argmin(1)
        return x + _aligned(sigma, x) ** 2 * _score(self.net, x, level, rescale=self.rescale)

    def weight(self, sigma: jax.Array) -> jax.Array:
        """Give the loss's weight 1 / sigma^2, like sigma."""
        return 1 / sigma**2


class NCSNv2(nnx.Module):
    """s = net(x) / sigma: no condition but the scale of the output, any level."""

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        rescale: bool = False,
        compat: bool = False,
        rngs: nnx.Rngs,
    ):
        """Make an untrained network, whose score is 0; for the arguments see `NCSNv1`."""
        self.rescale = rescale
        self.net = RefineNet(channels, width, None, compat=compat, rngs=rngs)

    def __call__(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give E[x0 | x] of `x: [batch, H, W, C]` or `[batch, frames, n_mels]`; shaped like x."""
        sigma = jnp.broadcast_to(sigma, (len(x),))
        level = jnp.zeros(len(x), int)
        return x + _aligned(sigma, x) * _score(self.net, x, level, rescale=self.rescale)

    def weight(self, sigma: jax.Array) -> jax.Array:
        """Give the loss's weight 1 / sigma^2, like sigma."""
        return 1 / sigma**2


def _aligned(sigma, x):
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


def _score(net, x, level, *, rescale):
    images = x[..., None] if x.ndim == 3 else x
    return net(2 * images - 1 if rescale else images, level).reshape(x.shape)
