"""The interface of priors: any pytree with `sigmas` and `score` is one."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp


@runtime_checkable
class Prior(Protocol):
    """A density p convolved with N(0, sigma^2), at any sigma between its first and last level.

    Optional members: `spread(sigma) -> [...]`, the rms error of the denoiser, broadcastable to x
    (samplers precondition with it, or with sigma if it is missing); `log_prob(x, sigma)` as in
    `Density`; and `moments() -> mean, variance` of p without noise, broadcastable to x (they
    define the terminal density of `log_likelihood`).
    """

    @property
    def sigmas(self) -> jax.Array:
        """Noise levels `[level]` in model units, falling; their range is the supported one."""
        ...

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return grad log p_sigma(x) for `x: [batch, ...]` at the scalar `sigma`, shaped like x."""
        ...


class Density(Protocol):
    """Anything with a known log density at every noise level, such as a flow."""

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return log p_sigma(x) in nats, `[batch]`, for `x: [batch, ...]` at the scalar `sigma`."""
        ...


def denoise(prior: Prior, x: jax.Array, sigma: jax.Array) -> jax.Array:
    """Return E[x0 | x] = x + sigma^2 score(x, sigma) (Tweedie's formula), shaped like x."""
    return x + sigma**2 * prior.score(x, sigma)


def denoise_all(priors: Sequence[Prior], sources: jax.Array, sigma: jax.Array) -> jax.Array:
    """Return E[x0 | x] of every source under its own prior, `[source, batch, ...]`."""
    each = zip(priors, sources, strict=True)
    return jnp.stack([denoise(prior, x, sigma) for prior, x in each])


def spread(prior: Prior, sigma: jax.Array) -> jax.Array:
    """Return the rms error of the prior's denoiser at `sigma`, or sigma; broadcastable to x."""
    known = getattr(prior, "spread", None)
    return known(sigma) if known is not None else sigma


def spread_all(priors: Sequence[Prior], like: jax.Array, sigma: jax.Array) -> jax.Array:
    """Return the spread of every prior, shaped like the sources `like: [source, batch, ...]`."""
    return jnp.stack([jnp.broadcast_to(spread(prior, sigma), like.shape[1:]) for prior in priors])
