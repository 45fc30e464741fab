"""Posterior samples of mixed images: batches of mixtures over all devices, aligned samples."""

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from basis import check, evidence_weights, implausibility, onto_mixture, sample, surprise
from gensep.images.mixtures import Mix
from gensep.images.settings import ImageSettings
from gensep.runtime.devices import local_devices
from gensep.runtime.errors import UserError


class Separated(NamedTuple):
    """Posterior samples, and what they cost."""

    samples: np.ndarray  # float32 [sample, source, n, height, width, channels], model units
    weights: np.ndarray  # [sample, n], 1 in sum: what the priors think of the samples
    residual: np.ndarray  # [sample, n], rms of the mixing law at the last level
    forwards: int  # network evaluations of each source, all samples of a mixture together
    vjps: int
    compile_seconds: float
    run_seconds: float


def separate_images(
    mix: Mix,
    priors: tuple[Any, ...],
    mixture: np.ndarray,
    settings: ImageSettings,
    progress: Callable[[int], None] = lambda done: None,
    batch: int | None = None,
) -> Separated:
    """Sample the sources of mixtures `[n, height, width, channels]`.

    Args:
        mix: how they were mixed.
        priors: one `basis.Prior` a source.
        mixture: as `mix.observe` gives it.
        settings: of the sampler.
        progress: called with the chains that were done.
        batch: chains at once on a device; few on a CPU, whose cache is small.

    Raises:
        UserError: for what the priors or the sampler cannot work with.
    """
    if settings.judge == "likelihood" and not all(hasattr(p, "log_prob") for p in priors):
        raise UserError(
            "judging samples by likelihood needs priors that know their density, as "
            "flows do; take --judge denoising"
        )
    levels, kernel = settings.levels(), settings.kernel()
    try:
        check(kernel, mix.problem(priors, jnp.zeros_like(mixture[:1]), settings.tau), levels)
    except ValueError as error:
        raise UserError(str(error)) from None
    chains = [(i, draw) for draw in range(settings.samples) for i in range(len(mixture))]
    devices, each = local_devices(), batch or (32 if jax.default_backend() == "cpu" else 1024)
    size = min(each * devices.number, devices.multiple(len(chains)))
    fixed = devices.share(
        (jax.random.key(settings.seed), priors, jnp.asarray(levels), settings.tau)
    )
    found, rest, compiled, compile_seconds = [], [], None, 0.0
    began = time.perf_counter()
    for first in range(0, len(chains), size):
        group = chains[first : first + size]
        padded = np.array(group + [group[-1]] * (size - len(group)), np.uint32).T
        arguments = (*fixed, *devices.deal((mixture[padded[0]], *padded)))
        if compiled is None:
            compiled = _compiled(settings, mix, arguments)
            compile_seconds = time.perf_counter() - began
        sources, residual, forwards, vjps = jax.device_get(compiled(*arguments))
        found.append(sources[:, : len(group)])
        rest.append(residual[: len(group)])
        progress(len(group))
    split = settings.samples, len(mixture)
    sources = np.concatenate(found, 1)
    sources = sources.reshape(len(sources), *split, *sources.shape[2:]).swapaxes(0, 1)
    weights = weigh(priors, sources, settings, size)
    forwards = (int(forwards) + settings.weighed * len(settings.judged_at)) * settings.samples
    images = np.stack([mix.images(one) for one in sources])
    return Separated(
        images,
        weights,
        np.concatenate(rest).reshape(split),
        forwards,
        int(vjps) * settings.samples,
        compile_seconds,
        time.perf_counter() - began - compile_seconds,
    )


def weigh(
    priors: tuple[Any, ...], sources: np.ndarray, settings: ImageSettings, size: int
) -> np.ndarray:
    """Give the weights `[sample, n]` of samples `[sample, source, n, ...]`, 1 in sum."""
    if not settings.weighed:
        return np.full((len(sources), sources.shape[2]), 1 / len(sources), np.float32)
    key, levels = jax.random.key(settings.seed), jnp.asarray(settings.judged_at)
    parts = range(0, sources.shape[2], size)
    found = [
        _judge(
            settings.judge,
            priors,
            jax.random.fold_in(key, first),
            sources[:, :, first : first + size],
            levels,
        )
        for first in parts
    ]
    return np.asarray(evidence_weights(jnp.concatenate(found, 1), settings.temperature))


@partial(jax.jit, static_argnums=0)
def _judge(how, priors, key, sources, levels):
    judge = surprise if how == "likelihood" else implausibility
    return judge(priors, key, sources, levels)


def _compiled(settings: ImageSettings, mix: Mix, arguments: tuple) -> Any:
    """Compile the sampler for arguments of these shapes, once a process."""
    leaves, structure = jax.tree.flatten(arguments)
    shapes = tuple((jnp.shape(x), jnp.result_type(x)) for x in leaves)
    key = settings.sampler, settings.constraint, mix, structure, shapes
    if key not in _PROGRAMS:
        program = jax.jit(partial(_sample, settings.kernel(), mix))
        _PROGRAMS[key] = program.lower(*arguments).compile()
    return _PROGRAMS[key]


_PROGRAMS: dict[Any, Any] = {}


def _sample(kernel, mix, key, priors, levels, tau, mixture, place, draw):
    """Give sources `[source, chain, ...]`, residuals `[chain]`, forwards and VJPs."""
    shape = (len(priors), *mixture.shape[1:])

    def one(key, place, draw):
        own = jax.random.fold_in(jax.random.fold_in(key, draw), place)
        return jax.random.normal(own, shape, mixture.dtype)

    def normal(key):  # of a mixture and its sample, whatever stands beside them in the batch
        return jnp.moveaxis(jax.vmap(one, (None, 0, 0))(key, place, draw), 0, 1)

    problem = mix.problem(priors, mixture, tau)
    sources, info = sample(kernel, key, problem, levels, normal)
    return onto_mixture(problem, sources), info.residual[-1], info.forwards.sum(), info.vjps.sum()


def align(samples: np.ndarray, leading: np.ndarray | None = None) -> np.ndarray:
    """Order the sources of every sample `[sample, source, n, ...]` like those of a leading one.

    `leading: [n]` is the number of that sample for every mixture, by default the first.

    Under one prior for all sources their order is chance, and a mean over samples without order
    would be a mean over sources.
    """
    out = samples.copy()
    for i in range(samples.shape[2]):
        first = samples[0 if leading is None else leading[i], :, i]
        for draw in out:
            draw[:, i] = draw[list(best_order(draw[:, i], first)), i]
    return out


def best_order(estimate: np.ndarray, reference: np.ndarray) -> tuple[int, ...]:
    """Give the order of `estimate: [source, ...]` in which it is nearest to `reference`."""
    sources = range(len(reference))
    cost = [
        [float(np.sum(np.square(np.subtract(e, r, dtype=np.float64)))) for e in estimate]
        for r in reference
    ]
    return min(
        itertools.permutations(sources),
        key=lambda order: sum(cost[i][j] for i, j in enumerate(order)),
    )
