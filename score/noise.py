"""Noise levels: schedules for samplers, random levels for training, and how to choose both."""

import math
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Number = TypeVar("Number", float, np.ndarray)


def karras(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> np.ndarray:
    """Return `n` falling levels, dense near sigma_min (Karras et al. 2022, eq. 5), float32 `[n]`.

    Raises:
        ValueError: unless n >= 1 and 0 < sigma_min <= sigma_max.
    """
    if n < 1 or not 0 < sigma_min <= sigma_max:
        raise ValueError(
            f"expected n >= 1 and 0 < sigma_min <= sigma_max, not {n}, {sigma_min}, {sigma_max}"
        )
    t = np.linspace(0, 1, n) if n > 1 else np.zeros(1)
    ends = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return ((ends[0] + t * (ends[1] - ends[0])) ** rho).astype(np.float32)


def geometric(n: int, sigma_min: float, sigma_max: float) -> np.ndarray:
    """Return `n` falling levels of constant ratio (Song and Ermon 2019), float32 `[n]`.

    Raises:
        ValueError: unless n >= 1 and 0 < sigma_min <= sigma_max.
    """
    if n < 1 or not 0 < sigma_min <= sigma_max:
        raise ValueError(
            f"expected n >= 1 and 0 < sigma_min <= sigma_max, not {n}, {sigma_min}, {sigma_max}"
        )
    return np.geomspace(sigma_max, sigma_min, n).astype(np.float32)


def lognormal(key: jax.Array, n: int, mean: float, sd: float, low: float, high: float) -> jax.Array:
    """Draw `n` training levels, ln sigma ~ N(mean, sd^2), stratified and clipped to [low, high]."""
    place_key, order_key = jax.random.split(key)
    u = (jnp.arange(n) + jax.random.uniform(place_key, (n,))) / n
    u = jax.random.permutation(order_key, u)
    sigma = jnp.exp(mean + sd * jax.scipy.special.ndtri(jnp.clip(u, 1e-6, 1 - 1e-6)))
    return jnp.clip(sigma, low, high)


# ---- the number and range of levels: the techniques of NCSNv2 (Song and Ermon 2020)


def largest_distance(
    data: np.ndarray, sample: int | None = None, seed: int = 0, block: int = 2048
) -> float:
    """Return the largest distance between two examples of `data: [n, ...]` (technique 1).

    It serves as the largest noise level: with less noise, samples cannot move from one end of the
    data to the other. Blocks of pairs are compared by |a|^2 + |b|^2 - 2 a b in float32, and the
    farthest pair of each block is measured in float64. That takes n^2 D / 2 products for n
    examples of D elements.

    Args:
        data: the examples.
        sample: use only this many examples, drawn at random; the result is then a little smaller.
        seed: of the random choice.
        block: number of examples per block.

    Raises:
        ValueError: for fewer than two examples.
    """
    if len(data) < 2:
        raise ValueError(f"expected two examples or more, not {len(data)}")
    if sample is not None and sample < len(data):
        chosen = np.random.default_rng(seed).choice(len(data), max(sample, 2), replace=False)
        data = data[np.sort(chosen)]
    flat = np.asarray(data, np.float32).reshape(len(data), -1)
    flat = flat - flat.mean(0, dtype=np.float64).astype(np.float32)  # avoids cancellation
    norms = np.linalg.norm(flat, axis=1)
    order = np.argsort(-norms)
    flat, norms = flat[order], norms[order]
    best, starts = 0.0, range(0, len(flat), block)
    for i in starts:
        for j in range(i, len(flat), block):
            if norms[i] + norms[j] <= best:  # and so do all later pairs of this row
                break
            a, b = flat[i : i + block], flat[j : j + block]
            p, q = (int(k) for k in _farthest(a, b))
            best = max(best, float(np.linalg.norm(a[p].astype(np.float64) - b[q])))
    return best


@jax.jit
def _farthest(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
    """Return the indices of the rows of `a: [n, D]` and `b: [m, D]` that lie farthest apart."""
    products = jnp.matmul(a, b.T, precision="highest")
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * products
    row, column = jnp.unravel_index(squares.argmax(), squares.shape)
    return row, column


def technique2_ratio(dimension: int) -> float:
    """Return the ratio r = sigma_{i+1} / sigma_i at which neighbouring levels overlap by half.

    |x| at level i has mean sqrt(D) sigma_i and standard deviation sigma_i / sqrt(2). The share of
    level i within three standard deviations of level i + 1 is
    Phi(sqrt(2 D) (r - 1) + 3 r) - Phi(sqrt(2 D) (r - 1) - 3 r), which is 1/2 at
    r = sqrt(2 D) / (sqrt(2 D) + 3) if Phi(-6 r) is neglected.

    Raises:
        ValueError: for a dimension below 1.
    """
    if dimension < 1:
        raise ValueError(f"expected a dimension of 1 or more, not {dimension}")
    root = math.sqrt(2 * dimension)

    def overlap(r: float) -> float:
        return _normal_cdf(root * (r - 1) + 3 * r) - _normal_cdf(root * (r - 1) - 3 * r)

    low, high = 0.0, 1.0  # the overlap rises from 0 to 0.997
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if overlap(middle) < 0.5 else (low, middle)
    return high


def _normal_cdf(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


def technique2_levels(dimension: int, sigma_min: float, sigma_max: float) -> int:
    """Return the number of geometric levels whose ratio is nearest to `technique2_ratio`.

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max.
    """
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"expected 0 < sigma_min < sigma_max, not {sigma_min}, {sigma_max}")
    return max(2, round(math.log(sigma_min / sigma_max) / math.log(technique2_ratio(dimension))))


def technique4_variance(step: Number, ratio: float, steps: int) -> Number:
    """Return the variance after the Langevin steps of a level in units of sigma_i^2, ideally 1.

    rho = (1 - a)^(2 T) (g^2 - v) + v with v = 2 / (2 - a): T steps of size a sigma_i^2 start at the
    variance g^2 of the previous level and converge to v.

    Args:
        step: a = epsilon / sigma_L^2, a number or an array of them.
        ratio: g = sigma_{i-1} / sigma_i, more than 1.
        steps: T, Langevin steps per level.
    """
    limit = 2 / (2 - step)
    return (1 - step) ** (2 * steps) * (ratio**2 - limit) + limit


def technique4_step(sigma_min: float, ratio: float, steps: int) -> float:
    """Return the epsilon with the smallest rho, which is nearest to 1.

    The size of a Langevin step at level i is epsilon sigma_i^2 / sigma_L^2.

    Args:
        sigma_min: sigma_L, the last level.
        ratio: g = sigma_{i-1} / sigma_i, more than 1.
        steps: T, Langevin steps per level.

    Raises:
        ValueError: unless sigma_min > 0, ratio > 1 and steps >= 1.
    """
    if not (sigma_min > 0 and ratio > 1 and steps >= 1):
        raise ValueError(
            f"expected sigma_min > 0, ratio > 1 and steps >= 1, not {sigma_min}, {ratio}, {steps}"
        )
    tried = np.geomspace(1e-6, 1, 200_001)  # 0.007 % apart
    return float(tried[technique4_variance(tried, ratio, steps).argmin()] * sigma_min**2)
