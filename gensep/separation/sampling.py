"""From a mixture's mel power to the masks of its sources: blocks, chains, devices.

A file is cut into overlapping blocks; every block is a chain with
its own state, but the noise belongs to the timeline (a frame gets the same noise in every block
that holds it), so neighbours agree where they are cross-faded. Chains = blocks x posterior
samples; they are sharded over all local devices.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from basis import Problem, check, check_levels, sample
from basis.windowed import windowed
from gensep.representation.mel import Representation
from gensep.runtime.devices import local_devices
from gensep.runtime.errors import UserError
from gensep.separation.settings import Settings

UNSEEN = 1e12  # variance of a frame that no observation constrains


class Uncertainty(NamedTuple):
    """How far the posterior samples lie apart."""

    sd_db: np.ndarray  # float32 [source, frame, mel]
    energy_db: np.ndarray  # float32 [sample, source], mel energy in all, against the mixture's


class Masks(NamedTuple):
    """Posterior mean of the power ratios, and what sampling cost."""

    masks: np.ndarray  # float32 [source, frame, mel], sum 1 over sources
    residuals: np.ndarray  # dB [level], rms of the mixing law at every noise level
    compile_seconds: float
    run_seconds: float
    uncertainty: Uncertainty | None = None

    @property
    def residual(self) -> float:
        """Rms of the mixing law at the last noise level, dB."""
        return float(self.residuals[-1]) if len(self.residuals) else 0.0


def sample_masks(
    power: np.ndarray,
    priors: Sequence[Any],
    representation: Representation,
    settings: Settings,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    uncertainty: bool = False,
) -> Masks:
    """Sample the masks of a mixture's mel power `[frames, mel]` at the reference level.

    Args:
        power: of the mixture, brought to `representation.level_db`.
        priors: one `basis.Prior` a source.
        representation: of power and priors.
        settings: of the sampler.
        progress: called with (chains done, chains in all).
        uncertainty: also measure how far the samples lie apart; takes two samples or more.
    """
    if uncertainty and settings.samples < 2:
        raise UserError(
            "uncertainty is the spread of posterior samples: expected --samples of 2 "
            f"or more, not {settings.samples}"
        )
    length, starts = plan(len(power), settings.block, settings.window // 2, 32)
    mixture = np.asarray(representation.encode(jnp.asarray(power), len(priors)))
    chains = [(start, s) for start in starts for s in range(settings.samples)]
    total = _Total(power, len(priors), settings, length, uncertainty=uncertainty)
    run = _Program(mixture, priors, representation, settings, length, len(chains))
    for first in range(0, len(chains), run.size):
        group = chains[first : first + run.size]
        masks, sources, residuals = run(group)
        for i, chain in enumerate(group):
            total.add(
                chain,
                masks[:, i],
                sources[:, i] if uncertainty else None,
                residuals[:, i],
                representation,
            )
        progress(first + len(group), len(chains))
    return total.result(run, representation)


class _Program:
    """The compiled sampler of one file, and the batches it takes."""

    def __init__(self, mixture, priors, representation, settings, length, n_chains):
        self.mixture, self.length, self.settings = mixture, length, settings
        self.tau = settings.tau_db / representation.span_db
        self.representation = representation
        self.devices = local_devices()
        self.size = min(_chains_at_once(), self.devices.multiple(n_chains))
        overlap = int(settings.overlap * settings.window)
        # a block that is one window keeps its prior, and with it the log density that mala wants
        wide = tuple(
            prior if length <= settings.window else windowed(prior, settings.window, overlap)
            for prior in priors
        )
        sigmas = settings.levels()
        mixing = representation.mixing(jnp.zeros(len(priors)))
        problem = Problem(
            wide, mixing, jnp.zeros((1, length, mixture.shape[1])), jnp.asarray(self.tau**2)
        )
        try:
            check_levels(priors, sigmas)
            check(settings.kernel(), problem, sigmas)
        except ValueError as error:
            raise UserError(str(error)) from None
        self.arguments = self.devices.share(
            (jax.random.key(settings.seed), wide, mixing, jnp.asarray(sigmas))
        )
        self.compiled: Any = None
        self.compile_seconds = self.run_seconds = 0.0

    def __call__(self, group: list[tuple[int, int]]) -> tuple[np.ndarray, Any, np.ndarray]:
        """Give masks, sources `[source, chain, frame, mel]` (on device), residuals."""
        began = time.perf_counter()
        padded = group + [group[-1]] * (self.size - len(group))
        batch = self.devices.deal(_batch(self.mixture, padded, self.length, self.tau))
        if self.compiled is None:
            arguments = (*self.arguments, *batch)
            self.compiled = _compiled(self.settings, self.representation, arguments)
            self.compile_seconds = time.perf_counter() - began
            began = time.perf_counter()
        masks, sources, residuals = self.compiled(*self.arguments, *batch)
        found = np.asarray(masks), sources, np.asarray(residuals)
        self.run_seconds += time.perf_counter() - began
        return found


class _Total:
    """Sums over chains, cross-faded where blocks meet."""

    def __init__(self, power, n_sources, settings, length, *, uncertainty):
        self.power, self.settings, self.length = power, settings, length
        shape = (n_sources, *power.shape)
        self.masks = np.zeros(shape, np.float32)
        self.weight = np.zeros(len(power), np.float32)
        self.squares: list[np.ndarray] = []
        self.moments = np.zeros((2, *shape), np.float32) if uncertainty else None
        self.energy = np.zeros((settings.samples, n_sources), np.float64)

    def add(self, chain, masks, sources, residuals, representation) -> None:
        start, draw = chain
        stop = min(start + self.length, len(self.power))
        fade = _fade(self.length, self.settings.window // 2, start > 0, stop < len(self.power))
        fade = fade[: stop - start, None]
        self.masks[:, start:stop] += masks[:, : stop - start] * fade
        self.weight[start:stop] += fade[:, 0]
        self.squares.append(np.square(residuals))
        if self.moments is not None:
            x = np.asarray(sources)[:, : stop - start]
            # about the mixture, so that squares stay small and float32 exact enough
            off = x - np.asarray(representation.encode(jnp.asarray(self.power[start:stop])))
            self.moments[0, :, start:stop] += off * fade
            self.moments[1, :, start:stop] += off**2 * fade
            self.energy[draw] += (np.asarray(representation.decode(x)) * fade).sum((1, 2))

    def result(self, run: _Program, representation: Representation) -> Masks:
        residuals = np.sqrt(np.mean(self.squares, axis=0)) * representation.span_db
        found = None
        if self.moments is not None:
            mean, square = self.moments / self.weight[:, None]
            n = self.settings.samples
            sd = np.sqrt(np.maximum(square - mean**2, 0) * n / (n - 1)) * representation.span_db
            level = 10 * np.log10(np.maximum(self.energy, 1e-20) / max(self.power.sum(), 1e-20))
            found = Uncertainty(sd, level.astype(np.float32))
        return Masks(
            self.masks / self.weight[:, None],
            residuals,
            run.compile_seconds,
            run.run_seconds,
            found,
        )


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


def _separate(kernel, representation, key, priors, mixing, sigmas, mixture, variance, first, draw):
    """Run the chains: masks, sources `[source, chain, frame, mel]`, residuals `[level, chain]`."""
    shape = (mixture.shape[1], len(priors), mixture.shape[2])

    def one(key, first, draw):
        own = jax.random.fold_in(key, draw)
        keys = jax.vmap(lambda f: jax.random.fold_in(own, f))(first + jnp.arange(shape[0]))
        return jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(keys)

    def normal(key):
        return jnp.moveaxis(jax.vmap(one, (None, 0, 0))(key, first, draw), 2, 0)

    problem = Problem(priors, mixing, mixture, variance)
    sources, info = sample(kernel, key, problem, sigmas, normal)
    return representation.masks(sources), sources, info.residual


def _compiled(settings: Settings, representation: Representation, arguments: tuple) -> Any:
    """Compile the sampler for arguments of these shapes, once a process."""
    leaves, structure = jax.tree.flatten(arguments)
    key = (
        settings.sampler,
        settings.constraint,
        representation,
        structure,
        tuple((x.shape, x.dtype) for x in leaves),
    )
    if key not in _PROGRAMS:
        program = jax.jit(partial(_separate, settings.kernel(), representation))
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
