"""A denoiser as a prior of the sampler (satisfies basis.Prior without importing it)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from score.edm import EDM


class EDMPrior(NamedTuple):
    """score = (D - x) / sigma^2 at any sigma within the trained range."""

    denoiser: EDM
    sigmas: jax.Array  # [level], falling: where `errors` was measured
    errors: jax.Array  # [level, n_mels], rms of D - x0 on held-out data

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give the score of `x: [batch, frames, n_mels]` at the scalar sigma."""
        return (self.denoiser(x, sigma) - x) / sigma**2

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Give the measured rms error of the denoiser per band, `[n_mels]`."""
        at = jnp.log(self.sigmas[::-1])
        table = jnp.log(self.errors[::-1])
        return jnp.exp(jax.vmap(jnp.interp, (None, None, 1))(jnp.log(sigma), at, table))
