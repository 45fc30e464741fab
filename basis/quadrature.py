"""The exact posterior of two sources under the decibel law, bin by bin, by quadrature.

With y_k = z_k + gains_k / beta, the level u = f(z) and the difference d = y_1 - y_2 are

    y_1 = u - softplus(-beta d) / beta,    y_2 = u - softplus(beta d) / beta,

a map of volume 1, so that p(u, d | m) ~ p_1(z_1) p_2(z_2) N(m; u, tau^2): narrow in u, where the
observation holds it, and as wide in d as the priors leave it. Any densities will do.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from basis.mixing import Decibel

REACH = 6.0  # sd of the observation on either side of the mixture that levels are tabulated over


class BinPosterior(NamedTuple):
    """Probabilities on a grid of levels around the mixture and of differences."""

    mixing: Decibel
    levels: jax.Array  # [batch, level], values of u
    differences: jax.Array  # [difference], values of d
    probabilities: jax.Array  # [batch, difference, level], summing to 1
    log_evidence: jax.Array  # [batch], log p(mixture)

    def mean(self) -> jax.Array:
        """Give the posterior means of both sources, `[2, batch]`."""
        return self._expect(self._sources())

    def sd(self) -> jax.Array:
        """Give the posterior standard deviations of both sources, `[2, batch]`."""
        mean = self.mean()
        return jnp.sqrt(self._expect((self._sources() - mean[..., None, None]) ** 2))

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Draw `[n, 2, batch]`: a difference, then a level, each uniform within its cell."""
        keys, shape = jax.random.split(key), (2, len(self.levels), n)
        uniform = jax.random.uniform(keys[0], shape, self.levels.dtype)
        jitter = jax.random.uniform(keys[1], shape, self.levels.dtype) - 0.5
        row = _draw(self.probabilities.sum(-1)[:, None], uniform[0])  # [batch, n]
        column = _draw(jnp.take_along_axis(self.probabilities, row[..., None], 1), uniform[1])
        d = self.differences[row] + jitter[0] * (self.differences[1] - self.differences[0])
        u = jnp.take_along_axis(self.levels, column, 1)
        u = u + jitter[1] * (self.levels[:, 1] - self.levels[:, 0])[:, None]
        return jnp.moveaxis(split(self.mixing, u, d), -1, 0)

    def _sources(self) -> jax.Array:
        """Give the sources on the grid, `[2, batch, difference, level]`."""
        return split(self.mixing, self.levels[:, None, :], self.differences[:, None])

    def _expect(self, values: jax.Array) -> jax.Array:
        return (self.probabilities * values).sum((-2, -1))


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
        log_densities: two functions, elementwise log p_k(z), normalised where the evidence counts.
        mixing: with gains of two sources.
        mixture: `[batch]`.
        tau: sd of the observation.
        differences: `[difference]`, evenly spaced, centres of cells that reach wherever
            z_1 - z_2 + (gains_1 - gains_2) / beta has weight; fine against 1 / beta and priors.
        levels: cells from REACH tau below the mixture to REACH tau above it.

    Raises:
        ValueError: unless there are two sources.
    """
    if len(log_densities) != 2 or mixing.gains.shape != (2,):
        raise ValueError(
            f"expected two sources, not {len(log_densities)} densities and gains of "
            f"shape {mixing.gains.shape}: quadrature knows no more"
        )
    step = 2 * REACH / levels
    offsets = (jnp.arange(levels, dtype=mixture.dtype) + 0.5) * step - REACH
    level_values = mixture[:, None] + tau * offsets
    sources = split(mixing, level_values[:, None, :], differences[:, None])
    log_prior = sum(log_p(z) for log_p, z in zip(log_densities, sources, strict=True))
    joint = log_prior - 0.5 * offsets**2  # times 1 / (tau sqrt(2 pi)) and the cell, below
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
    """Give the two sources `[2, ...]` of mixture `level` whose loudness differs by `difference`."""
    beta = mixing.beta
    level, difference = jnp.broadcast_arrays(level, difference)
    below = jax.nn.softplus(jnp.stack([-beta * difference, beta * difference]))
    gains = mixing.gains.reshape(2, *[1] * level.ndim)
    return level - (below + gains) / beta


def _draw(probabilities: jax.Array, uniform: jax.Array) -> jax.Array:
    """Draw indices `[...]` of `probabilities: [..., size]` by inverting their sums."""
    sums = jnp.cumsum(probabilities, axis=-1)
    return (sums[..., :-1] <= uniform[..., None] * sums[..., -1:]).sum(-1)
