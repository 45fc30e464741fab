"""The interface of bijections, and their composition: a chain, or K steps of one kind."""

from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

M = TypeVar("M", bound=nnx.Module)
# an embedding of the noise level `[batch, e]`, a map of context `[batch, H, W, e]`, or nothing
Condition = jax.Array | None
Carry = tuple[jax.Array, jax.Array]  # activations and the sum of log-determinants


class Network(Protocol):
    """A network inside a coupling: `[batch, H, W, in] -> [batch, H, W, out]`."""

    def __call__(self, x: jax.Array, condition: Condition = None) -> jax.Array:
        """Return the output for x."""
        ...

    def initialize(self, x: jax.Array, condition: Condition = None) -> Self:
        """Return this network with its data-dependent parameters set for the batch x."""
        ...


class Bijection(nnx.Module):
    """An invertible map of `[batch, H, W, C]` with a known determinant of its Jacobian.

    `forward` and `inverse` both return ln |det| of their own Jacobian, `[batch]`, so that at the
    same point one is the negative of the other. H, W and C may change, but not their product.
    """

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map data to latents: return z and ln |det dz/dx|."""
        raise NotImplementedError

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map latents to data: return x and ln |det dx/dz|."""
        raise NotImplementedError

    def initialize(self, x: jax.Array, condition: Condition = None) -> tuple[Self, jax.Array]:
        """Return this bijection with its data-dependent parameters set, and its latents of x.

        In a composition, each part is initialised with the output of the parts before it, which
        are initialised already.
        """
        return self, self.forward(x, condition)[0]


B = TypeVar("B", bound=Bijection)


def initialize(flow: B, x: jax.Array, condition: Condition = None) -> B:
    """Return `flow` with every ActNorm set from its own input for the batch x."""
    return flow.initialize(x, condition)[0]


def replace(module: M, **changes: object) -> M:
    """Return a copy of a module with some attributes changed; the module itself is unchanged."""
    new = jax.tree.map(lambda leaf: leaf, module)
    for name, value in changes.items():
        setattr(new, name, value)
    return new


class Chain(Bijection):
    """Bijections one after another."""

    def __init__(self, *parts: Bijection):
        self.parts = nnx.List(parts)

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Apply the parts from first to last."""
        total = jnp.zeros(len(x))
        for part in self.parts:
            x, logdet = part.forward(x, condition)
            total += logdet
        return x, total

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Undo the parts from last to first."""
        total = jnp.zeros(len(z))
        for part in reversed(self.parts):
            z, logdet = part.inverse(z, condition)
            total += logdet
        return z, total

    def initialize(self, x: jax.Array, condition: Condition = None) -> tuple[Self, jax.Array]:
        """Initialise the parts from first to last."""
        parts = []
        for part in self.parts:
            part, x = part.initialize(x, condition)
            parts.append(part)
        return replace(self, parts=nnx.List(parts)), x


class Repeat(Bijection):
    """K bijections of one kind, with their parameters stacked along a first axis `[K, ...]`.

    They run in a `lax.scan`, so that only one of them is compiled. The activations inside them are
    computed again in the backward pass, so that memory holds the K inputs and the activations
    inside one.
    """

    def __init__(
        self, make: Callable[..., Bijection], key: jax.Array, count: int, *varied: jax.Array
    ):
        """Stack `make(key, *rows)` for `count` keys and for the rows of `varied: [count, ...]`."""
        self.steps = jax.vmap(make)(jax.random.split(key, count), *varied)

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Apply the steps from first to last."""

        @jax.checkpoint
        def body(carry: Carry, step: Bijection) -> tuple[Carry, None]:
            y, logdet = step.forward(carry[0], condition)
            return (y, carry[1] + logdet), None

        return jax.lax.scan(body, (x, jnp.zeros(len(x))), self.steps)[0]

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Undo the steps from last to first."""

        @jax.checkpoint
        def body(carry: Carry, step: Bijection) -> tuple[Carry, None]:
            y, logdet = step.inverse(carry[0], condition)
            return (y, carry[1] + logdet), None

        return jax.lax.scan(body, (z, jnp.zeros(len(z))), self.steps, reverse=True)[0]

    def initialize(self, x: jax.Array, condition: Condition = None) -> tuple[Self, jax.Array]:
        """Initialise the steps from first to last."""

        def body(x: jax.Array, step: Bijection) -> tuple[jax.Array, Bijection]:
            step, y = step.initialize(x, condition)
            return y, step

        z, steps = jax.lax.scan(body, x, self.steps)
        return replace(self, steps=steps), z


def sum_elements(x: jax.Array) -> jax.Array:
    """Return the sum over all axes but the first, `[batch]`."""
    return x.sum(tuple(range(1, x.ndim)))
