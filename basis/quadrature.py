"""The exact posterior of two sources under the decibel law, per element, by quadrature.

With y_k = z_k + gains_k / beta, the loudness u = f(z) and the difference d = y_1 - y_2 determine

    y_1 = u - softplus(-beta d) / beta,    y_2 = u - softplus(beta d) / beta,

a map of determinant 1, so that p(u, d | m) ~ p_1(z_1) p_2(z_2) N(m; u, tau^2). This is narrow in u,
because of the observation, and as wide in d as the priors are. The priors may have any densities.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from basis.broadcast import align_first
from basis.mixing import Decibel

REACH = 6.0  # loudnesses are tabulated within this many tau on either side of the mixture


class BinPosterior(NamedTuple):
    """Probabilities on a grid of differences, and of loudnesses (levels) around the mixture."""

    mixing: Decibel
    levels: jax.Array  # [batch, level], values of u
    differences: jax.Array  # [difference], values of d
    probabilities: jax.Array  # [batch, difference, level], summing to 1
    log_evidence: jax.Array  # [batch], log p(mixture)

    def mean(self) -> jax.Array:
        """Return the posterior means of both sources, `[2, batch]`."""
        return self._expect(self._sources())

    def sd(self) -> jax.Array:
        """Return the posterior standard deviations of both sources, `[2, batch]`."""
        mean = self.mean()
        return jnp.sqrt(self._expect((self._sources() - mean[..., None, None]) ** 2))

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Draw samples `[n, 2, batch]`: a difference, then a level, each uniform in its cell."""
        keys, shape = jax.random.split(key), (2, len(self.levels), n)
        uniform = jax.random.uniform(keys[0], shape, self.levels.dtype)
        jitter = jax.random.uniform(keys[1], shape, self.levels.dtype) - 0.5
        row = _sample_index(self.probabilities.sum(-1)[:, None], uniform[0])  # [batch, n]
        column = _sample_index(
            jnp.take_along_axis(self.probabilities, row[..., None], 1), uniform[1]
        )
        d = self.differences[row] + jitter[0] * (self.differences[1] - self.differences[0])
        u = jnp.take_along_axis(self.levels, column, 1)
        u = u + jitter[1] * (self.levels[:, 1] - self.levels[:, 0])[:, None]
        return jnp.moveaxis(split(self.mixing, u, d), -1, 0)

    def _sources(self) -> jax.Array:
        """Return the sources on the grid, `[2, batch, difference, level]`."""
        return split(self.mixing, self.levels[:, None, :], self.differences[None, :, None])

    def _expect(self, values: jax.Array) -> jax.Array:
        return (self.probabilities[None] * values).sum((-2, -1))


def bin_posterior(
    log_densities: Sequence[Callable[[jax.Array], jax.Array]],
    mixing: Decibel,
    mixture: jax.Array,
    tau: float,
    differences: jax.Array,
    levels: int = 49,
) -> BinPosterior:
    """Tabulate the posterior of two sources given mixture = mixing(sources) + tau n.

    Args:
        log_densities: two functions, elementwise log p_k(z); normalised if the evidence is used.
        mixing: the decibel law with gains of two sources.
        mixture: `[batch]`.
        tau: standard deviation of the observation.
        differences: `[difference]`, evenly spaced centres of cells that cover all probable
            z_1 - z_2 + (gains_1 - gains_2) / beta; cells must be small against 1 / beta and the
            widths of the priors.
        levels: number of cells from REACH tau below the mixture to REACH tau above it.

    Raises:
        ValueError: unless there are two sources.
    """
    if len(log_densities) != 2 or mixing.gains.shape != (2,):
        raise ValueError(
            f"expected two sources, not {len(log_densities)} densities and gains of "
            f"shape {mixing.gains.shape}: quadrature is for two sources only"
        )
    step = 2 * REACH / levels
    offsets = (jnp.arange(levels, dtype=mixture.dtype) + 0.5) * step - REACH
    level_values = mixture[:, None] + (tau * offsets)[None]
    sources = split(mixing, level_values[:, None, :], differences[None, :, None])
    each = zip(log_densities, sources, strict=True)
    log_prior = jnp.asarray(sum(log_p(z) for log_p, z in each))
    # without the factor 1 / (tau sqrt(2 pi)) and the volume of the cell, which follow below
    joint = log_prior - (0.5 * offsets**2)[None, None]
    total = jax.nn.logsumexp(joint, axis=(1, 2))
    cell = step * (differences[1] - differences[0]) / jnp.sqrt(2 * jnp.pi)
    return BinPosterior(
        mixing,
        level_values,
        differences,
        jnp.exp(joint - total[:, None, None]),
        total + jnp.log(cell),
    )


def split(mixing: Decibel, level: jax.Array, difference: jax.Array) -> jax.Array:
    """Return the two sources `[2, ...]` with mixture `level` and the given difference."""
    beta = mixing.beta
    level, difference = jnp.broadcast_arrays(level, difference)
    below = jax.nn.softplus(jnp.stack([-beta * difference, beta * difference]))
    return level[None] - (below + align_first(mixing.gains, below)) / beta


def _sample_index(probabilities: jax.Array, uniform: jax.Array) -> jax.Array:
    """Return indices `[...]` sampled from `probabilities: [..., size]` by inversion."""
    sums = jnp.cumsum(probabilities, axis=-1)
    return (sums[..., :-1] <= uniform[..., None] * sums[..., -1:]).sum(-1)
