"""Samples of a prior alone: the loop of the posterior samplers with nothing observed."""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial

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
Shape = tuple[int, ...]

# name -> make a kernel with this number of Langevin steps per noise level, if it has any
KERNELS: dict[str, Callable[[int], Kernel]] = {
    "sde": lambda corrections: sde(unconditioned),
    "heun": lambda corrections: heun(unconditioned),
    "predictor-corrector": lambda corrections: predictor_corrector(unconditioned, corrections),
    "langevin": lambda corrections: langevin(corrections),
}

# samplers with Langevin steps -> their number per noise level by default
CORRECTIONS = {"predictor-corrector": 2, "langevin": 100}


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


def shape_of(loaded: LoadedPrior, frames: int | None = None) -> Shape:
    """Return the shape of an example: of an image, or of `frames` frames, by default as trained."""
    trained = loaded.header["about"].get("config", {}).get("frames", FRAMES)
    return loaded.form.shape(frames or trained)


def sample_prior(
    prior: Prior, seed: int, n: int, batch: int, shape: Shape, sigmas: np.ndarray, kernel: Kernel
) -> Iterator[np.ndarray]:
    """Yield n samples of a prior, each of this shape, in batches `[batch or fewer, ...]`.

    Batches of another size hold other samples of the same seed.
    """
    size, key = min(batch, n), jax.random.key(seed)
    for i, done in enumerate(range(0, n, size)):
        x = sample_batch(prior, jax.random.fold_in(key, i), (size, *shape), sigmas, kernel)
        yield np.asarray(x)[: n - done]


def sample_batch(
    prior: Prior, key: jax.Array, shape: Shape, sigmas: np.ndarray, kernel: Kernel | None = None
) -> jax.Array:
    """Sample a prior once, `shape` = `[n, ..., features]`; by default along the reverse SDE."""
    problem = Problem((prior,), Linear(jnp.ones(1)), jnp.zeros(shape), jnp.asarray(UNOBSERVED))
    return _sample_batch(kernel or make_kernel("sde"), key, problem, jnp.asarray(sigmas))


@partial(jax.jit, static_argnums=0)
def _sample_batch(kernel: Kernel, key: jax.Array, problem: Problem, sigmas: jax.Array) -> jax.Array:
    return sample(kernel, key, problem, sigmas)[0][0]
