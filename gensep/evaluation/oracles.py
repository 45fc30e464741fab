"""Oracles: what masks of a kind reach when they are made from the true stems.

The transform is that of the published oracles: Hann windows of 2048 samples at hop 1024, zeros
around the file, spectra divided by the sum of the window. Files pass in chunks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gensep.audio.files import BLOCK, mid_stream
from gensep.inversion import wiener
from gensep.inversion.masking import Chunk, apply_masks, chunks
from gensep.representation.analysis import Analysis, analyse
from gensep.representation.mel import Representation
from gensep.representation.stft import hann, stft, synthesis

N_FFT, HOP = 2048, 1024
EPS = float(np.finfo(np.float64).eps)  # of the published code; keeps silent bins finite


# ---- masks: complex `[source, channel, frame, bin]` and `[channel, frame, bin]` -> like the first


def ibm(
    sources: jax.Array, mixture: jax.Array, alpha: float = 1.0, theta: float = 0.5, over: str = "x"
) -> jax.Array:
    """Give 1 where |y|^a / (eps + d) >= theta, else 0.

    d is |x|^a of the mixture (`over="x"`, as published: masks overlap and leave gaps) or the sum
    of |y|^a over the sources (`over="sum"`).
    """
    power = jnp.abs(sources) ** alpha
    total = jnp.abs(mixture) ** alpha if over == "x" else power.sum(0)
    return (power / (EPS + total) >= theta).astype(jnp.float32)


def ibm_max(sources: jax.Array, mixture: jax.Array) -> jax.Array:
    """Give every bin to its loudest source alone, the first among equals."""
    del mixture
    best = jnp.argmax(jnp.abs(sources), 0)
    return jnp.moveaxis(jax.nn.one_hot(best, len(sources)), -1, 0)


def irm(sources: jax.Array, mixture: jax.Array, alpha: float = 2.0) -> jax.Array:
    """Give |y|^a / (eps + sum |y|^a); 2 is the Wiener filter often quoted as the IRM oracle."""
    del mixture
    power = jnp.abs(sources) ** alpha
    return power / (EPS + power.sum(0))


def psm(sources: jax.Array, mixture: jax.Array) -> jax.Array:
    """Give Re(y x*) / |x|^2 within [0, 1]: the phase-sensitive mask."""
    aligned = (sources * mixture.conj()).real
    return jnp.clip(aligned / (EPS**2 + jnp.abs(mixture) ** 2), 0, 1)


def mix(sources: jax.Array, mixture: jax.Array) -> jax.Array:
    """Give every source an equal part of the mixture."""
    del mixture
    return jnp.full(sources.shape, 1 / len(sources), jnp.float32)


# ---- the multichannel Wiener filter, from sums over the file


def spatial_sums(sources: jax.Array) -> jax.Array:
    """Sum y y^H / (eps + mean_channel |y|^2) over frames: `[source, channel, channel, bin]`."""
    weighted = sources / jnp.sqrt(EPS + jnp.mean(jnp.abs(sources) ** 2, 1, keepdims=True))
    return jnp.einsum("katf,kbtf->kabf", weighted, weighted.conj(), precision="highest")


def mwf(sources: jax.Array, mixture: jax.Array, covariances: jax.Array) -> jax.Array:
    """Filter by the local Gaussian model with the sources' own powers and covariances."""
    covariances = wiener.loaded(wiener.unit_trace(covariances))
    power = wiener.refined_power(covariances, wiener.outer(sources))
    return wiener.wiener(power, covariances, mixture)


def mwf_compat(sources: jax.Array, mixture: jax.Array, covariances: jax.Array) -> jax.Array:
    """Filter as `mwf` with the wrong trace of the published code, to reproduce its figures.

    It is taken over bin and channel: column c of every bin is divided by sum_i R[bin i, i, c], i
    below the number of channels. Products of R are then no longer Hermitian.
    """
    channels = sources.shape[1]
    first = covariances[..., :channels]
    trace = jnp.einsum("kici->kc", first)[:, None, :, None]
    scaled = covariances * (channels / jnp.where(trace == 0, 1, trace))
    eye = jnp.eye(channels)
    matrices = jnp.moveaxis(scaled, 3, 1)  # [source, bin, channel, channel]
    size = jnp.abs(matrices).max((2, 3), keepdims=True)
    matrices = matrices + wiener.LOAD * jnp.maximum(size, 1) * eye
    power = (
        jnp.einsum(
            "kfab,kbtf,katf->ktf",
            jnp.linalg.inv(matrices),
            sources,
            sources.conj(),
            precision="highest",
        ).real
        / channels
    )
    total = jnp.einsum("ktf,kfab->tfab", power, matrices, precision="highest")
    solved = jnp.linalg.solve(total + wiener.TINY * eye, jnp.moveaxis(mixture, 0, -1)[..., None])
    return jnp.einsum("ktf,kfab,tfb->katf", power, matrices, solved[..., 0], precision="highest")


# ---- waves


def oracle_stems(method: str, stems: np.ndarray, mixture: np.ndarray, rate: int) -> np.ndarray:
    """Give the oracle's estimates of true stems, float32 `[source, channel, samples]`.

    Args:
        method: a name in ORACLES.
        stems: float32 `[source, channel, samples]`.
        mixture: `[channel, samples]`.
        rate: Hz; only the mel oracles depend on it.
    """
    out, at = np.empty(stems.shape, np.float32), 0
    for part in ORACLES[method](stems, mixture, rate):
        out[..., at : at + part.shape[-1]] = part
        at += part.shape[-1]
    return out


