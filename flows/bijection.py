"""What a bijection is, and how bijections are composed: one after another, or K equal ones."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

M = TypeVar("M", bound=nnx.Module)
# an embedding of the noise level `[batch, e]`, a map of context `[batch, H, W, e]`, or nothing
Condition = jax.Array | None


class Bijection(nnx.Module):
    """An invertible map of `[batch, H, W, C]` that knows the determinant of its Jacobian.

    Both methods return the logarithm of |det| of their own Jacobian, `[batch]`, so that for the
    same point they are each other's negative. Channels and sizes may change, their product not.
    """

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map data to latents: z, log |dz/dx|."""
        raise NotImplementedError

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map latents to data: x, log |dx/dz|."""
        raise NotImplementedError

    def initialize(self: M, x: jax.Array, condition: Condition = None) -> tuple[M, jax.Array]:
        """Give this bijection with its data-dependent parameters set, and what it makes of x.

        A composition hands on to each part what the parts before it, already set, make of x.
        """
        return self, self.forward(x, condition)[0]  # type: ignore[attr-defined]


def initialize(flow: M, x: jax.Array, condition: Condition = None) -> M:
    """Give `flow` with every ActNorm set from the activations that arrive there for the batch x."""
    return flow.initialize(x, condition)[0]  # type: ignore[attr-defined]


def replace(module: M, **changes: Any) -> M:
    """Give a copy of a module with some attributes changed; the module itself stays."""
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

    def initialize(self, x: jax.Array, condition: Condition = None) -> tuple["Chain", jax.Array]:
        """Set the parts from first to last."""
        parts = []
        for part in self.parts:
            part, x = part.initialize(x, condition)
            parts.append(part)
        return replace(self, parts=nnx.List(parts)), x


class Repeat(Bijection):
    """K bijections of one kind, their parameters stacked on a first axis `[K, ...]`.

    They run in a `lax.scan`, so that compiling costs one of them whatever K is; the activations
    inside are computed again in the backward pass, so that memory holds K inputs and one inside.
    """

    def __init__(
        self, make: Callable[..., Bijection], key: jax.Array, count: int, *varied: jax.Array
    ):
        """Stack `make(key, *rows)` of `count` keys and of the rows of arrays `[count, ...]`."""
        self.steps = jax.vmap(make)(jax.random.split(key, count), *varied)

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Apply the steps from first to last."""

        @jax.checkpoint
        def body(carry, step):
            y, logdet = step.forward(carry[0], condition)
            return (y, carry[1] + logdet), None

        return jax.lax.scan(body, (x, jnp.zeros(len(x))), self.steps)[0]

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Undo the steps from last to first."""

        @jax.checkpoint
        def body(carry, step):
            y, logdet = step.inverse(carry[0], condition)
            return (y, carry[1] + logdet), None

        return jax.lax.scan(body, (z, jnp.zeros(len(z))), self.steps, reverse=True)[0]

    def initialize(self, x: jax.Array, condition: Condition = None) -> tuple["Repeat", jax.Array]:
        """Set the steps from first to last."""

        def body(x, step):
            step, y = step.initialize(x, condition)
            return y, step

        z, steps = jax.lax.scan(body, x, self.steps)
        return replace(self, steps=steps), z


def sum_elements(x: jax.Array) -> jax.Array:
    """Sum over all but the batch axis, `[batch]`."""
    return x.sum(tuple(range(1, x.ndim)))
