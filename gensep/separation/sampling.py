"""From a mixture's mel power to the masks of its sources: blocks of frames, chains, cross-fades.

A file is cut into overlapping blocks, each of which is sampled by chains of their own, one per
posterior sample. The noise of a frame depends on its place in the file, not on the block, so that
neighbouring blocks agree where they are cross-faded.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from basis import Kernel, Prior, Problem, check, check_levels, sample
from basis.mixing import Decibel
from basis.windowed import windowed
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.separation.chains import Chain, Chains
from gensep.separation.collected import Collected, Evaluations, Masks, Sample
from gensep.separation.settings import Settings

if TYPE_CHECKING:
    from gensep.separation.settings import Measure

UNSEEN = 1e12  # variance of a frame that no observation constrains

# what all chains share: key, priors, mixing, noise levels, those of the judge; and what a group has
# of its own: mixture [chain, frame, mel], its variance, first frames and numbers of the samples
Shared = tuple[jax.Array, tuple[Prior, ...], Decibel, jax.Array, jax.Array]
Seen = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
# what a group of chains returns: sources [source, chain, frame, mel] in model units, how
# implausible they are [chain, frame], residuals [noise level, chain], evaluations of one chain
Sampled = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


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
    length, starts = plan(len(power), settings.block, settings.fade, 32)
    mixture = np.asarray(representation.encode(jnp.asarray(power), len(priors)))
    run = _prepare(priors, representation, settings, starts, length)
    collected = Collected(power, len(priors), representation, settings, length, spread=uncertainty)
    tau, done = settings.tau_db / representation.span_db, 0
    for group, result in run.run(partial(_observe, mixture, length, tau)):
        sources, implausible, residuals, calls = (np.asarray(x) for x in result)
        for i, chain in enumerate(group):
            collected.add(chain, Sample(sources[:, i], implausible[i], residuals[:, i]))
        done += len(group)
        progress(done, len(run.chains))
    evaluations = Evaluations(*(settings.samples * int(n) for n in calls))
    return collected.masks(run.compile_seconds, run.run_seconds, evaluations)


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
    wide = tuple(_widened(prior, settings, size) for prior in priors)
    sigmas, kernel = settings.levels(), settings.kernel()
    mixing, variance = form.mixing(jnp.zeros(len(priors))), (settings.tau_db / form.span_db) ** 2
    empty = jnp.zeros((1, size, form.n_mels))
    judged = np.asarray(settings.weighting.levels if settings.weighed else (), np.float32)
    if settings.judges is None:  # as near as the priors allow
        low, high = (max(float(np.min(p.sigmas)) for p in priors), float(sigmas[0]))
        judged = judged.clip(low, high)
    try:
        check_levels(priors, sigmas)
        if len(judged):
            check_levels(priors, np.unique(judged)[::-1])
        check(kernel, Problem(wide, mixing, empty, jnp.asarray(variance)), sigmas)
    except ValueError as error:
        raise UserError(str(error)) from None
    # the cache of a CPU is small; six samples are two groups of three, not one of four and a rest
    most = 4 if jax.default_backend() == "cpu" else 32
    per_device = math.ceil(settings.samples / math.ceil(settings.samples / most))
    return Chains(
        partial(_separate, kernel, settings.measure()),
        (settings.sampler, settings.constraint, settings.judge),
        (jax.random.key(settings.seed), wide, mixing, jnp.asarray(sigmas), jnp.asarray(judged)),
        [(start, number) for start in starts for number in range(settings.samples)],
        per_device,
    )


def _widened(prior: Prior, settings: Settings, size: int) -> Prior:
    """Return the prior for blocks of `size` frames."""
    # a block of one window keeps its prior, and with it the log density that mala needs
    if size <= settings.seen or settings.window is None and getattr(prior, "any_length", False):
        return prior
    return windowed(prior, settings.seen, int(settings.overlap * settings.seen))


def _separate(kernel: Kernel, measure: "Measure | None", shared: Shared, seen: Seen) -> Sampled:
    """Sample and judge chains, whose blocks begin at the frames `first: [chain]`; traced."""
    (key, priors, mixing, sigmas, judged), (mixture, variance, first, number) = shared, seen
    shape = (mixture.shape[1], len(priors), mixture.shape[2])

    def one(key: jax.Array, first: jax.Array, number: jax.Array) -> jax.Array:
        own = jax.random.fold_in(key, number)
        keys = jax.vmap(lambda f: jax.random.fold_in(own, f))(first + jnp.arange(shape[0]))
        return jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(keys)

    def normal(key: jax.Array, number: jax.Array = number) -> jax.Array:
        return jnp.moveaxis(jax.vmap(one, (None, 0, 0))(key, first, number), 2, 0)

    problem = Problem(priors, mixing, mixture, variance)
    sources, info = sample(kernel, key, problem, sigmas, normal)
    implausible = jnp.zeros(mixture.shape[:2])
    if measure is not None:
        alike = partial(normal, number=jnp.zeros_like(number))  # the same for all samples
        implausible = measure(priors, key, sources, judged, keep=1, normal=alike)
    calls = jnp.stack([info.forwards.sum(), info.vjps.sum(), jnp.float32(len(judged))])
    return sources, implausible, info.residual, calls


def _observe(
    mixture: np.ndarray, length: int, tau: float, chains: list[Chain]
) -> tuple[np.ndarray, ...]:
    """Cut the blocks of the chains; frames beyond the end are not observed."""
    first, number = np.array(chains).T
    index = first[:, None] + np.arange(length)
    cut = mixture[np.minimum(index, len(mixture) - 1)].astype(np.float32)
    variance = np.where(index < len(mixture), tau**2, UNSEEN)[..., None].astype(np.float32)
    return cut, variance, first.astype(np.uint32), number.astype(np.uint32)
