"""Discriminator guidance: a prior whose errors a critic has learnt (Kim et al. 2023)."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from score.critic import Critic


class Scored(Protocol):
    """What is guided: the same members as `basis.Prior`."""

    @property
    def sigmas(self) -> jax.Array:
        """Noise levels `[level]`, falling."""
        ...

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return the score of `x: [batch, ...]` at the scalar sigma, shaped like x."""
        ...


class GuidedPrior(NamedTuple):
    """score + weight grad logit, with a critic of noisy data against noisy samples of the prior.

    The critic is trained by `contrast_loss`. Its logit is then ln p / p_prior, so that with the
    weight 1 the score is that of the data as far as the critic is right. Each score costs a
    gradient of the critic beside the score of the prior.
    """

    prior: Scored
    critic: Critic
    weight: jax.Array  # [], omega; 1 corrects the prior wholly

    @property
    def sigmas(self) -> jax.Array:
        """Noise levels of the prior, `[level]`; the critic must have been trained at them."""
        return self.prior.sigmas

    @property
    def any_length(self) -> bool:
        """Whether x may have any number of frames, for the prior and the critic."""
        return bool(getattr(self.prior, "any_length", False)) and self.critic.any_length

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return the corrected score of `x: [batch, ...]`, shaped like x."""
        return self.prior.score(x, sigma) + self.weight * self.critic.slope(x, sigma)

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Return the rms error of the prior's own denoiser, or sigma; broadcastable to x."""
        known = getattr(self.prior, "spread", None)
        return jnp.asarray(sigma if known is None else known(sigma))

    def moments(self) -> tuple[jax.Array, jax.Array]:
        """Return mean and variance of the data of the critic, `[features]` each."""
        return self.critic.mean[...], self.critic.variance[...]
