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


class Power(NamedTuple):
    """f(x) = (sum_k gains_k max(x_k, 0)^exponent)^(1 / exponent).

    With exponent 2: magnitudes whose powers add.
    """

    exponent: jax.Array  # []
    gains: jax.Array  # [source], of the powers

    def __call__(self, sources: jax.Array) -> jax.Array:
        """Mix `[source, ...]` -> `[...]`."""
        # kept off zero, where the root has no slope
        powers = jnp.maximum(sources, 1e-6) ** self.exponent
        return jnp.tensordot(self.gains, powers, axes=1) ** (1 / self.exponent)


class AncestorDecibel(NamedTuple):
    """The map of the first program of this kind, which applies a formula for dB to [0, 1].

    Its inverse temperature is 0.23 where 27.6 is needed, so it is nearly the mean of the decibels.
    Only for reproducing what that program did; never right.
    """

    def __call__(self, sources: jax.Array) -> jax.Array:
        """Mix `[source, ...]` -> `[...]`."""
        beta = jnp.log(10.0) / 10
        return (jax.nn.logsumexp(beta * sources, axis=0) - jnp.log(len(sources))) / beta


class CrossTerms(NamedTuple):
    """Variance of the decibel law: constant + slope (1 - |w|^2) / 2, for weights w.

    Powers add up to cross terms, which matter where the sources are alike: for two sources
    (1 - |w|^2) / 2 = w (1 - w), and 0.5^2 + 4.5^2 w (1 - w) in dB fits rendered stems.
    """

    constant: jax.Array  # broadcastable to the mixture
    slope: jax.Array  # []

    def __call__(self, w: jax.Array) -> jax.Array:
        """Give the variance, shaped like the mixture, for weights `[source, ...]`."""
        return self.constant + self.slope * (1 - (w**2).sum(0)) / 2


def average(n_sources: int) -> Linear:
    """Give the mixing map of an average, as of images: gains 1 / K."""
    return Linear(jnp.full(n_sources, 1 / n_sources))


def project(mixing: Mixing, sources: jax.Array, target: jax.Array) -> jax.Array:
    """Move all sources the least that makes f(sources) = target.

    Linear: x_k + gain_k (target - f) / |gains|^2. Decibel: every source moves by target - f, which
    f(x + c) = f(x) + c makes exact in one step.

    Raises:
        ValueError: for maps that have no closed form.
    """
    difference = target - mixing(sources)
    if isinstance(mixing, Linear):
        gains = mixing.gains.reshape(-1, *[1] * difference.ndim)
        return sources + gains * difference / (mixing.gains**2).sum()
    if isinstance(mixing, Decibel):
        return sources + difference
    raise ValueError(
        f"a hard constraint needs linear or decibel mixing, not "
        f"{type(mixing).__name__}; use a soft one"
    )


def weights(mixing: Mixing, sources: jax.Array) -> jax.Array:
    """Give df/dx_k per element, `[source, ...]`, for an elementwise map."""
    return jax.grad(lambda x: mixing(x).sum())(sources)
