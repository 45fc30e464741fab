"""A denoiser as a prior of the sampler (satisfies basis.Prior without importing it)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class DenoiserPrior(NamedTuple):
    """score = (D - x) / sigma^2 at any sigma within the trained range."""

    denoiser: Any  # (x, sigma) -> E[x0 | x]
    sigmas: jax.Array  # [level], falling: where `errors` was measured
    errors: jax.Array  # [level, features], rms of D - x0 on held-out data

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give the score of `x: [batch, ..., features]` at the scalar sigma."""
        return (self.denoiser(x, sigma) - x) / sigma**2

    def moments(self) -> tuple[jax.Array, jax.Array]:
        """Give mean `[features]` and variance `[]` of the training set, 0 where not known."""
        if not hasattr(self.denoiser, "sigma_data"):
            return jnp.zeros(()), jnp.zeros(())
        return self.denoiser.mean[...], self.denoiser.sigma_data[...] ** 2

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Give the measured rms error of the denoiser per feature, `[features]`."""
        at = jnp.log(self.sigmas[::-1])
        table = jnp.log(self.errors[::-1])
        return jnp.exp(jax.vmap(jnp.interp, (None, None, 1))(jnp.log(sigma), at, table))
