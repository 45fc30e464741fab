"""A prior in rotated coordinates of its last axis, such as the sum and differences of colours.

All kernels need elementwise mixing maps. A map that mixes the channels of an image, such as a
photograph in grey, becomes elementwise in rotated coordinates: it observes the first coordinate,
and the others are unknown (their variance is 1e12). White noise stays white under rotation, so the
samplers need no change.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from basis.prior import Prior, spread


class Rotated(NamedTuple):
    """The prior of y = x axes^T (on the last axis), where x has the prior `prior`."""

    prior: Prior
    axes: jax.Array  # [channel, channel], orthonormal rows

    @property
    def sigmas(self) -> jax.Array:
        """Noise levels of the prior."""
        return self.prior.sigmas

    def score(self, y: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return the score, shaped like `y: [batch, ..., channel]`."""
        return self.prior.score(y @ self.axes, sigma) @ self.axes.T

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Return the rms error of the denoiser in these coordinates.

        The errors of the channels are taken as uncorrelated.
        """
        own = jnp.broadcast_to(spread(self.prior, sigma), self.axes.shape[:1])
        return jnp.sqrt(self.axes**2 @ own**2)


def sum_and_differences(channels: int) -> jax.Array:
    """Return orthonormal axes `[channel, channel]` whose first is the direction of the mean.

    The first coordinate is the mean of the channels times the root of their number.
    """
    ones = jnp.ones((channels, 1)) / jnp.sqrt(channels)
    axes = jnp.linalg.qr(jnp.concatenate([ones, jnp.eye(channels)[:, 1:]], 1))[0].T
    return axes * jnp.sign(axes[0, 0])
