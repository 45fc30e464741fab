"""Waves of a whole file by any method of `inversion`, in chunks of constant memory.

Spectra that depend on their own frame alone need no more than the context of `masking`. Phase
retrieval works on a chunk and some hops ahead: its result guides the phases of the next chunk, so
that the two agree where one fades into the other. EM sums its covariances over the whole file: it
reads the file iterations + 2 times and returns exactly what one pass over all frames would.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gensep.inversion.masking import CHUNK_FRAMES, Chunk, chunks, masks_at, native_n_fft
from gensep.inversion.methods import (
    METHODS,
    POWERS,
    Bands,
    Method,
    Spectra,
    bands,
    nnls,
    with_residual,
)
from gensep.inversion.phase import Known, griffin_lim_known, misi_known, random_phases
from gensep.inversion.wiener import em_powers, maximization, wiener
from gensep.representation.mel import Representation
from gensep.representation.stft import stft, synthesis

AHEAD = 16  # hops that phase retrieval sees beyond a chunk
OVERLAP = 4  # windows over every sample
Blocks = Callable[[], Iterable[np.ndarray]]
First = Callable[[Chunk], jax.Array]


class Options(NamedTuple):
    """Changes to a method of METHODS; None keeps its own."""

    powers: str | None = None
    iterations: int | None = None
    momentum: float | None = None
    residual: bool = False  # one more source: the part of the mixture that the powers leave out
    length: int = CHUNK_FRAMES  # hops of a chunk


def invert_masks(
    blocks: Blocks,
    rate: int,
    masks: np.ndarray,
    representation: Representation,
    method: str,
    options: Options | None = None,
) -> Iterator[np.ndarray]:
    """Yield float32 stems `[source, channels, n]` of a mixture, of its length in total.

    Args:
        blocks: called once per pass over the mixture, returns blocks `[channels, n]`.
        rate: of the mixture, Hz.
        masks: float `[source, frame, mel]`, sum 1 over sources.
        representation: of the masks.
        method: a name in METHODS.
        options: changes to it.
    """
    options = options or Options()
    how = METHODS[method]
    how = how._replace(
        **{
            name: value
            for name in ("powers", "iterations", "momentum")
            if (value := getattr(options, name)) is not None
        }
    )
    n_fft = native_n_fft(representation, rate)
    hop = n_fft // OVERLAP
    of_rate = bands(representation, rate, n_fft)

    def first(chunk: Chunk) -> jax.Array:
        shares = masks_at(masks, chunk.frames, rate, hop, representation)
        return _first(
            how.powers, how.spectra, chunk.piece, shares, of_rate, residual=options.residual
        )

    return FINISH[how.finish](blocks, n_fft, options.length, first, how)


def invert_power(
    power: np.ndarray,
    representation: Representation,
    iterations: int = 32,
    momentum: float = 0.99,
    seed: int = 0,
    length: int = CHUNK_FRAMES,
) -> Iterator[np.ndarray]:
    """Yield float32 waves `[source, 1, n]` of mel power `[source, frame, mel]`, without a mixture.

    They have the rate of the representation and (frames - 1) hop_length samples in total, by NNLS
    and Griffin-Lim from random phases.
    """
    form = representation
    of_rate = bands(form, form.sample_rate, form.n_fft)
    samples = (power.shape[1] - 1) * form.hop_length
    silence = [np.zeros((1, samples), np.float32)]

    def first(chunk: Chunk) -> jax.Array:
        mel = power[:, np.clip(chunk.frames, 0, power.shape[1] - 1)]
        key = jax.random.fold_in(jax.random.key(seed), int(chunk.frames[0]) + 1)
        return _first_of_power(mel, of_rate, key)

    how = Method("nnls", random_phases, "griffin_lim", iterations, momentum)
    return _phased(lambda: silence, form.n_fft, length, first, how, hop=form.hop_length)


def _direct(
    blocks: Blocks, n_fft: int, length: int, first: First, how: Method
) -> Iterator[np.ndarray]:
    """Return to waves frame by frame."""
    hop = n_fft // OVERLAP
    for chunk in chunks(blocks(), n_fft, hop, length):
        yield np.asarray(_synthesis(first(chunk), hop))[..., : chunk.keep]


def _phased(
    blocks: Blocks, n_fft: int, length: int, first: First, how: Method, hop: int | None = None
) -> Iterator[np.ndarray]:
    """Estimate phases chunk by chunk, given the samples before each chunk.

    The last of these samples are faded into what the chunk makes of them, so the result lags.
    """
    hop = hop or n_fft // OVERLAP
    edge, fade = n_fft - hop, n_fft - 2 * hop
    ramp = (np.arange(fade, dtype=np.float32) + 0.5) / fade
    settled = lag = np.zeros(0, np.float32)
    for chunk in chunks(blocks(), n_fft, hop, length, AHEAD):
        spectra = first(chunk)
        begins = not settled.size
        if begins:
            settled = np.zeros((*spectra.shape[:2], edge), np.float32)
        # only frames with their centre in the file count, as in the centred transform
        centre = (chunk.frames - chunk.frames[0]) * hop + n_fft // 2
        valid = (chunk.frames >= 0) & (centre <= chunk.real)
        wave = np.asarray(
            _phases(
                how.finish,
                spectra,
                chunk.piece,
                settled,
                valid.astype(np.float32),
                chunk.real,
                hop,
                how.iterations,
                how.momentum,
            )
        )
        out = wave[..., edge : edge + chunk.keep]
        if not begins:
            met = lag * (1 - ramp) + wave[..., edge - fade : edge] * ramp
            out = np.concatenate([met, out], -1)
        cut = max(0, out.shape[-1] - fade)
        yield out[..., :cut]
        lag = out[..., cut:]
        settled = wave[..., length * hop : length * hop + edge]
    yield lag


def _em(blocks: Blocks, n_fft: int, length: int, first: First, how: Method) -> Iterator[np.ndarray]:
    """Sum the covariances of one iteration per pass over the file, then filter."""
    hop = n_fft // OVERLAP
    covariances: tuple[jax.Array, ...] = ()
    for _ in range(how.iterations + 1):
        parts = (
            _em_sums(first(chunk), chunk.piece, covariances, chunk.own)
            for chunk in chunks(blocks(), n_fft, hop, length)
        )
        covariances += (maximization(*reduce(partial(jax.tree.map, jnp.add), parts)),)
    for chunk in chunks(blocks(), n_fft, hop, length):
        spectra = _em_means(first(chunk), chunk.piece, covariances)
        yield np.asarray(_synthesis(spectra, hop))[..., : chunk.keep]


FINISH: dict[str, Callable[..., Iterator[np.ndarray]]] = {
    "synthesis": _direct,
    "griffin_lim": _phased,
    "misi": _phased,
    "em_wiener": _em,
}


def _transform(piece: jax.Array, n_fft: int) -> jax.Array:
    return stft(piece, n_fft, n_fft // OVERLAP, center=False)


@partial(jax.jit, static_argnames=("powers", "spectra", "residual"))
def _first(
    powers: str,
    spectra: Spectra,
    piece: jax.Array,
    shares: jax.Array,
    bands: Bands,
    *,
    residual: bool,
) -> jax.Array:
    """Return the spectra `[source, channel, frame, bin]` that a method starts from."""
    mixture = _transform(piece, 2 * (bands.bank.shape[1] - 1))
    power = jnp.abs(mixture) ** 2
    found = POWERS[powers](shares, power, bands)
    return spectra(with_residual(found, power) if residual else found, mixture)


@jax.jit
def _first_of_power(mel: jax.Array, bands: Bands, key: jax.Array) -> jax.Array:
    return random_phases(key, jnp.sqrt(nnls(mel, bands)))[:, None]


@partial(jax.jit, static_argnames="hop")
def _synthesis(spectra: jax.Array, hop: int) -> jax.Array:
    edge = 2 * (spectra.shape[-1] - 1) - hop
    return synthesis(spectra, hop)[..., edge:-edge]


@partial(jax.jit, static_argnames=("finish", "hop"))
def _phases(
    finish: str,
    spectra: jax.Array,
    piece: jax.Array,
    settled: jax.Array,
    valid: jax.Array,
    real: jax.Array,
    hop: int,
    iterations: jax.Array,
    momentum: jax.Array,
) -> jax.Array:
    """Return the wave of a chunk, given its first samples and silence after the end of the file."""
    at = jnp.arange(piece.shape[-1])
    value = jnp.pad(settled, ((0, 0), (0, 0), (0, len(at) - settled.shape[-1])))
    known = Known((at < settled.shape[-1]) | (at >= real), value, valid)
    if finish == "misi":
        return misi_known(spectra, piece, known, hop, iterations)
    return griffin_lim_known(spectra, known, hop, iterations, momentum)


@jax.jit
def _em_sums(
    spectra: jax.Array, piece: jax.Array, covariances: tuple[jax.Array, ...], own: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the sums of powers and moments over the frames that belong to the chunk."""
    mixture = _transform(piece, 2 * (spectra.shape[-1] - 1))
    power, moments = em_powers(spectra, mixture, covariances)
    owned = own[None, :, None]
    return (power * owned).sum(1), (moments * owned[None, None]).sum(3)


@jax.jit
def _em_means(
    spectra: jax.Array, piece: jax.Array, covariances: tuple[jax.Array, ...]
) -> jax.Array:
    mixture = _transform(piece, 2 * (spectra.shape[-1] - 1))
    return wiener(em_powers(spectra, mixture, covariances)[0], covariances[-1], mixture)
