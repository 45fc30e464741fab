"""Mixing maps f: sources -> mixture. Plain functions; their derivatives are JAX's."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp


class Mixing(Protocol):
    """Anything that maps sources `[source, ...]` elementwise to a mixture `[...]`."""

    def __call__(self, sources: jax.Array) -> jax.Array:
        """Mix."""
        ...


class Linear(NamedTuple):
    """f(x) = sum_k gains_k x_k."""

    gains: jax.Array  # [source]

    def __call__(self, sources: jax.Array) -> jax.Array:
        """Mix `[source, ...]` -> `[...]`."""
        return jnp.tensordot(self.gains, sources, axes=1)


class Decibel(NamedTuple):
    """f(x) = 1/beta log sum_k exp(beta x_k + gains_k): powers add, in logarithmic units.

    A sum of sources has gains 0 and no -ln K; gains are natural logarithms of power gains.
    """

    beta: jax.Array  # []
    gains: jax.Array  # [source]

    def __call__(self, sources: jax.Array) -> jax.Array:
        """Mix `[source, ...]` -> `[...]`."""
        gains = self.gains.reshape(-1, *[1] * (sources.ndim - 1))
        return jax.nn.logsumexp(self.beta * sources + gains, axis=0) / self.beta


def weights(mixing: Mixing, sources: jax.Array) -> jax.Array:
    """Give df/dx_k per element, `[source, ...]`, for an elementwise map."""
    return jax.grad(lambda x: mixing(x).sum())(sources)
