"""Explicit broadcasting: the code runs with JAX's implicit rank promotion forbidden."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def align_first(values: jax.Array, x: jax.Array) -> jax.Array:
    """Return `values` with axes of size 1 appended, so that they vary along the first axes of x."""
    return values.reshape(*values.shape, *[1] * (x.ndim - values.ndim))


def align_last(values: ArrayLike, x: jax.Array) -> jax.Array:
    """Return `values` with axes of size 1 in front, so that they vary along the last axes of x.

    Scalars are returned as they are.
    """
    values = jnp.asarray(values)
    return jax.lax.broadcast_to_rank(values, x.ndim) if values.ndim else values
