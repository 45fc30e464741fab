"""Waves of a whole file by any method of `inversion`, in chunks of constant memory.

Spectra that depend on their own frame alone need no more than the context of `masking`. Phase
retrieval works on a chunk and some hops ahead: its result guides the phases of the next chunk, so
that the two agree where one fades into the other. EM sums its covariances over the whole file: it
reads the file iterations + 2 times and returns exactly what one pass over all frames would.
"""

from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gensep.inversion.masking import CHUNK_FRAMES, Blocks, Chunk, chunks, masks_at, native_n_fft
from gensep.inversion.methods import METHODS, POWERS, Bands, Method, bands, nnls, with_residual
from gensep.inversion.phase import Known, griffin_lim_known, misi_known, random_phases
from gensep.inversion.wiener import em_powers, maximization, wiener
from gensep.representation.mel import Representation
from gensep.representation.stft import stft, synthesis

AHEAD = 16  # hops that phase retrieval sees beyond a chunk
OVERLAP = 4  # windows over every sample
Open = Callable[[], Blocks]  # begins a pass over the mixture
First = Callable[[Chunk], jax.Array]
Start = tuple[str, Callable[..., jax.Array], bool]  # powers and spectra of a Method; residual


class Options(NamedTuple):
    """Changes to a method of METHODS; None keeps its own."""

    powers: str | None = None
    iterations: int | None = None
    momentum: float | None = None
    residual: bool = False  # one more source: the part of the mixture that the powers leave out
    length: int = CHUNK_FRAMES  # hops of a chunk


def invert_masks(
    blocks: Open,
    rate: int,
    masks: np.ndarray,
    form: Representation,
    method: str,
    options: Options | None = None,
) -> Iterator[np.ndarray]:
    """Yield float32 stems `[source, channels, n]` of a mixture, of its length in total.

    `blocks()` begins a pass over the mixture at `rate` Hz; the masks `[source, frame, mel]` of
    `form` have sum 1 over sources; `options` change the row `method` of METHODS.
    """
    options = options or Options()
    own = {k: v for k, v in options._asdict().items() if k in Method._fields and v is not None}
    how = METHODS[method]._replace(**own)
    n_fft = native_n_fft(form, rate)
    of_rate = bands(form, rate, n_fft)

    def first(chunk: Chunk) -> jax.Array:
        shares = masks_at(masks, chunk.frames, rate, n_fft // OVERLAP, form)
        return _first((how.powers, how.spectra, options.residual), chunk.piece, shares, of_rate)

    return FINISH[how.finish](blocks, n_fft, options.length, first, how)


def invert_power(
    power: np.ndarray,
    form: Representation,
    iterations: int = 32,
    momentum: float = 0.99,
    seed: int = 0,
    length: int = CHUNK_FRAMES,
) -> Iterator[np.ndarray]:
    """Yield float32 waves `[source, 1, n]` of mel power `[source, frame, mel]`, without a mixture.

    They have the rate of the representation and (frames - 1) hop_length samples in total, by NNLS
    and Griffin-Lim from random phases.
    """
    of_rate = bands(form, form.sample_rate, form.n_fft)
    samples = (power.shape[1] - 1) * form.hop_length
    silence = [np.zeros((1, samples), np.float32)]

    def first(chunk: Chunk) -> jax.Array:
        mel = power[:, np.clip(chunk.frames, 0, power.shape[1] - 1)]
        key = jax.random.fold_in(jax.random.key(seed), int(chunk.frames[0]) + 1)
        return _first_of_power(mel, of_rate, key)

    how = Method("nnls", random_phases, "griffin_lim", iterations, momentum)
    return _phased(lambda: silence, form.n_fft, length, first, how, hop=form.hop_length)


def _direct(blocks: Open, n_fft: int, length: int, first: First, _: Method) -> Iterator[np.ndarray]:
    """Return to waves frame by frame."""
    hop = n_fft // OVERLAP
    for chunk in chunks(blocks(), n_fft, hop, length):
        yield np.asarray(_synthesis(first(chunk), hop))[..., : chunk.keep]


def _phased(
    blocks: Open, n_fft: int, length: int, first: First, how: Method, hop: int | None = None
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
        at = np.arange(chunk.piece.shape[-1])  # the past and the silence after the end are known
        value = np.pad(settled, ((0, 0), (0, 0), (0, len(at) - edge)))
        fixed = (at < edge) | (at >= chunk.real)
        known = Known(*map(jnp.asarray, (fixed, value, valid.astype(np.float32))))
        if how.finish == "misi":
            found = misi_known(spectra, chunk.piece, known, hop, how.iterations)
        else:
            found = griffin_lim_known(spectra, known, hop, how.iterations, how.momentum)
        wave = np.asarray(found)
        out = wave[..., edge : edge + chunk.keep]
        if not begins:
            met = lag * (1 - ramp) + wave[..., edge - fade : edge] * ramp
            out = np.concatenate([met, out], -1)
        cut = max(0, out.shape[-1] - fade)
        yield out[..., :cut]
        lag = out[..., cut:]
        settled = wave[..., length * hop : length * hop + edge]
    yield lag


def _em(blocks: Open, n_fft: int, length: int, first: First, how: Method) -> Iterator[np.ndarray]:
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


@partial(jax.jit, static_argnums=0)
def _first(start: Start, piece: jax.Array, shares: jax.Array, bands: Bands) -> jax.Array:
    """Return the spectra `[source, channel, frame, bin]` that a method starts from."""
    powers, spectra, residual = start
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


@jax.jit
def _em_sums(
    spectra: jax.Array, piece: jax.Array, covariances: tuple[jax.Array, ...], own: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the sums of powers and moments over the frames that belong to the chunk."""
    mixture = _transform(piece, 2 * (spectra.shape[-1] - 1))
    power, moments = em_powers(spectra, mixture, covariances)
    return (power * own[None, :, None]).sum(1), (moments * own[None, None, None, :, None]).sum(3)


@jax.jit
def _em_means(
    spectra: jax.Array, piece: jax.Array, covariances: tuple[jax.Array, ...]
) -> jax.Array:
    mixture = _transform(piece, 2 * (spectra.shape[-1] - 1))
    return wiener(em_powers(spectra, mixture, covariances)[0], covariances[-1], mixture)
