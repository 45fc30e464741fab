"""Moves of whole stretches between explanations of a mixture, for chains at one noise level.

A chain that gave a passage to the wrong source can rarely correct this by small steps, because
everything between the two explanations is improbable. These moves change a *stretch*, a range of
one axis such as frames, at once:

- `swap` exchanges two sources within a chain;
- `stitch` exchanges the stretches of two chains of one mixture, the crossover of evolutionary Monte
  Carlo (Liang & Wong 2000; Liu 2001);
- `resample_stretches` replaces improbable chains by copies of probable ones, stretch by stretch, as
  the blocked particle filter does (Rebeschini & van Handel 2015).

The first two are Metropolis moves: where the energy is the negative logarithm of the density of the
noisy sources given the mixture, they leave that density unchanged, for `stitch` the product of the
chains' densities. `moving` applies a move between the noise levels of any kernel.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from basis.sampler import Info, Kernel, Normal, Problem, State

# Sources [source, batch, ...] -> energy in nats. With one number per chain, `[batch]`, a move tries
# one stretch. With one number per element of the axis, `[batch, length]`, whose sum is the energy,
# it tries many stretches at once, with as much between them as they are long; each is accepted by
# the change of the energy around it. This is exact if the number of an element depends only on
# elements at most half a stretch away. If the energy is a random estimate, each call must draw the
# same noise: the move is then exact for the estimated density.
Energy = Callable[[jax.Array], jax.Array]
# (key, state, problem, noise level of the state) -> state
Move = Callable[[jax.Array, State, Problem, jax.Array], State]

APART = 0x6D6F7665  # folded into a key that kernels split into a few: none of those equals it


def swap(
    key: jax.Array, sources: jax.Array, energy: Energy, stretch: int, axis: int = 2
) -> tuple[jax.Array, jax.Array]:
    """Exchange two sources over stretches, each with probability min(1, exp(fall of the energy)).

    The two sources and the places of the stretches are random and the same for all chains; every
    chain accepts for itself.

    Args:
        key: random key.
        sources: noisy sources `[source, batch, ...]`, two or more.
        energy: negative log density in nats, `[batch]` or `[batch, length]`; see `Energy`. It is
            called twice.
        stretch: length of a stretch in elements of the axis.
        axis: of the sources, along which a stretch is cut.

    Returns:
        Sources, shaped like `sources`, and the share of the proposed elements that were exchanged,
        `[batch]`.
    """
    first_key, second_key, move_key = jax.random.split(key, 3)
    count, batch = sources.shape[:2]
    first = jax.random.randint(first_key, (), 0, count)
    second = (first + jax.random.randint(second_key, (), 1, count)) % count
    order = jnp.arange(count).at[first].set(second).at[second].set(first)
    return _exchange(move_key, sources, sources[order], energy, jnp.arange(batch), stretch, axis)


def stitch(
    key: jax.Array,
    sources: jax.Array,
    energy: Energy,
    chains: int,
    stretch: int,
    axis: int = 2,
) -> tuple[jax.Array, jax.Array]:
    """Exchange stretches between random pairs of chains of one mixture; both accept or neither.

    Args:
        key: random key.
        sources: noisy sources `[source, batch, ...]`; chains of one mixture are adjacent.
        energy: negative log density in nats, `[batch]` or `[batch, length]`; see `Energy`. It is
            called twice.
        chains: number of chains per mixture, a divisor of the batch. If it is odd, one of them
            stays as it is.
        stretch: length of a stretch in elements of the axis.
        axis: of the sources, along which a stretch is cut.

    Returns:
        Sources, shaped like `sources`, and the share of the proposed elements that were exchanged,
        `[batch]`.

    Raises:
        ValueError: if `chains` does not divide the batch.
    """
    pair_key, move_key = jax.random.split(key)
    order = jax.random.uniform(pair_key, (chains,)).argsort()[: chains // 2 * 2]
    partner = jnp.arange(chains).at[order].set(order.reshape(-1, 2)[:, ::-1].reshape(-1))
    partner = (_groups(sources, chains)[:, None] + partner[None]).reshape(-1)
    return _exchange(move_key, sources, sources[:, partner], energy, partner, stretch, axis)


def resample_stretches(
    key: jax.Array,
    sources: jax.Array,
    energies: jax.Array,
    chains: int,
    stretch: int,
    axis: int = 2,
) -> jax.Array:
    """Resample the chains of every mixture, in every stretch by its own weights exp(-energy).

    The energy of a stretch is the sum over its elements. Resampling is systematic: a chain of
    weight w gets chains * w copies, rounded up or down at random. A chain that survives keeps its
    place, and copies take the places of chains that do not. The joint distribution of neighbouring
    stretches is exact only if they are independent.

    Args:
        key: random key.
        sources: `[source, batch, ...]`; chains of one mixture are adjacent.
        energies: minus the logarithms of the weights, in nats, `[batch, length]`.
        chains: number of chains per mixture, a divisor of the batch.
        stretch: length of a stretch in elements of the axis.
        axis: of the sources, along which a stretch is cut.

    Returns:
        Sources, shaped like `sources`.

    Raises:
        ValueError: if `chains` does not divide the batch.
    """
    place_key, choice_key = jax.random.split(key)
    offset, count = _grid(place_key, energies.shape[1], stretch)
    number = (jnp.arange(energies.shape[1]) + offset) // stretch
    summed = _sums(energies, number, count).reshape(-1, chains, count)
    shift = jax.random.uniform(choice_key, (len(summed), 1, count), energies.dtype)
    # of the equally spaced points (i + 1 - shift) / chains, how many lie in the share of each chain
    reach = jnp.floor(chains * jnp.cumsum(jax.nn.softmax(-summed, 1), 1) + shift)
    reach = jnp.clip(reach, 0, chains).at[:, -1].set(chains)
    copies = jnp.diff(reach, axis=1, prepend=0).astype(int)
    spare, free = jnp.cumsum(jnp.maximum(copies - 1, 0), 1), copies == 0
    # the i-th free place gets the i-th spare copy
    rank = jnp.cumsum(free, 1) - 1
    find = jax.vmap(lambda ends, i: jnp.searchsorted(ends, i, side="right"), in_axes=1, out_axes=1)
    chosen = jnp.where(free, jax.vmap(find)(spare, rank), jnp.arange(chains)[None, :, None])
    ancestor = (_groups(sources, chains)[:, None, None] + chosen).reshape(-1, count)
    index = _spread(ancestor[:, number], sources.ndim, axis)
    return jnp.take_along_axis(sources, index, 1)


def moving(kernel: Kernel, move: Move, lowest: float, highest: float, calls: int = 0) -> Kernel:
    """Return `kernel` with `move` after every level that ends at a noise in [lowest, highest].

    Args:
        kernel: any sampler.
        move: (key, state, problem, sigma) -> state at the same noise level sigma.
        lowest: of the noise levels; 0 includes the end of the last level.
        highest: of the noise levels.
        calls: network evaluations per source of one move, for the report.
    """

    def step(
        key: jax.Array,
        state: State,
        problem: Problem,
        sigma: jax.Array,
        sigma_next: jax.Array,
        normal: Normal,
    ) -> tuple[State, Info]:
        state, info = kernel.step(key, state, problem, sigma, sigma_next, normal)
        chosen = (lowest <= sigma_next) & (sigma_next <= highest)
        # not split, so that the kernel draws the same noise with and without moves
        own = jax.random.fold_in(key, APART)
        state = jax.lax.cond(
            chosen, lambda s: move(own, s, problem, sigma_next), lambda s: s, state
        )
        return state, info._replace(forwards=info.forwards + calls * chosen)

    return kernel._replace(step=step)


def _exchange(
    key: jax.Array,
    sources: jax.Array,
    other: jax.Array,
    energy: Energy,
    partner: jax.Array,
    stretch: int,
    axis: int,
) -> tuple[jax.Array, jax.Array]:
    """Replace stretches of `sources` by those of `other`; partners `[batch]` accept together.

    Doing the same once more restores the sources, so that proposals are symmetric.
    """
    place_key, accept_key = jax.random.split(key)
    batch, length = sources.shape[1], sources.shape[axis]
    before, place = energy(sources), jnp.arange(length)
    if before.ndim == 1:  # one stretch anywhere
        place = place - jax.random.randint(place_key, (), 1 - stretch, length)
        number, count = jnp.zeros_like(place), 1
    else:  # one stretch in the middle of every piece of twice its length
        offset, count = _grid(place_key, length, 2 * stretch)
        number = (place + offset) // (2 * stretch)
        place = (place + offset) % (2 * stretch) - stretch // 2
    here = jnp.broadcast_to(((place >= 0) & (place < stretch))[None], (batch, length))
    proposed = jnp.where(_spread(here, sources.ndim, axis), other, sources)
    rise = energy(proposed) - before
    rise = rise[:, None] if rise.ndim == 1 else _sums(rise, number, count)
    own = jnp.arange(batch)
    rise = jnp.where((partner == own)[:, None], rise, rise + rise[partner])
    chance = jax.random.uniform(accept_key, rise.shape, rise.dtype)[jnp.minimum(own, partner)]
    taken = (jnp.log(chance) < -rise)[:, number] & here
    share = taken.sum(1) / jnp.maximum(here.sum(1), 1)
    return jnp.where(_spread(taken, sources.ndim, axis), other, sources), share


def _grid(key: jax.Array, length: int, piece: int) -> tuple[jax.Array, int]:
    """Cut an axis into pieces at a random offset: element i is in piece (i + offset) // piece.

    Return the offset and the number of pieces. The first and the last may be shorter than the
    others, or hold no element at all.
    """
    return jax.random.randint(key, (), 0, piece), (length + piece - 2) // piece + 1


def _sums(values: jax.Array, number: jax.Array, count: int) -> jax.Array:
    """Return the sums of values `[batch, length]` over stretches, `[batch, stretch]`."""
    return jnp.zeros((len(values), count), values.dtype).at[:, number].add(values)


def _groups(sources: jax.Array, chains: int) -> jax.Array:
    """Return the index of the first chain of every mixture; raise ValueError if chains are left."""
    if sources.shape[1] % chains:
        raise ValueError(f"expected a batch divisible by {chains} chains, not {sources.shape[1]}")
    return jnp.arange(0, sources.shape[1], chains)


def _spread(values: jax.Array, ndim: int, axis: int) -> jax.Array:
    """Align `[batch, length]` with sources: axes of size 1 except the batch and `axis`."""
    return jnp.expand_dims(values, [a for a in range(ndim) if a not in (1, axis)])
