"""Mixing maps f: sources -> mixture, as functions that JAX differentiates."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from basis.broadcast import align_first, align_last


class Mixing(Protocol):
    """Anything that maps sources `[source, ...]` elementwise to a mixture `[...]`."""

    def __call__(self, sources: jax.Array, /) -> jax.Array:
        """Mix `[source, ...]` -> `[...]`."""
        ...


class Linear(NamedTuple):
    """f(x) = sum_k gains_k x_k."""

    gains: jax.Array  # [source]

    def __call__(self, sources: jax.Array) -> jax.Array:
        """Mix `[source, ...]` -> `[...]`."""
        return jnp.tensordot(self.gains, sources, axes=1)


class Decibel(NamedTuple):
    """f(x) = 1/beta log sum_k exp(beta x_k + gains_k): powers add, in logarithmic units.

    Gains are natural logarithms of power gains; for a plain sum of sources they are 0.
    """

    beta: jax.Array  # []
    gains: jax.Array  # [source]

    def __call__(self, sources: jax.Array) -> jax.Array:
        """Mix `[source, ...]` -> `[...]`."""
        gains = align_first(self.gains, sources)
        return jax.nn.logsumexp(self.beta * sources + gains, axis=0) / self.beta


class Power(NamedTuple):
    """f(x) = (sum_k gains_k max(x_k, 0)^exponent)^(1 / exponent).

    With exponent 2 the sources are magnitudes whose powers add.
    """

    exponent: jax.Array  # []
    gains: jax.Array  # [source], of the powers

    def __call__(self, sources: jax.Array) -> jax.Array:
        """Mix `[source, ...]` -> `[...]`."""
        # bounded away from zero, where the root has no derivative
        powers = jnp.maximum(sources, 1e-6) ** self.exponent
        return jnp.tensordot(self.gains, powers, axes=1) ** (1 / self.exponent)


class AncestorDecibel(NamedTuple):
    """The map of AudioSourceSep, which applies the law for decibels to values scaled to [0, 1].

    Its beta is 0.23 instead of 27.6, so that it is nearly the mean of the decibels. It is wrong;
    use it only to reproduce the results of that program.
    """

    def __call__(self, sources: jax.Array) -> jax.Array:
        """Mix `[source, ...]` -> `[...]`."""
        beta = jnp.log(10.0) / 10
        return (jax.nn.logsumexp(beta * sources, axis=0) - jnp.log(len(sources))) / beta


class CrossTerms(NamedTuple):
    """The error variance of the decibel law: constant + slope (1 - |w|^2) / 2, for weights w.

    The law neglects the cross terms of the sources, which matter where sources are equally loud.
    For two sources (1 - |w|^2) / 2 = w (1 - w), and 0.5^2 + 4.5^2 w (1 - w) in dB fits rendered
    stems.
    """

    constant: jax.Array  # broadcastable to the mixture
    slope: jax.Array  # []

    def __call__(self, w: jax.Array) -> jax.Array:
        """Return the variance, shaped like the mixture, for weights `[source, ...]`."""
        cross = self.slope * (1 - (w**2).sum(0)) / 2
        return align_last(self.constant, cross) + cross


def average(n_sources: int) -> Linear:
    """Return the mixing map of an average of K sources: gains 1 / K."""
    return Linear(jnp.full(n_sources, 1 / n_sources))


def project(mixing: Mixing, sources: jax.Array, target: jax.Array) -> jax.Array:
    """Return the sources after the smallest move with f(sources) = target.

    Linear: x_k + gain_k (target - f) / |gains|^2. Decibel: every source moves by target - f, which
    is exact because f(x + c) = f(x) + c.

    Raises:
        ValueError: for maps without a closed form.
    """
    difference = target - mixing(sources)
    if isinstance(mixing, Linear):
        gains = align_first(mixing.gains, sources)
        return sources + gains * difference[None] / (mixing.gains**2).sum()
    if isinstance(mixing, Decibel):
        return sources + difference[None]
    raise ValueError(
        f"a hard constraint needs linear or decibel mixing, not "
        f"{type(mixing).__name__}; use a soft one"
    )


def weights(mixing: Mixing, sources: jax.Array) -> jax.Array:
    """Return df/dx_k per element, `[source, ...]`, for an elementwise map."""
    return jax.grad(lambda x: mixing(x).sum())(sources)
