"""Are these samples of the posterior? Distances, calibration, averaging, and stability."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from basis.mixing import AncestorDecibel, Decibel, Linear, Mixing


def sliced_wasserstein(
    key: jax.Array, a: jax.Array, b: jax.Array, directions: int = 64
) -> jax.Array:
    """Give the sliced Wasserstein-2 distance of samples `a: [n, D]` and `b: [m, D]`, `[]`.

    The root of the mean, over random directions, of the squared distance of the projections. In
    one dimension the best transport keeps the order, so that sorted values are compared; samples
    of unequal size, as step functions of the quantile.
    """
    n, m = len(a), len(b)
    way = jax.random.normal(key, (a.shape[1], directions), a.dtype)
    way = way / jnp.linalg.norm(way, axis=0)
    # quantiles where either function steps, in integers: units of 1 / (n m)
    ends = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    width = jnp.asarray(np.diff(ends) / (n * m), a.dtype)
    one = jnp.sort(a @ way, axis=0)[ends[:-1] // m]
    two = jnp.sort(b @ way, axis=0)[ends[:-1] // n]
    return jnp.sqrt((width @ (one - two) ** 2).mean())


def coverage(samples: jax.Array, truth: jax.Array, level: float = 0.8) -> jax.Array:
    """Give the share of `truth: [...]` inside the central interval of `samples: [n, ...]`, `[]`.

    Quantile q is the order statistic number q (n + 1): were the truth one more sample, it would be
    covered with probability `level` whatever the law. Between neighbours it is linear, which is
    exact only nearly; take n (n = 4 for 60 %, 9 or 19 for 80 %) accordingly where it is small.
    """
    n = len(samples)
    tails = jnp.asarray([0.5 - level / 2, 0.5 + level / 2])
    place = jnp.clip((tails * (n + 1) - 1) / max(n - 1, 1), 0, 1)
    low, high = jnp.quantile(samples, place, axis=0)
    return ((low <= truth) & (truth <= high)).mean()


def sbc_ranks(samples: jax.Array, truth: jax.Array) -> jax.Array:
    """Give the number of `samples: [n, ...]` below `truth: [...]`, 0 to n, int `[...]`.

    Simulation-based calibration (Talts et al. 2018): uniform if truth and samples have one law.
    """
    return (samples < truth).sum(0)


class Uniformity(NamedTuple):
    """A chi-square test."""

    statistic: jax.Array  # []
    p_value: jax.Array  # [], small where ranks are not uniform


def rank_uniformity(ranks: jax.Array, n: int, bins: int = 16) -> Uniformity:
    """Test ranks 0 to n for uniformity over `bins`.

    The ranks must be independent: one element a problem, samples from chains of their own.
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
    """Give the mean squared error of means of N samples for every N of `counts`, `[count]`.

    Over all disjoint groups of N of `samples: [n, ...]`. Samples of the posterior obey
    `averaging_law`; samples that are too much alike fall less.
    """
    means = [samples[: len(samples) // c * c].reshape(-1, c, *truth.shape).mean(1) for c in counts]
    return jnp.stack([((mean - truth) ** 2).mean() for mean in means])


def averaging_law(best: float, counts: tuple[int, ...] = (1, 2, 4, 8, 16)) -> jax.Array:
    """Give best (1 + 1/N), what exact samples do; `best` is the posterior mean's squared error."""
    return best * (1 + 1 / jnp.asarray(counts))


def stability(
    step_size: float,
    gamma_scale: float,
    gains,
    at: Literal["noisy", "denoised"] = "noisy",
) -> tuple[float, str]:
    """Give the stiffness of BASIS, to be below 2, and what to change if it is not, else "".

    Around a peak that is narrow against sigma a Langevin step multiplies the error by 1 - eta A,
    eta = step_size sigma^2, where A has eigenvalues up to 1 / sigma^2 + |gains|^2 / gamma^2: with
    gamma^2 >= gamma_scale sigma^2 that is step_size (|gains|^2 / gamma_scale + 1), at any level.
    On the denoised sources, prior and likelihood pull in turn and the larger one decides:
    step_size max(|gains|^2 / gamma_scale, 1).
    """
    pull = float(np.sum(np.square(gains))) / gamma_scale
    stiffness = pull + 1 if at == "noisy" else max(pull, 1.0)
    value = step_size * stiffness
    if value < 2:
        return value, ""
    remedy = f"take step_size below {2 / stiffness:.4g}"
    room = 2 / step_size - (1 if at == "noisy" else 0)  # for the likelihood's share
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
        ValueError: naming the bound and the remedy; or for a map whose slope is not known.
    """
    if isinstance(mixing, Linear):
        gains = np.asarray(mixing.gains)
    elif isinstance(mixing, Decibel | AncestorDecibel):
        gains = np.ones(1)  # the slopes are a softmax: their squares sum to 1 at most
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
