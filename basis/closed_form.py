"""Priors and posteriors that are known exactly: the ground truth of every sampler test."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Gaussian(NamedTuple):
    """Independent normals per element; also a usable prior, for hiss or a residual source."""

    mean: jax.Array  # broadcastable to x
    variance: jax.Array  # broadcastable to x
    sigmas: jax.Array  # [level]

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give -(x - mean) / (variance + sigma^2)."""
        return (self.mean - x) / (self.variance + sigma**2)

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give log p_sigma per batch element, `[batch]`."""
        total = jnp.broadcast_to(self.variance + sigma**2, x.shape)
        terms = -0.5 * ((x - self.mean) ** 2 / total + jnp.log(2 * jnp.pi * total))
        return terms.reshape(x.shape[0], -1).sum(-1)

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Give the posterior sd of x0 given x, exactly."""
        return sigma * jnp.sqrt(self.variance / (self.variance + sigma**2))


def gaussian_posterior(
    means: jax.Array, variances: jax.Array, gains: jax.Array, mixture: jax.Array, tau: float
) -> tuple[jax.Array, jax.Array]:
    """Give mean `[source, ...]` and covariance `[source, source, ...]` of the sources.

    For independent x_k ~ N(means_k, variances_k) per element and
    mixture = sum_k gains_k x_k + tau n: the Wiener filter.
    """
    total = tau**2 + jnp.tensordot(gains**2, variances, axes=1)
    gain = gains.reshape(-1, *[1] * (means.ndim - 1)) * variances / total
    mean = means + gain * (mixture - jnp.tensordot(gains, means, axes=1))
    scaled = gains.reshape(-1, *[1] * (means.ndim - 1)) * variances
    cross = scaled[:, None] * scaled[None] / total
    eye = jnp.eye(len(means)).reshape(len(means), len(means), *[1] * (means.ndim - 1))
    return mean, eye * variances[None] - cross
