"""Samples of a prior alone: the samplers' own loop with nothing observed."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from basis import Kernel, Linear, Problem, heun, langevin, predictor_corrector, sample, sde
from basis.steps import unconditioned
from gensep.priors.files import LoadedPrior
from gensep.representation.image import ImageForm
from gensep.runtime.errors import UserError
from score import karras

LEVELS = 48
FRAMES = 64
RHO = 5.0

# name -> make a kernel with so many Langevin steps a level, where it has any
KERNELS: dict[str, Callable[[int], Kernel]] = {
    "sde": lambda corrections: sde(unconditioned),
    "heun": lambda corrections: heun(unconditioned),
    "predictor-corrector": lambda corrections: predictor_corrector(unconditioned, corrections),
    "langevin": lambda corrections: langevin(corrections),
}

CORRECTIONS = {"predictor-corrector": 2, "langevin": 100}


@lru_cache
def make_kernel(name: str, corrections: int | None = None) -> Kernel:
    """Make a kernel of the table; the same one again, so that it is not compiled again."""
    return KERNELS[name](corrections or CORRECTIONS.get(name, 0))


def noise_levels(loaded: LoadedPrior, steps: int | None = None) -> np.ndarray:
    """Give `steps` falling levels within the range of a prior; its own where it knows only some.

    Raises:
        UserError: for more levels than such a prior knows.
    """
    own = loaded.header["settings"].get("sigmas")
    if own is None:
        high, low = float(loaded.prior.sigmas[0]), float(loaded.prior.sigmas[-1])
        return karras(steps or LEVELS, low, high, RHO)
    if steps and steps > len(own):
        raise UserError(
            f"prior {loaded.name} knows {len(own)} noise levels, so --steps must be at "
            f"most {len(own)}, not {steps}"
        )
    some = np.linspace(0, len(own) - 1, steps or len(own))
    return np.array(own, np.float32)[np.round(some).astype(int)]


def shape_of(loaded: LoadedPrior, frames: int | None = None) -> tuple[int, ...]:
    """Give the shape of an example: of an image, or of `frames` frames, by default as trained."""
    form = loaded.representation
    if isinstance(form, ImageForm):
        return form.shape
    trained = loaded.header["about"].get("config", {}).get("frames", FRAMES)
    return frames or trained, form.n_mels


def draw(
    prior: Any,
    key: jax.Array,
    shape: tuple[int, ...],
    sigmas: np.ndarray,
    kernel: Kernel | None = None,
) -> jax.Array:
    """Draw from a prior, `shape` = `[n, ..., features]`; by default along the reverse SDE."""
    problem = Problem((prior,), Linear(jnp.ones(1)), jnp.zeros(shape), jnp.asarray(1e12))
    return _draw(kernel or make_kernel("sde"), key, problem, jnp.asarray(sigmas))


@partial(jax.jit, static_argnums=0)
def _draw(kernel: Kernel, key: jax.Array, problem: Problem, sigmas: jax.Array) -> jax.Array:
    return sample(kernel, key, problem, sigmas)[0][0]
