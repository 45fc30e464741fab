"""Mixing maps f: sources -> mixture, as functions that JAX differentiates."""

from collections.abc import Callable
from dataclasses import dataclass, field
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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Generated:
    """f(z) = mixing(G_1(z_1), ..., G_K(z_K)): a mixture of what generators make of latents z.

    With the prior N(0, 1) on latents (`Gaussian` of mean 0 and variance 1), samplers draw from the
    posterior of the latents; `sources` are the separated sources. The map is not elementwise, so
    that only samplers with `Kernel.generated` take it. Latents of all sources have one shape.
    """

    mixing: Mixing  # of the sources
    generators: tuple[Callable[[jax.Array], jax.Array], ...]  # latents [batch, ...] -> a source
    shape: tuple[int, ...] = field(metadata={"static": True})  # of the latents of an example

    def sources(self, latents: jax.Array) -> jax.Array:
        """Return the sources `[source, batch, ...]` that are made of `[source, batch, *shape]`."""
        each = zip(self.generators, latents, strict=True)
        return jnp.stack([generator(z) for generator, z in each])

    def __call__(self, latents: jax.Array) -> jax.Array:
        """Mix latents `[source, batch, *shape]` -> `[batch, ...]`."""
        return self.mixing(self.sources(latents))


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
    """Return df/dx_k per element, `[source, ...]`, for an elementwise map.

    For a `Generated` map of latents, x_k are the generated sources, on which the variance of an
    observation may depend.
    """
    if isinstance(mixing, Generated):
        return weights(mixing.mixing, mixing.sources(sources))
    return jax.grad(lambda x: mixing(x).sum())(sources)


class Slopes(NamedTuple):
    """Products with the Jacobian J of a mixing map at a point."""

    push: Callable[[jax.Array], jax.Array]  # move of the point `[source, ...]` -> J move `[...]`
    pull: Callable[[jax.Array], jax.Array]  # `[...]` -> J^T of it, like the point


def slopes(mixing: Mixing, point: jax.Array) -> Slopes:
    """Return products with the Jacobian at the point `[source, ...]`."""
    if isinstance(mixing, Generated):
        push, (_, pull) = jax.linearize(mixing, point)[1], jax.vjp(mixing, point)
        return Slopes(push, lambda u: pull(u)[0])
    return elementwise(weights(mixing, point))


def elementwise(w: jax.Array) -> Slopes:
    """Return the products for an elementwise map with the weights `w: [source, ...]`."""
    return Slopes(lambda move: (w * move).sum(0), lambda u: w * u[None])


def steepest(mixing: Generated) -> float:
    """Return an estimate of the largest |J|^2 over latents, by power iterations at a few of them.

    It is exact for linear generators.
    """
    keys = jax.random.split(jax.random.key(0))
    shape = (len(mixing.generators), 8, *mixing.shape)
    at = slopes(mixing, jax.random.normal(keys[0], shape))
    axes = (0, *range(2, len(shape)))

    def iterate(move: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        image = at.pull(at.push(move))
        size = jnp.sqrt((image**2).sum(axes, keepdims=True))
        return image / jnp.maximum(size, 1e-20), size.max()

    start = jax.random.normal(keys[1], shape)
    return float(jax.lax.scan(iterate, start, None, 30)[1][-1])
