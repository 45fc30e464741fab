"""Mel power of a mixture -> mel masks of its sources: blocks, chains, devices, progress.

A file is one timeline of frames. It is sampled in blocks that overlap; every block is a chain with
its own state, but the noise belongs to the timeline (a frame gets the same noise in every block
that holds it), so neighbours agree where they are cross-faded. Chains = blocks x posterior
samples; they are sharded over all local devices.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from basis import Problem, check_levels, langevin, mmps, sample
from basis.windowed import windowed
from gensep.errors import UserError
from gensep.representation import Representation
from score import karras

UNSEEN = 1e12  # variance of a frame that no observation constrains


@dataclass(frozen=True)
class Settings:
    """How masks are sampled; every field decides the result."""

    sampler: str = "mmps"
    steps: int = 7
    samples: int = 3
    sigma_max: float = 2.0
    sigma_min: float = 0.2
    tau_db: float = 1.0  # sd of the mixing law's error
    window: int = 128  # frames that a prior sees at once
    overlap: float = 0.25  # of a window
    block: int = 512  # frames of a chain, at most
    seed: int = 0

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise UserError(f"sampler must be one of {', '.join(SAMPLERS)}, not '{self.sampler}'")
        for name in ("steps", "samples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.overlap <= 0.9 or self.window < 16:
            raise UserError("expected 0 <= overlap <= 0.9 and window >= 16 frames, "
                            f"not {self.overlap} and {self.window}")
        if self.block < self.window or self.block % 32:
            raise UserError("expected a block divisible by 32 and no shorter than the window, "
                            f"not {self.block} and {self.window} frames")
        if not (0 < self.sigma_min <= self.sigma_max and self.tau_db > 0):
            raise UserError("expected 0 < sigma_min <= sigma_max and tau_db > 0, "
                            f"not {self.sigma_min}, {self.sigma_max} and {self.tau_db}")


# name -> kernel; a new sampler is one file in basis/ and one row here
SAMPLERS: dict[str, Callable[[], Any]] = {
    "mmps": partial(mmps, cg_iterations=2, memory=0.0),
    "mmps-cg1": partial(mmps, cg_iterations=1, memory=0.0),
    "mmps-sde": mmps,
    "basis": partial(langevin, at="denoised"),
    "basis-noisy": partial(langevin, at="noisy"),
}

# name -> the settings it changes
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"sampler": "mmps-cg1", "samples": 2, "steps": 8},
    "default": {},
    "best": {"steps": 12, "samples": 12},
}


class Masks(NamedTuple):
    """Posterior mean of the power ratios, and what sampling cost."""

    masks: np.ndarray  # float32 [source, frame, mel], sum 1 over sources
    residual: float  # dB, rms of the mixing law at the last noise level
    compile_seconds: float
    run_seconds: float


def sample_masks(
    power: np.ndarray,
    priors: Sequence[Any],
    representation: Representation,
    settings: Settings,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Masks:
    """Sample the masks of a mixture's mel power `[frames, mel]` at the reference level.

    Args:
        power: of the mixture, brought to `representation.level_db`.
        priors: one `basis.Prior` a source.
        representation: of power and priors.
        settings: of the sampler.
        progress: called with (chains done, chains in all).
    """
    sigmas = karras(settings.steps, settings.sigma_min, settings.sigma_max, 5.0)
    try:
        check_levels(priors, sigmas)
    except ValueError as error:
        raise UserError(str(error)) from None
    overlap, tau = int(settings.overlap * settings.window), settings.tau_db / representation.span_db
    length, starts = plan(len(power), settings.block, settings.window // 2, 32)
    mixture = np.asarray(representation.encode(jnp.asarray(power), len(priors)))
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("chain",), axis_types=(AxisType.Auto,), devices=devices)
    whole = NamedSharding(mesh, PartitionSpec())
    wide = tuple(windowed(prior, settings.window, overlap) for prior in priors)
    arguments = jax.device_put(
        (jax.random.key(settings.seed), wide, representation.mixing(jnp.zeros(len(priors))),
         jnp.asarray(sigmas)), whole)
    chains = [(start, s) for start in starts for s in range(settings.samples)]
    size = min(_chains_at_once(), -(-len(chains) // len(devices)) * len(devices))
    began = time.perf_counter()
    compiled, split = None, NamedSharding(mesh, PartitionSpec("chain"))
    total = np.zeros((len(priors), len(power), power.shape[1]), np.float32)
    weight = np.zeros(len(power), np.float32)
    residuals, compile_seconds = [], 0.0
    for first in range(0, len(chains), size):
        group = chains[first : first + size]
        padded = group + [group[-1]] * (size - len(group))
        batch = jax.device_put(_batch(mixture, padded, length, tau), split)
        if compiled is None:
            compiled = _compiled(settings.sampler, representation, (*arguments, *batch))
            compile_seconds = time.perf_counter() - began
            began = time.perf_counter()
        masks, residual = jax.device_get(compiled(*arguments, *batch))
        for i, (start, _) in enumerate(group):
            stop = min(start + length, len(power))
            fade = _fade(length, settings.window // 2, start > 0, stop < len(power))
            total[:, start:stop] += masks[:, i, : stop - start] * fade[: stop - start, None]
            weight[start:stop] += fade[: stop - start]
        residuals.extend(residual[: len(group)])
        progress(min(first + size, len(chains)), len(chains))
    total /= weight[:, None]
    rms = float(np.sqrt(np.mean(np.square(residuals)))) * representation.span_db
    return Masks(total, rms, compile_seconds, time.perf_counter() - began)


def plan(frames: int, block: int, overlap: int, multiple: int) -> tuple[int, list[int]]:
    """Give the length of the blocks, `multiple` of something, and their starts.

    Blocks share at least `overlap` frames; all have one length so that one program serves.
    """
    if frames <= block:
        return -(-frames // multiple) * multiple, [0]
    count = -(-(frames - overlap) // (block - overlap))
    length = -(-(frames + (count - 1) * overlap) // count)
    length = -(-length // multiple) * multiple
    return length, [i * (length - overlap) for i in range(count)]


def _separate(sampler, representation, key, priors, mixing, sigmas, mixture, variance, first, draw):
    """Run the chains: masks `[source, chain, frame, mel]` and the last residual `[chain]`."""
    shape = (mixture.shape[1], len(priors), mixture.shape[2])

    def one(key, first, draw):
        own = jax.random.fold_in(key, draw)
        keys = jax.vmap(lambda f: jax.random.fold_in(own, f))(first + jnp.arange(shape[0]))
        return jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(keys)

    def normal(key):
        return jnp.moveaxis(jax.vmap(one, (None, 0, 0))(key, first, draw), 2, 0)

    problem = Problem(priors, mixing, mixture, variance)
    sources, info = sample(SAMPLERS[sampler](), key, problem, sigmas, normal)
    return representation.masks(sources), info.residual[-1]


def _compiled(sampler: str, representation: Representation, arguments: tuple) -> Any:
    """Compile the sampler for arguments of these shapes, once a process."""
    leaves, structure = jax.tree.flatten(arguments)
    key = (sampler, representation, structure, tuple((x.shape, x.dtype) for x in leaves))
    if key not in _PROGRAMS:
        program = jax.jit(partial(_separate, sampler, representation))
        _PROGRAMS[key] = program.lower(*arguments).compile()
    return _PROGRAMS[key]


_PROGRAMS: dict[Any, Any] = {}


def _batch(mixture, chains, length, tau) -> tuple[np.ndarray, ...]:
    """Cut the blocks of the chains; frames behind the end are not observed."""
    index = np.array([start for start, _ in chains])[:, None] + np.arange(length)
    inside = index < len(mixture)
    cut = mixture[np.minimum(index, len(mixture) - 1)]
    variance = np.where(inside, tau**2, UNSEEN)[..., None]
    first = np.array([start for start, _ in chains], np.uint32)
    draw = np.array([s for _, s in chains], np.uint32)
    return cut.astype(np.float32), variance.astype(np.float32), first, draw


def _fade(length: int, overlap: int, before: bool, behind: bool) -> np.ndarray:  # noqa: FBT001
    """Give the weight of a block's frames: ramps where it has neighbours."""
    ramp = (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
    fade = np.ones(length, np.float32)
    if before:
        fade[:overlap] = ramp
    if behind:
        fade[length - overlap :] *= ramp[::-1]
    return fade


def _chains_at_once() -> int:
    """Give the chains of one call: few on a CPU, whose cache is small, many elsewhere."""
    return jax.local_device_count() * (2 if jax.default_backend() == "cpu" else 32)


def count_chains(frames: int, settings: Settings) -> int:
    """Give how many chains a file of `frames` takes."""
    return len(plan(frames, settings.block, settings.window // 2, 32)[1]) * settings.samples

