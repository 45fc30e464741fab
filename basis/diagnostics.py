"""Diagnostics of samplers: distances, calibration, errors of averages, and stability."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from basis.mixing import AncestorDecibel, Decibel, Generated, Linear, Mixing, steepest


def sliced_wasserstein(
    key: jax.Array, a: jax.Array, b: jax.Array, directions: int = 64
) -> jax.Array:
    """Return the sliced Wasserstein-2 distance of samples `a: [n, D]` and `b: [m, D]`, `[]`.

    It is the root of the mean, over random directions, of the squared distance of the projections.
    In one dimension the optimal transport keeps the order, so sorted values are compared; for
    n != m, their quantile functions are.
    """
    n, m = len(a), len(b)
    way = jax.random.normal(key, (a.shape[1], directions), a.dtype)
    way = way / jnp.linalg.norm(way, axis=0)[None]
    # quantiles where either function steps, as integers in units of 1 / (n m)
    ends = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    width = jnp.asarray(np.diff(ends) / (n * m), a.dtype)
    one = jnp.sort(a @ way, axis=0)[ends[:-1] // m]
    two = jnp.sort(b @ way, axis=0)[ends[:-1] // n]
    return jnp.sqrt((width @ (one - two) ** 2).mean())


def coverage(samples: jax.Array, truth: jax.Array, level: float = 0.8) -> jax.Array:
    """Return the share of `truth: [...]` inside the central interval of `samples: [n, ...]`, `[]`.

    Quantile q is the order statistic number q (n + 1): if the truth is distributed as the samples,
    it is covered with probability `level` for any distribution. Between order statistics quantiles
    are interpolated linearly, which is only nearly exact; for small n choose one that needs no
    interpolation (4 for 60 %, 9 or 19 for 80 %).
    """
    n = len(samples)
    tails = jnp.asarray([0.5 - level / 2, 0.5 + level / 2])
    place = jnp.clip((tails * (n + 1) - 1) / max(n - 1, 1), 0, 1)
    low, high = jnp.quantile(samples, place, axis=0)
    return ((low <= truth) & (truth <= high)).mean()


def sbc_ranks(samples: jax.Array, truth: jax.Array) -> jax.Array:
    """Return the number of `samples: [n, ...]` below `truth: [...]`, integers 0 to n, `[...]`.

    Simulation-based calibration (Talts et al. 2018): the ranks are uniform if truth and samples
    have the same distribution.
    """
    return (samples < truth[None]).sum(0)


class Uniformity(NamedTuple):
    """The result of a chi-square test."""

    statistic: jax.Array  # []
    p_value: jax.Array  # [], small if the ranks are not uniform


def rank_uniformity(ranks: jax.Array, n: int, bins: int = 16) -> Uniformity:
    """Test `ranks` from 0 to n for uniformity over `bins` by a chi-square test.

    The ranks must be independent: use one element per problem, and one chain per sample.
    """
    bins = min(bins, n + 1)
    place = np.arange(n + 1) * bins // (n + 1)  # bin of every rank
    expected = np.bincount(place, minlength=bins) * (ranks.size / (n + 1))
    counts = jnp.bincount(jnp.asarray(place)[ranks.reshape(-1)], length=bins)
    statistic = ((counts - expected) ** 2 / expected).sum()
    return Uniformity(statistic, jax.scipy.special.gammaincc((bins - 1) / 2, statistic / 2))


def mse_of_mean(
    samples: jax.Array, truth: jax.Array, counts: tuple[int, ...] = (1, 2, 4, 8, 16)
) -> jax.Array:
    """Return the mean squared error of means of N samples for every N of `counts`, `[count]`.

    The error is averaged over all disjoint groups of N of `samples: [n, ...]`. For samples of the
    posterior it follows `averaging_law`; for samples that vary too little it falls less.
    """
    means = [samples[: len(samples) // c * c].reshape(-1, c, *truth.shape).mean(1) for c in counts]
    return jnp.stack([((mean - truth[None]) ** 2).mean() for mean in means])


def averaging_law(best: float, counts: tuple[int, ...] = (1, 2, 4, 8, 16)) -> jax.Array:
    """Return best (1 + 1/N), the error of means of N exact samples; `best` is that of the mean."""
    return best * (1 + 1 / jnp.asarray(counts))


def stability(
    step_size: float,
    gamma_scale: float,
    gains: ArrayLike,
    at: Literal["noisy", "denoised"] = "noisy",
) -> tuple[float, str]:
    """Return the stiffness of `langevin`, and a remedy if it is not below 2, else "".

    Around a peak of the prior that is narrow compared to sigma, a Langevin step multiplies the
    error by 1 - eta A with eta = step_size sigma^2, where A has eigenvalues up to
    1 / sigma^2 + |gains|^2 / gamma^2. As gamma^2 >= gamma_scale sigma^2, eta A is at most
    step_size (|gains|^2 / gamma_scale + 1) at any level. With the map at the denoised sources
    either the prior or the likelihood dominates: step_size max(|gains|^2 / gamma_scale, 1).
    """
    pull = float(np.sum(np.square(gains))) / gamma_scale
    stiffness = pull + 1 if at == "noisy" else max(pull, 1.0)
    value = step_size * stiffness
    if value < 2:
        return value, ""
    remedy = f"take step_size below {2 / stiffness:.4g}"
    room = 2 / step_size - (1 if at == "noisy" else 0)  # what is left for the likelihood
    if room > 0 and step_size < 2:
        remedy += f" or gamma_scale above {pull * gamma_scale / room:.4g}"
    return value, remedy


def check_langevin(
    step_size: float,
    gamma_scale: float,
    mixing: Mixing,
    at: Literal["noisy", "denoised"] = "denoised",
) -> None:
    """Refuse settings of `langevin` that would diverge, before anything is compiled.

    Raises:
        ValueError: with the bound and the remedy; or for a map without a known bound of its slope.
    """
    if isinstance(mixing, Linear):
        gains = np.asarray(mixing.gains)
    elif isinstance(mixing, Decibel | AncestorDecibel):
        gains = np.ones(1)  # the slopes are a softmax, so their squares sum to at most 1
    elif isinstance(mixing, Generated):
        gains = np.sqrt(steepest(mixing))
    else:
        raise ValueError(
            f"expected a Linear or Decibel map, not {type(mixing).__name__}: bound "
            "the sum of its squared slopes and call stability"
        )
    value, remedy = stability(step_size, gamma_scale, gains, at)
    if remedy:
        raise ValueError(
            f"langevin would diverge: step_size {step_size:g} and gamma_scale "
            f"{gamma_scale:g} make steps of {value:.3g}, expected below 2; {remedy}"
        )
