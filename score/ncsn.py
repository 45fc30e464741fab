"""Noise-conditional score networks as denoisers: NCSN (Song and Ermon 2019) and NCSNv2 (2020).

Both return E[x0 | x] = x + sigma^2 s(x, sigma). Their training loss sigma^2 |s - target|^2 / d for
d elements equals |E[x0 | x] - x0|^2 / (d sigma^2), so that a score of zero has the loss 1.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from score.broadcast import align_first
from score.refinenet import RefineNet


class NCSNv1(nnx.Module):
    """s = net(x, i), where i is the index of the trained noise level that is nearest to sigma."""

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
        """Build an untrained network, whose score is 0.

        Args:
            channels: number of channels of the images; 1 for spectrograms.
            width: channels of the first layers; at half the size there are twice as many ("ngf").
            sigmas: noise levels, strictly decreasing.
            rescale: pass 2 x - 1 to the network, for images in [0, 1].
            compat: build the network of AudioSourceSep (see `RefineNet`).
            rngs: random keys of the initial weights.

        Raises:
            ValueError: unless the noise levels are positive and strictly decreasing.
        """
        levels = np.asarray(sigmas, np.float32)
        if levels.ndim != 1 or not (levels > 0).all() or not (np.diff(levels) < 0).all():
            raise ValueError(f"expected positive, falling noise levels, not {levels}")
        self.sigmas = nnx.Variable(jnp.asarray(levels))
        self.rescale = rescale
        self.net = RefineNet(channels, width, len(levels), compat=compat, rngs=rngs)

    def __call__(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return E[x0 | x] of `x: [batch, H, W, C]` or `[batch, frames, n_mels]`; shaped like x.

        sigma is a scalar or `[batch]`; the trained level that is nearest in ln sigma is used.
        """
        sigma = jnp.broadcast_to(sigma, (len(x),))
        steps = jnp.log(jax.lax.stop_gradient(self.sigmas[...]))
        level = jnp.abs(jnp.log(sigma)[:, None] - steps[None]).argmin(1)
        return x + align_first(sigma, x) ** 2 * _score(self.net, x, level, rescale=self.rescale)

    def weight(self, sigma: jax.Array) -> jax.Array:
        """Return the weight of the loss, 1 / sigma^2, shaped like sigma."""
        return 1 / sigma**2


class NCSNv2(nnx.Module):
    """s = net(x) / sigma: any noise level, as it changes only the scale of the output."""

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        rescale: bool = False,
        compat: bool = False,
        rngs: nnx.Rngs,
    ):
        """Build an untrained network, whose score is 0; for the arguments see `NCSNv1`."""
        self.rescale = rescale
        self.net = RefineNet(channels, width, None, compat=compat, rngs=rngs)

    def __call__(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return E[x0 | x] of `x: [batch, H, W, C]` or `[batch, frames, n_mels]`; shaped like x."""
        sigma = jnp.broadcast_to(sigma, (len(x),))
        level = jnp.zeros(len(x), int)
        return x + align_first(sigma, x) * _score(self.net, x, level, rescale=self.rescale)

    def weight(self, sigma: jax.Array) -> jax.Array:
        """Return the weight of the loss, 1 / sigma^2, shaped like sigma."""
        return 1 / sigma**2


def _score(net: RefineNet, x: jax.Array, level: jax.Array, *, rescale: bool) -> jax.Array:
    images = x[..., None] if x.ndim == 3 else x
    return net(2 * images - 1 if rescale else images, level).reshape(x.shape)