def _masked(mask: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    """Make a mask, which needs no sums over the file, into a filter."""
    return lambda sources, mixture, sums: mask(sources, mixture) * mixture


def _by_stft(
    estimate: Callable[..., jax.Array],
    stems: np.ndarray,
    mixture: np.ndarray,
    rate: int,
    *,
    gather: Callable[[jax.Array], jax.Array] | None = None,
) -> Iterator[np.ndarray]:
    """Yield the filtered mixture in parts; where the filter needs sums, the file passes twice."""
    del rate
    sums: Any = 0.0
    if gather is not None:
        for chunk in _chunks(stems, mixture):
            sums = sums + _gather(gather, chunk.piece, chunk.own, len(stems))
    for chunk in _chunks(stems, mixture):
        yield np.asarray(_estimate(estimate, chunk.piece, sums, len(stems)))[..., : chunk.keep]


def _chunks(stems: np.ndarray, mixture: np.ndarray) -> Iterator[Chunk]:
    """Cut stems and mixture, as channels of one signal, into chunks."""
    signals = [*stems, mixture]
    starts = range(0, mixture.shape[1], BLOCK)
    blocks = (np.concatenate([x[:, at : at + BLOCK] for x in signals]) for at in starts)
    return chunks(blocks, N_FFT, HOP)


@partial(jax.jit, static_argnames=("gather", "sources"))
def _gather(gather, piece: jax.Array, own: jax.Array, sources: int) -> jax.Array:
    return gather(_spectra(piece, sources)[:-1] * own[:, None])


@partial(jax.jit, static_argnames=("estimate", "sources"))
def _estimate(estimate, piece: jax.Array, sums: Any, sources: int) -> jax.Array:
    spectra = _spectra(piece, sources)
    whole = synthesis(estimate(spectra[:-1], spectra[-1], sums), HOP)
    return whole[..., HOP:-HOP] * hann(N_FFT).sum()


def _spectra(piece: jax.Array, sources: int) -> jax.Array:
    """Transform `[(sources + 1) channels, samples]` -> `[sources + 1, channel, frame, bin]`."""
    signals = piece.reshape(sources + 1, -1, piece.shape[-1])
    return stft(signals, N_FFT, HOP, center=False) / hann(N_FFT).sum().astype(np.float32)


def oracle_masks(stems: Sequence[Analysis]) -> np.ndarray:
    """Give the power ratios of true stems, `[source, frame, mel]`: the ceiling of mel masks."""
    power = np.stack([stem.power for stem in stems]) + 1e-12
    return (power / power.sum(0)).astype(np.float32)


def filter_by_truth(
    stems: Iterable[Iterable[np.ndarray]],
    mixture: Iterable[np.ndarray],
    rate: int,
    representation: Representation,
    shares: Callable[[Sequence[Analysis]], np.ndarray] = oracle_masks,
) -> Iterator[np.ndarray]:
    """Filter a mixture by mel masks made from its true stems: the pipeline's own oracle.

    Args:
        stems: of every source, blocks `[channels, n]` at `rate`.
        mixture: blocks `[channels, n]`.
        rate: Hz.
        representation: of the masks.
        shares: makes the masks from the analysed stems.

    Yields:
        float32 `[source, channels, n]`.
    """
    to = representation.sample_rate
    analysed = [analyse(mid_stream(blocks, rate, to), representation) for blocks in stems]
    return apply_masks(mixture, rate, shares(analysed), representation)


def _by_mel(
    shares: Callable[[Sequence[Analysis]], np.ndarray],
    stems: np.ndarray,
    mixture: np.ndarray,
    rate: int,
) -> Iterator[np.ndarray]:
    """Filter by masks on the mel bands of the shipped priors, as separation does."""
    return filter_by_truth(([stem] for stem in stems), [mixture], rate, Representation(), shares)


def loudest(stems: Sequence[Analysis]) -> np.ndarray:
    """Give 1 to the source of the largest mel power, 0 to the others, `[source, frame, mel]`."""
    best = np.argmax([stem.power for stem in stems], 0)
    return np.stack([best == k for k in range(len(stems))]).astype(np.float32)


Oracle = Callable[[np.ndarray, np.ndarray, int], Iterator[np.ndarray]]

# name -> waves of stems, mixture and rate; a new oracle is one function and one row
ORACLES: dict[str, Oracle] = {
    "ibm1": partial(_by_stft, _masked(partial(ibm, alpha=1.0))),
    "ibm2": partial(_by_stft, _masked(partial(ibm, alpha=2.0))),
    "ibm1_sum": partial(_by_stft, _masked(partial(ibm, alpha=1.0, over="sum"))),
    "ibm2_sum": partial(_by_stft, _masked(partial(ibm, alpha=2.0, over="sum"))),
    "ibm_max": partial(_by_stft, _masked(ibm_max)),
    "irm1": partial(_by_stft, _masked(partial(irm, alpha=1.0))),
    "irm2": partial(_by_stft, _masked(partial(irm, alpha=2.0))),
    "mwf": partial(_by_stft, mwf, gather=spatial_sums),
    "mwf_compat": partial(_by_stft, mwf_compat, gather=spatial_sums),
    "psm": partial(_by_stft, _masked(psm)),
    "mix": partial(_by_stft, _masked(mix)),
    "mel_irm": partial(_by_mel, oracle_masks),
    "mel_ibm": partial(_by_mel, loudest),
}
