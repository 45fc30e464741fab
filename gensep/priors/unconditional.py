"""Samples of a prior alone: the loop of the posterior samplers with nothing observed."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from basis import Kernel, Linear, Prior, Problem, heun, langevin, predictor_corrector, sample, sde
from basis.steps import unconditioned
from gensep.priors.files import LoadedPrior
from gensep.runtime.errors import UserError
from score import karras

NOISE_LEVELS = 48
FRAMES = 64
RHO = 5.0
UNOBSERVED = 1e12  # variance of an observation that constrains nothing

# name -> make a kernel with this number of Langevin steps per noise level, if it has any
KERNELS: dict[str, Callable[[int], Kernel]] = {
    "sde": lambda corrections: sde(unconditioned),
    "heun": lambda corrections: heun(unconditioned),
    "predictor-corrector": lambda corrections: predictor_corrector(unconditioned, corrections),
    "langevin": lambda corrections: langevin(corrections),
}

# samplers with Langevin steps -> their number per noise level by default
CORRECTIONS = {"predictor-corrector": 2, "langevin": 100}


class Samples(NamedTuple):
    """Samples of a prior in model units, and the noise levels that they took."""

    x: np.ndarray  # float32 [n, ...]
    sigmas: np.ndarray  # [level], falling


@lru_cache
def make_kernel(name: str, corrections: int | None = None) -> Kernel:
    """Make a kernel of the table; cached, because a new kernel would be compiled again."""
    return KERNELS[name](corrections or CORRECTIONS.get(name, 0))


def noise_levels(loaded: LoadedPrior, steps: int | None = None) -> np.ndarray:
    """Return `steps` falling noise levels in the range of a prior.

    A network of fixed levels has its own; fewer steps choose some of these.

    Raises:
        UserError: for more levels than such a prior knows.
    """
    own = loaded.header["settings"].get("sigmas")
    if own is None:
        high, low = float(loaded.prior.sigmas[0]), float(loaded.prior.sigmas[-1])
        return karras(steps or NOISE_LEVELS, low, high, RHO)
    if steps and steps > len(own):
        raise UserError(
            f"prior {loaded.name} knows {len(own)} noise levels, so --steps must be at "
            f"most {len(own)}, not {steps}"
        )
    some = np.linspace(0, len(own) - 1, steps or len(own))
    return np.array(own, np.float32)[np.round(some).astype(int)]


def shape_of(loaded: LoadedPrior, frames: int | None = None) -> tuple[int, ...]:
    """Return the shape of an example: of an image, or of `frames` frames, by default as trained."""
    trained = loaded.header["about"].get("config", {}).get("frames", FRAMES)
    return loaded.form.shape(frames or trained)


def sample_prior(
    loaded: LoadedPrior,
    n: int,
    *,
    sampler: str = "heun",
    steps: int | None = None,
    corrections: int | None = None,
    frames: int | None = None,
    seed: int = 0,
    batch: int = 16,
    progress: Callable[[int], object] = lambda done: None,
) -> Samples:
    """Sample a prior, batch by batch.

    Args:
        loaded: the prior.
        n: samples.
        sampler: a row of KERNELS.
        steps: noise levels, see `noise_levels`.
        corrections: Langevin steps per noise level; None for the default of the sampler.
        frames: length of spectrograms; None for that of training.
        seed: of the samples.
        batch: samples at once; another size gives other samples of the same seed.
        progress: called with the number of new samples after every batch.

    Raises:
        UserError: for more noise levels than a network of fixed levels knows.
    """
    sigmas, kernel = noise_levels(loaded, steps), make_kernel(sampler, corrections)
    shape, key = (min(batch, n), *shape_of(loaded, frames)), jax.random.key(seed)
    parts: list[np.ndarray] = []
    for done in range(0, n, shape[0]):
        own = jax.random.fold_in(key, len(parts))
        parts.append(np.asarray(sample_batch(loaded.prior, own, shape, sigmas, kernel)))
        progress(min(shape[0], n - done))
    return Samples(np.concatenate(parts)[:n], sigmas)


def sample_batch(
    prior: Prior,
    key: jax.Array,
    shape: tuple[int, ...],
    sigmas: np.ndarray,
    kernel: Kernel | None = None,
) -> jax.Array:
    """Sample a prior once, `shape` = `[n, ..., features]`; by default along the reverse SDE."""
    problem = Problem((prior,), Linear(jnp.ones(1)), jnp.zeros(shape), jnp.asarray(UNOBSERVED))
    return _sample_batch(kernel or make_kernel("sde"), key, problem, jnp.asarray(sigmas))


@partial(jax.jit, static_argnums=0)
def _sample_batch(kernel: Kernel, key: jax.Array, problem: Problem, sigmas: jax.Array) -> jax.Array:
    return sample(kernel, key, problem, sigmas)[0][0]
