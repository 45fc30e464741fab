"""Stacked LSTMs, one or both directions, of several independent networks at once.

Gates are in the order input, forget, cell, output, and there are two bias vectors, as PyTorch has
them, so that its weights can be taken over one to one. Hochreiter and Schmidhuber 1997, with forget
gates (Gers, Schmidhuber and Cummins 2000).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx


class State(NamedTuple):
    """What one layer hands from a frame to the next: `[network, direction, batch, hidden]` each."""

    hidden: jax.Array
    cell: jax.Array


def uniform(key: jax.Array, shape: tuple[int, ...], fan: int) -> jax.Array:
    """Draw initial weights between plus and minus 1 / sqrt(fan), as PyTorch does."""
    bound = fan**-0.5
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class LstmLayer(nnx.Module):
    """One layer of `networks` LSTMs; the axes of its weights are network, direction, in, out."""

    def __init__(self, networks: int, size: int, hidden: int, directions: int, *, rngs: nnx.Rngs):
        self.hidden, self.directions = hidden, directions
        lead, gates = (networks, directions), 4 * hidden

        def weights(*shape: int) -> nnx.Param:
            return nnx.Param(uniform(rngs.params(), (*lead, *shape, gates), hidden))

        self.input_kernel, self.hidden_kernel = weights(size), weights(hidden)
        self.input_bias, self.hidden_bias = weights(), weights()

    def __call__(self, x: jax.Array, state: State | None = None) -> tuple[jax.Array, State]:
        """Return the outputs `[network, frame, batch, directions * hidden]` and the last state.

        `x: [network, frame, batch, size]`; the state before the first frame is 0 by default. The
        second direction runs backwards in time and starts at the last frame.
        """
        networks, frames, batch, size = x.shape
        if state is None:
            zeros = jnp.zeros((networks, self.directions, batch, self.hidden), x.dtype)
            state = State(zeros, zeros)
        bias = self.input_bias[...] + self.hidden_bias[...]
        outs, lasts = [], []
        for way in range(self.directions):
            # all frames at once: only what depends on the frame before is left to the loop
            gates = jnp.matmul(x.reshape(networks, -1, size), self.input_kernel[:, way])
            gates = gates + bias[:, way, None]
            gates = gates.reshape(networks, frames, batch, -1)
            first = State(state.hidden[:, way], state.cell[:, way])
            run = partial(_run, reverse=way == 1)
            last, out = _over_networks(run, self.hidden_kernel[:, way], gates, first)
            outs.append(out)
            lasts.append(last)
        both = jax.tree.map(lambda *ways: jnp.stack(ways, 1), *lasts)
        return jnp.concatenate(outs, -1), both


def _over_networks(run: Callable[..., Any], *arrays: Any) -> Any:
    """Apply `run` to every network.

    On a CPU one after another: the weights of one direction of one network then stay in the cache
    of a core for all frames, which makes the layer two to three times as fast.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(lambda each: run(*each), arrays)
    return jax.vmap(run)(*arrays)


def _run(
    kernel: jax.Array, gates: jax.Array, first: State, *, reverse: bool
) -> tuple[State, jax.Array]:
    """Return the last state and the outputs of one direction `[frame, batch, hidden]`.

    `gates: [frame, batch, 4 hidden]` are what the inputs add to the gates.
    """
    return jax.lax.scan(partial(_step, kernel), first, gates, reverse=reverse)


def _step(kernel: jax.Array, state: State, gates: jax.Array) -> tuple[State, jax.Array]:
    """Return the state after a frame, and its output."""
    gates = gates + jnp.matmul(state.hidden, kernel)
    enter, keep, new, leave = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(keep) * state.cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
    hidden = jax.nn.sigmoid(leave) * jnp.tanh(cell)
    return State(hidden, cell), hidden


class Lstm(nnx.Module):
    """A stack of layers; `hidden` values per direction leave every one of them.

    `dropout` is the share of the outputs of all layers but the last that is set to 0 in training.
    """

    def __init__(
        self,
        networks: int,
        size: int,
        hidden: int,
        layers: int,
        *,
        directions: int = 2,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):
        self.dropout = dropout
        sizes = [size] + [directions * hidden] * (layers - 1)
        make: Callable[[int], LstmLayer]
        make = partial(LstmLayer, networks, hidden=hidden, directions=directions, rngs=rngs)
        self.layers = nnx.List([make(entering) for entering in sizes])

    def __call__(
        self,
        x: jax.Array,
        states: tuple[State, ...] | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[State, ...]]:
        """Return `[network, frame, batch, directions * hidden]` and the states of all layers.

        `x: [network, frame, batch, size]`. With a key, outputs are dropped as in training.
        """
        leaving = []
        for i, layer in enumerate(self.layers):
            if key is not None and i > 0 and self.dropout > 0:
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - self.dropout, x.shape)
                x = jnp.where(kept, x / (1 - self.dropout), 0)
            x, state = layer(x, None if states is None else states[i])
            leaving.append(state)
        return x, tuple(leaving)
