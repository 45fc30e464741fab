"""From a mixture's mel power to the masks of its sources: blocks of frames, chains, cross-fades.

A file is cut into overlapping blocks, each of which is sampled by chains of their own, one per
posterior sample. The noise of a frame depends on its place in the file, not on the block, so that
neighbouring blocks agree where they are cross-faded.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from basis import Kernel, Prior, Problem, check, check_levels, sample
from basis.mixing import Decibel
from basis.windowed import windowed
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.separation.chains import Chain, Chains
from gensep.separation.settings import Settings

UNSEEN = 1e12  # variance of a frame that no observation constrains

# what all chains share: key, priors, mixing, noise levels; and what a group has of its own:
# mixture [chain, frame, mel], its variance, first frames and numbers of the samples [chain]
Shared = tuple[jax.Array, tuple[Prior, ...], Decibel, jax.Array]
Seen = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
# what a group of chains returns: masks [source, chain, frame, mel], sources of the same shape in
# model units, residuals [noise level, chain]
Sampled = tuple[jax.Array, jax.Array, jax.Array]


class Uncertainty(NamedTuple):
    """How far the posterior samples differ."""

    sd_db: np.ndarray  # float32 [source, frame, mel], standard deviation over the samples
    energy_db: np.ndarray  # float32 [sample, source], total mel energy relative to the mixture's


class Masks(NamedTuple):
    """Posterior mean of the power ratios, and what sampling cost."""

    masks: np.ndarray  # float32 [source, frame, mel], sum 1 over sources
    residuals: np.ndarray  # dB [noise level], rms error of the mixing law
    compile_seconds: float
    run_seconds: float
    uncertainty: Uncertainty | None = None

    @property
    def residual(self) -> float:
        """Rms error of the mixing law at the last noise level, dB."""
        return float(self.residuals[-1]) if len(self.residuals) else 0.0


def sample_masks(
    power: np.ndarray,
    priors: Sequence[Prior],
    representation: Representation,
    settings: Settings,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    uncertainty: bool = False,
) -> Masks:
    """Sample the masks of a mixture's mel power `[frame, mel]` at `representation.level_db`.

    `priors` holds one per source. `progress` is called with (chains done, chains in all). With
    `uncertainty` it also measures how far the samples differ, which takes two or more.

    Raises:
        UserError: for too few samples, or priors that the sampler or its noise levels do not fit.
    """
    if uncertainty and settings.samples < 2:
        raise UserError(
            "uncertainty is the spread of posterior samples: expected --samples of 2 "
            f"or more, not {settings.samples}"
        )
    length, starts = plan(len(power), settings.block, settings.window // 2, 32)
    mixture = np.asarray(representation.encode(jnp.asarray(power), len(priors)))
    run = _prepare(priors, representation, settings, starts, length)
    total = _Total(power, len(priors), settings, length)
    tau, done = settings.tau_db / representation.span_db, 0
    for group, (on_device, sources, errors) in run.run(partial(_observe, mixture, length, tau)):
        masks, residuals = np.asarray(on_device), np.asarray(errors)
        for i, chain in enumerate(group):
            total.add(chain, masks[:, i], residuals[:, i])
            if uncertainty:
                total.add_moments(chain, sources[:, i], representation)
        done += len(group)
        progress(done, len(run.chains))
    residuals = np.sqrt(np.mean(total.squares, axis=0)) * representation.span_db
    spread = total.uncertainty(representation) if uncertainty else None
    masks = total.masks / total.weight[:, None]
    return Masks(masks, residuals, run.compile_seconds, run.run_seconds, spread)


def plan(frames: int, block: int, overlap: int, multiple: int) -> tuple[int, list[int]]:
    """Return the common length of the blocks, divisible by `multiple`, and their first frames.

    Blocks share at least `overlap` frames; equal lengths let one compiled program serve all.
    """
    if frames <= block:
        return -(-frames // multiple) * multiple, [0]
    count = -(-(frames - overlap) // (block - overlap))
    length = -(-(frames + (count - 1) * overlap) // count)
    length = -(-length // multiple) * multiple
    return length, [i * (length - overlap) for i in range(count)]


def _prepare(
    priors: Sequence[Prior], form: Representation, settings: Settings, starts: list[int], size: int
) -> Chains[Sampled]:
    """Return the sampler of one file; refuse what it cannot work with before it is compiled."""
    overlap = int(settings.overlap * settings.window)
    # a block of one window keeps its prior, and with it the log density that mala needs
    wide = tuple(priors)
    if size > settings.window:
        wide = tuple(windowed(prior, settings.window, overlap) for prior in priors)
    sigmas, kernel = settings.levels(), settings.kernel()
    mixing, variance = form.mixing(jnp.zeros(len(priors))), (settings.tau_db / form.span_db) ** 2
    empty = jnp.zeros((1, size, form.n_mels))
    try:
        check_levels(priors, sigmas)
        check(kernel, Problem(wide, mixing, empty, jnp.asarray(variance)), sigmas)
    except ValueError as error:
        raise UserError(str(error)) from None
    return Chains(
        partial(_separate, kernel, form),
        (settings.sampler, settings.constraint, form),
        (jax.random.key(settings.seed), wide, mixing, jnp.asarray(sigmas)),
        [(start, number) for start in starts for number in range(settings.samples)],
        per_device=2 if jax.default_backend() == "cpu" else 32,  # the cache of a CPU is small
    )


def _separate(kernel: Kernel, form: Representation, shared: Shared, seen: Seen) -> Sampled:
    """Sample a group of chains, whose blocks begin at the frames `first: [chain]`; traced."""
    (key, priors, mixing, sigmas), (mixture, variance, first, number) = shared, seen
    shape = (mixture.shape[1], len(priors), mixture.shape[2])

    def one(key: jax.Array, first: jax.Array, number: jax.Array) -> jax.Array:
        own = jax.random.fold_in(key, number)
        keys = jax.vmap(lambda f: jax.random.fold_in(own, f))(first + jnp.arange(shape[0]))
        return jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(keys)

    def normal(key: jax.Array) -> jax.Array:
        return jnp.moveaxis(jax.vmap(one, (None, 0, 0))(key, first, number), 2, 0)

    problem = Problem(priors, mixing, mixture, variance)
    sources, info = sample(kernel, key, problem, sigmas, normal)
    return form.masks(sources), sources, info.residual


def _observe(
    mixture: np.ndarray, length: int, tau: float, chains: list[Chain]
) -> tuple[np.ndarray, ...]:
    """Cut the blocks of the chains; frames beyond the end are not observed."""
    first, number = np.array(chains).T
    index = first[:, None] + np.arange(length)
    cut = mixture[np.minimum(index, len(mixture) - 1)].astype(np.float32)
    variance = np.where(index < len(mixture), tau**2, UNSEEN)[..., None].astype(np.float32)
    return cut, variance, first.astype(np.uint32), number.astype(np.uint32)


class _Total:
    """Sums over chains, cross-faded where blocks overlap."""

    def __init__(self, power: np.ndarray, n_sources: int, settings: Settings, length: int) -> None:
        self.power, self.settings, self.length = power, settings, length
        shape = n_sources, *power.shape
        self.masks, self.weight = np.zeros(shape, np.float32), np.zeros(len(power), np.float32)
        self.squares: list[np.ndarray] = []
        self.moments = np.zeros((2, *shape), np.float32)  # of the samples
        self.energy = np.zeros((settings.samples, n_sources), np.float64)

    def add(self, chain: Chain, masks: np.ndarray, residuals: np.ndarray) -> None:
        """Add masks `[source, frame, mel]` and residuals `[noise level]` of a chain."""
        here, fade = self._place(chain)
        self.masks[:, here] += masks[:, : len(fade)] * fade
        self.weight[here] += fade[:, 0]
        self.squares.append(np.square(residuals))

    def add_moments(self, chain: Chain, sources: jax.Array, representation: Representation) -> None:
        """Add sources `[source, frame, mel]` in model units to the moments of the samples."""
        here, fade = self._place(chain)
        x = np.asarray(sources)[:, : len(fade)]
        # relative to the mixture: this avoids cancellation in float32
        off = x - np.asarray(representation.encode(jnp.asarray(self.power[here])))
        self.moments[0, :, here] += off * fade
        self.moments[1, :, here] += off**2 * fade
        self.energy[chain[1]] += (np.asarray(representation.decode(x)) * fade).sum((1, 2))

    def _place(self, chain: Chain) -> tuple[slice, np.ndarray]:
        """Return the frames of a chain's block within the file and their weights `[frame, 1]`."""
        start, end = chain[0], len(self.power)
        stop = min(start + self.length, end)
        fade = _fade(self.length, self.settings.window // 2, before=start > 0, behind=stop < end)
        return slice(start, stop), fade[: stop - start, None]

    def uncertainty(self, representation: Representation) -> Uncertainty:
        """Return the spread of the samples of which `add_moments` was told."""
        mean, square = self.moments / self.weight[:, None]
        n = self.settings.samples
        sd = np.sqrt(np.maximum(square - mean**2, 0) * n / (n - 1)) * representation.span_db
        relative = np.maximum(self.energy, 1e-20) / max(self.power.sum(), 1e-20)
        return Uncertainty(sd, (10 * np.log10(relative)).astype(np.float32))


def _fade(length: int, overlap: int, *, before: bool, behind: bool) -> np.ndarray:
    """Return the weights of a block's frames: ramps where it has neighbours."""
    ramp = (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
    fade = np.ones(length, np.float32)
    if before:
        fade[:overlap] = ramp
    if behind:
        fade[length - overlap :] *= ramp[::-1]
    return fade
