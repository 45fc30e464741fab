"""Posterior samples of the images in mixtures: sampled in chains, weighed, put in one order."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from basis import (
    Kernel,
    Prior,
    check,
    evidence_weights,
    onto_mixture,
    sample,
)
from gensep.images.mixtures import Mix
from gensep.images.settings import ImageSettings
from gensep.runtime.errors import UserError
from gensep.separation.chains import Chain, Chains
from gensep.separation.judges import JUDGES

if TYPE_CHECKING:
    from gensep.separation.settings import Measure

# what all chains share: key, priors, noise levels, deviation of the observation, levels of the
# judge; and what a group has of its own: mixtures, their places, numbers of the samples [chain]
Shared = tuple[jax.Array, tuple[Prior, ...], jax.Array, jax.Array, jax.Array]
Seen = tuple[jax.Array, jax.Array, jax.Array]
# what a group of chains returns: sources [source, chain, ...], residuals [chain], how implausible
# the sources are [chain], forward passes and vector-Jacobian products of each source's network
Sampled = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


class Separated(NamedTuple):
    """Posterior samples, and what they cost."""

    samples: np.ndarray  # float32 [sample, source, n, height, width, channels], model units
    weights: np.ndarray  # [sample, n], how plausible the priors find the samples, sum 1 over them
    residual: np.ndarray  # [sample, n], rms error of the mixing law at the last noise level
    forwards: int  # network evaluations of each source, all samples of a mixture together
    vjps: int
    compile_seconds: float
    run_seconds: float


def separate_images(
    mix: Mix,
    priors: tuple[Prior, ...],
    mixture: np.ndarray,
    settings: ImageSettings,
    progress: Callable[[int], object] = lambda done: None,
    batch: int | None = None,
) -> Separated:
    """Sample the sources of mixtures `[n, height, width, channels]`.

    `mixture` is what `mix.observe` returns, and every source has one prior. `progress` is called
    with the number of chains that were just done. A device runs `batch` chains at once, by default
    few on a CPU, whose cache is small.

    Raises:
        UserError: for what the priors or the sampler cannot work with.
    """

    def observe(chains: list[Chain]) -> tuple[np.ndarray, ...]:
        place, number = np.array(chains, np.uint32).T
        return mixture[place], place, number

    run = _prepare(mix, priors, mixture, settings, batch)
    parts, residuals, implausible = [], [], []
    for group, result in run.run(observe):
        found, residual, unlikely, forwards, vjps = jax.device_get(result)
        parts.append(found[:, : len(group)])
        residuals.append(residual[: len(group)])
        implausible.append(unlikely[: len(group)])
        progress(len(group))
    split = settings.samples, len(mixture)
    sources = np.concatenate(parts, 1)
    sources = sources.reshape(len(sources), *split, *sources.shape[2:]).swapaxes(0, 1)
    return Separated(
        np.stack([mix.images(one) for one in sources]),
        weigh(np.concatenate(implausible).reshape(split), settings),
        np.concatenate(residuals).reshape(split),
        int(forwards) * settings.samples,
        int(vjps) * settings.samples,
        run.compile_seconds,
        run.run_seconds,
    )


def _prepare(
    mix: Mix,
    priors: tuple[Prior, ...],
    mixture: np.ndarray,
    settings: ImageSettings,
    batch: int | None,
) -> Chains[Sampled]:
    """Return the sampler of the mixtures; refuse what it cannot work with."""
    if JUDGES[settings.judge].density and not all(hasattr(p, "log_prob") for p in priors):
        raise UserError(
            f"judging samples by {settings.judge} needs priors that know their density, as "
            "flows do; take --judge evidence"
        )
    levels, kernel = settings.levels(), settings.kernel()
    judged = jnp.asarray(settings.weighting.levels if settings.weighed else (), jnp.float32)
    try:
        check(kernel, mix.problem(priors, jnp.zeros_like(mixture[:1]), settings.tau), levels)
    except ValueError as error:
        raise UserError(str(error)) from None
    return Chains(
        partial(_sample, kernel, mix, settings.measure()),
        (settings.sampler, settings.constraint, settings.judge, mix),
        (jax.random.key(settings.seed), priors, jnp.asarray(levels), settings.tau, judged),
        [(place, number) for number in range(settings.samples) for place in range(len(mixture))],
        per_device=batch or (32 if jax.default_backend() == "cpu" else 1024),
    )


def weigh(implausible: np.ndarray, settings: ImageSettings) -> np.ndarray:
    """Return the weights of samples from how implausible they are; both `[sample, n]`."""
    if not settings.weighed:
        return np.full(implausible.shape, 1 / len(implausible), np.float32)
    return np.asarray(evidence_weights(jnp.asarray(implausible), settings.weighting.temperature))


def _sample(
    kernel: Kernel, mix: Mix, measure: "Measure | None", shared: Shared, seen: Seen
) -> Sampled:
    """Sample and judge a group of chains; traced."""
    (key, priors, levels, tau, judged), (mixture, place, number) = shared, seen
    shape = (len(priors), *mixture.shape[1:])

    def one(key: jax.Array, place: jax.Array, number: jax.Array) -> jax.Array:
        own = jax.random.fold_in(jax.random.fold_in(key, number), place)
        return jax.random.normal(own, shape, mixture.dtype)

    def normal(key: jax.Array) -> jax.Array:
        # depends on the mixture and the number of the sample, not on the rest of the group
        return jnp.moveaxis(jax.vmap(one, (None, 0, 0))(key, place, number), 0, 1)

    problem = mix.problem(priors, mixture, tau)
    sources, info = sample(kernel, key, problem, levels, normal)
    sources, implausible = onto_mixture(problem, sources), jnp.zeros(len(mixture))
    if measure is not None:
        implausible = measure(priors, key, sources, judged)
    forwards = info.forwards.sum() + len(judged)
    return sources, info.residual[-1], implausible, forwards, info.vjps.sum()


def align(samples: np.ndarray, leading: np.ndarray | None = None) -> np.ndarray:
    """Order the sources of every sample `[sample, source, n, ...]` like those of a leading one.

    `leading: [n]` is the number of the leading sample of every mixture, by default the first. Where
    all sources have one prior, their order is arbitrary, and a mean over samples in different
    orders would be a mean over sources.
    """
    out = samples.copy()
    for i in range(samples.shape[2]):
        first = samples[0 if leading is None else leading[i], :, i]
        for one in out:
            one[:, i] = one[list(best_order(one[:, i], first)), i]
    return out


def best_order(estimate: np.ndarray, reference: np.ndarray) -> tuple[int, ...]:
    """Return the order of `estimate: [source, ...]` in which it is nearest to `reference`."""
    sources = range(len(reference))
    cost = [
        [float(np.sum(np.square(np.subtract(e, r, dtype=np.float64)))) for e in estimate]
        for r in reference
    ]
    orders = itertools.permutations(sources)
    return min(orders, key=lambda order: sum(cost[i][j] for i, j in enumerate(order)))
