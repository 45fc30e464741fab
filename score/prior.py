"""A denoiser as a prior of the sampler; it satisfies `basis.Prior` without importing it."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp


class Denoiser(Protocol):
    """Any model of E[x0 | x], x = x0 + sigma n: what `DenoiserPrior` needs."""

    def __call__(self, x: jax.Array, sigma: jax.Array, /) -> jax.Array:
        """Return E[x0 | x] for `x: [batch, ...]`, `sigma: [batch]` or a scalar; shaped like x."""
        ...


class WeightedDenoiser(Denoiser, Protocol):
    """A denoiser that knows how to weight its training loss."""

    def weight(self, sigma: jax.Array) -> jax.Array:
        """Return the weight of the squared error at `sigma: [batch]`, shaped like sigma."""
        ...


class DenoiserPrior(NamedTuple):
    """score = (D - x) / sigma^2 at any noise level within the trained range (Tweedie's formula)."""

    denoiser: Denoiser
    sigmas: jax.Array  # [level], falling; the noise levels at which `errors` was measured
    errors: jax.Array  # [level, features], rms of D - x0 on held-out data

    @property
    def any_length(self) -> bool:
        """Whether x may have any number of frames, not only that of the training."""
        return bool(getattr(self.denoiser, "any_length", False))

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return the score of `x: [batch, ..., features]` at the scalar sigma."""
        return (self.denoiser(x, sigma) - x) / sigma**2

    def moments(self) -> tuple[jax.Array, jax.Array]:
        """Return mean `[features]` and variance `[]` of the training set; 0 if unknown."""
        denoiser = self.denoiser
        if not (hasattr(denoiser, "mean") and hasattr(denoiser, "sigma_data")):
            return jnp.zeros(()), jnp.zeros(())
        return denoiser.mean[...], denoiser.sigma_data[...] ** 2

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Return the measured rms error of the denoiser per feature, `[features]`.

        The table of errors is interpolated linearly in ln sigma and ln error.
        """
        return interpolate(sigma, self.sigmas, self.errors)


def interpolate(sigma: jax.Array, sigmas: jax.Array, errors: jax.Array) -> jax.Array:
    """Return a table `errors: [level, features]` at sigma, linearly in ln sigma and ln error."""
    at, table = jnp.log(sigmas[::-1]), jnp.log(errors[::-1])
    return jnp.exp(jax.vmap(jnp.interp, (None, None, 1))(jnp.log(sigma), at, table))
