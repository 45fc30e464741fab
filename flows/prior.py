"""Flows as priors of the sampler; they satisfy `basis.Prior` without importing it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from flows.density import Density
from flows.dequantise import VariationalDequantiser


class FlowPrior(NamedTuple):
    """A prior whose score is the gradient of the log density of one flow for all noise levels."""

    density: Density
    sigmas: jax.Array  # [level], falling; the noise levels at which `errors` was measured
    errors: jax.Array  # [level, features], rms of the denoiser x + sigma^2 score on held-out data
    # the dequantiser with which the density of integers was trained; None for uniform noise
    dequantiser: VariationalDequantiser | None = None

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return ln p_sigma(x) in nats, `[batch]`, for `x: [batch, ..., features]`."""
        return self.density.log_prob(x, sigma)

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return grad ln p_sigma(x), shaped like x, at the scalar sigma.

        Far from all data it is bounded; see `Density.denoise`.
        """
        return (self.density.denoise(x, sigma) - x) / sigma**2

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Return the measured rms error of the denoiser per feature, `[features]`."""
        return _interpolate(sigma, self.sigmas, self.errors)


class StackedFlowPrior(NamedTuple):
    """One flow per noise level, parameters stacked along a first axis; the nearest one is used."""

    densities: Density  # its leaves are `[level, ...]`
    sigmas: jax.Array  # [level], falling
    errors: jax.Array  # [level, features]

    def at(self, sigma: jax.Array) -> tuple[Density, jax.Array]:
        """Return the density whose noise level is nearest in ln sigma, and that level."""
        level = jnp.argmin(jnp.abs(jnp.log(self.sigmas) - jnp.log(sigma)))
        return jax.tree.map(lambda leaf: leaf[level], self.densities), self.sigmas[level]

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return the log density of x at the level nearest to sigma in nats, `[batch]`."""
        density, level = self.at(sigma)
        return density.log_prob(x, level)

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return the gradient of that log density, shaped like x."""
        density, level = self.at(sigma)
        return FlowPrior(density, self.sigmas, self.errors).score(x, level)

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Return the measured rms error of the denoiser per feature, `[features]`."""
        return _interpolate(sigma, self.sigmas, self.errors)


def _interpolate(sigma: jax.Array, sigmas: jax.Array, errors: jax.Array) -> jax.Array:
    """Return the table of errors at sigma, interpolated linearly in ln sigma and ln error."""
    at, table = jnp.log(sigmas[::-1]), jnp.log(errors[::-1])
    return jnp.exp(jax.vmap(jnp.interp, (None, None, 1))(jnp.log(sigma), at, table))
