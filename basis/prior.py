"""What a prior is: any pytree with `sigmas` and `score`."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np


@runtime_checkable
class Prior(Protocol):
    """A density p convolved with N(0, sigma^2) at any sigma between its first and last level.

    Optional members: `spread(sigma) -> [...]`, the rms error of the denoiser, broadcastable to x
    (samplers precondition with it; without it they take sigma), and `log_prob(x, sigma)`.
    """

    @property
    def sigmas(self) -> jax.Array:
        """Noise levels `[level]` in model units, largest first; the range that is supported."""
        ...

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give grad log p_sigma(x) for `x: [batch, ...]` at the scalar `sigma`, shaped like x."""
        ...


def denoise(prior: Prior, x: jax.Array, sigma: jax.Array) -> jax.Array:
    """Give E[x0 | x] = x + sigma^2 score (Tweedie's formula), shaped like x."""
    return x + sigma**2 * prior.score(x, sigma)


def spread(prior: Prior, sigma: jax.Array) -> jax.Array:
    """Give the rms error of the prior's denoiser at `sigma`, broadcastable to x."""
    known = getattr(prior, "spread", None)
    return known(sigma) if known is not None else sigma


def check_levels(priors: Sequence[Prior], sigmas) -> None:
    """Refuse, before anything is compiled, noise levels that a prior was not made for.

    Raises:
        ValueError: naming the prior, its range and the remedy.
    """
    sigmas = np.asarray(sigmas)
    if not len(priors):
        raise ValueError("expected at least one prior, got none")
    for i, prior in enumerate(priors):
        low, high = float(np.min(prior.sigmas)), float(np.max(prior.sigmas))
        bad = [s for s in sigmas if not low * 0.999 <= s <= high * 1.001]
        if bad:
            raise ValueError(
                f"prior {i} ({type(prior).__name__}) has no level near sigma={bad[0]:.4g}; its "
                f"levels run from {high:.4g} to {low:.4g}: anneal within them or train it there"
            )
