"""Losses of separators: magnitudes estimated and true, to one number."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# loss(estimates, targets, mixture, **options of the row) -> scalar; estimates and targets are
# `[batch, source, channel, frame, bin]`, the mixture `[batch, plane, frame, bin]`
Loss = Callable[..., jax.Array]
Options = dict[str, Any]


def mse(estimates: jax.Array, targets: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return the mean squared error."""
    del mixture
    return jnp.mean((estimates - targets) ** 2)


def l1(estimates: jax.Array, targets: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return the sum of absolute errors over the sum of the mixture's magnitudes."""
    return jnp.abs(estimates - targets).sum() / jnp.maximum(mixture.sum(), 1e-8)


def log_mse(estimates: jax.Array, targets: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return the mean squared error of log(1 + magnitude) (Stoller, Ewert and Dixon 2018)."""
    del mixture
    return jnp.mean((jnp.log1p(estimates) - jnp.log1p(targets)) ** 2)


# name -> loss; a new one is a function and a row
LOSSES: dict[str, Loss] = {"mse": mse, "l1": l1, "log_mse": log_mse}
