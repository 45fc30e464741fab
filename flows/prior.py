"""Flows as priors of the sampler (satisfy basis.Prior without importing it)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class FlowPrior(NamedTuple):
    """The score is the gradient of the log density of one flow that knows sigma."""

    density: Any  # flows.Density
    sigmas: jax.Array  # [level], falling: where `errors` was measured
    errors: jax.Array  # [level, features], rms of the denoiser x + sigma^2 score on held-out data
    dequantiser: Any = None  # what the density of integers was trained with, if not uniform noise

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give log p_sigma(x) in nats, `[batch]`, for `x: [batch, ..., features]`."""
        return self.density.log_prob(x, sigma)

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give grad log p_sigma(x), shaped like x, at the scalar sigma.

        Far from all data it is bounded, as `Density.denoise` says.
        """
        return (self.density.denoise(x, sigma) - x) / sigma**2

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Give the measured rms error of the denoiser per feature, `[features]`."""
        return _interpolate(sigma, self.sigmas, self.errors)


class StackedFlowPrior(NamedTuple):
    """A flow for every level, their parameters stacked on a first axis; the nearest one speaks."""

    densities: Any  # flows.Density, leaves `[level, ...]`
    sigmas: jax.Array  # [level], falling
    errors: jax.Array  # [level, features]

    def at(self, sigma: jax.Array) -> tuple[Any, jax.Array]:
        """Give the density nearest in ln sigma, and its own level."""
        level = jnp.argmin(jnp.abs(jnp.log(self.sigmas) - jnp.log(sigma)))
        return jax.tree.map(lambda leaf: leaf[level], self.densities), self.sigmas[level]

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give the log density of x at the level nearest to sigma, nats, `[batch]`."""
        density, level = self.at(sigma)
        return density.log_prob(x, level)

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give its gradient, shaped like x."""
        density, level = self.at(sigma)
        return FlowPrior(density, self.sigmas, self.errors).score(x, level)

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Give the measured rms error of the denoiser per feature, `[features]`."""
        return _interpolate(sigma, self.sigmas, self.errors)


def _interpolate(sigma: jax.Array, sigmas: jax.Array, errors: jax.Array) -> jax.Array:
    """Interpolate a table over ln sigma, geometrically."""
    at, table = jnp.log(sigmas[::-1]), jnp.log(errors[::-1])
    return jnp.exp(jax.vmap(jnp.interp, (None, None, 1))(jnp.log(sigma), at, table))
