"""A prior in other coordinates of its last axis, such as a colour's sum and differences.

Every kernel knows maps that act on each element alone. A map that mixes the channels of one image,
as a photograph without colour does, becomes such a map in coordinates whose first is the observed
one: there it shows that coordinate and hides the others (their variance is 1e12). Noise of the same
size in all directions stays the same under rotation, so that the sampler is exactly the same one.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from basis.prior import spread


class Rotated(NamedTuple):
    """The prior of y = x axes^T on the last axis, for x of `prior`."""

    prior: Any  # a basis.Prior
    axes: jax.Array  # [channel, channel], orthonormal rows

    @property
    def sigmas(self) -> jax.Array:
        """Noise levels of the prior."""
        return self.prior.sigmas

    def score(self, y: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give the score, shaped like `y: [batch, ..., channel]`."""
        return self.prior.score(y @ self.axes, sigma) @ self.axes.T

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Give the rms error of the denoiser in these coordinates, as if channels erred alone."""
        own = jnp.broadcast_to(spread(self.prior, sigma), self.axes.shape[:1])
        return jnp.sqrt(self.axes**2 @ own**2)


def sum_and_differences(channels: int) -> jax.Array:
    """Give orthonormal axes `[channel, channel]`, the first that of the channels' mean.

    Its coordinate is the mean times the root of `channels`.
    """
    ones = jnp.ones((channels, 1)) / jnp.sqrt(channels)
    axes = jnp.linalg.qr(jnp.concatenate([ones, jnp.eye(channels)[:, 1:]], 1))[0].T
    return axes * jnp.sign(axes[0, 0])
