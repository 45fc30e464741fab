"""Oracles: masks computed from the true stems, the upper bounds of methods that estimate them.

The transform is that of the published oracles (SiSEC 2018): Hann windows of 2048 samples, hop 1024,
zeros around the file, spectra divided by the sum of the window. Files are processed in chunks.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gensep.audio.files import mid_stream
from gensep.inversion import wiener
from gensep.inversion.masking import Chunk, apply_masks, chunks
from gensep.representation.analysis import Analysis, analyse
from gensep.representation.mel import Representation
from gensep.representation.stft import hann, stft, synthesis
from gensep.runtime.spool import BLOCK, Spool, Waves, blocks_of

N_FFT, HOP = 2048, 1024
EPS = float(np.finfo(np.float64).eps)  # as in the published code; keeps silent bins finite
SHIPPED = Representation()  # of the shipped priors
_einsum = partial(jnp.einsum, precision="highest")


# Masks: (complex `[source, channel, frame, bin]`, mixture `[channel, frame, bin]`) -> real, in the
# shape of the sources.


def ibm(
    sources: jax.Array, mixture: jax.Array, alpha: float = 1.0, theta: float = 0.5, over: str = "x"
) -> jax.Array:
    """Return 1 where |y|^alpha / (eps + d) >= theta, else 0: the ideal binary mask.

    d is |x|^alpha of the mixture with `over="x"`, as published (masks then overlap and leave gaps),
    or the sum of |y|^alpha over the sources with `over="sum"`.
    """
    power = jnp.abs(sources) ** alpha
    total = jnp.abs(mixture[None]) ** alpha if over == "x" else power.sum(0, keepdims=True)
    return (power / (EPS + total) >= theta).astype(jnp.float32)


def ibm_max(sources: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return 1 for the loudest source of every bin, the first of equally loud ones, else 0."""
    del mixture
    best = jnp.argmax(jnp.abs(sources), 0)
    return jnp.moveaxis(jax.nn.one_hot(best, len(sources)), -1, 0)


def irm(sources: jax.Array, mixture: jax.Array, alpha: float = 2.0) -> jax.Array:
    """Return |y|^alpha / (eps + sum |y|^alpha): the ideal ratio mask; alpha = 2 is Wiener's."""
    del mixture
    power = jnp.abs(sources) ** alpha
    return power / (EPS + power.sum(0, keepdims=True))


def psm(sources: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return Re(y x*) / |x|^2 clipped to [0, 1]: the phase-sensitive mask (Erdogan et al. 2015)."""
    aligned = (sources * mixture.conj()[None]).real
    return jnp.clip(aligned / (EPS**2 + jnp.abs(mixture[None]) ** 2), 0, 1)


def mix(sources: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return 1 / K for every one of K sources: an equal part of the mixture."""
    del mixture
    return jnp.full(sources.shape, 1 / len(sources), jnp.float32)


def spatial_sums(sources: jax.Array) -> jax.Array:
    """Sum y y^H / (eps + mean_channel |y|^2) over frames: `[source, channel, channel, bin]`."""
    weighted = sources / jnp.sqrt(EPS + jnp.mean(jnp.abs(sources) ** 2, 1, keepdims=True))
    return _einsum("katf,kbtf->kabf", weighted, weighted.conj())


def mwf(sources: jax.Array, mixture: jax.Array, covariances: jax.Array) -> jax.Array:
    """Filter by the local Gaussian model with the powers and covariances of the true sources."""
    covariances = wiener.loaded(wiener.unit_trace(covariances))
    power = wiener.refined_power(covariances, wiener.outer(sources))
    return wiener.wiener(power, covariances, mixture)


def mwf_compat(sources: jax.Array, mixture: jax.Array, covariances: jax.Array) -> jax.Array:
    """Filter as `mwf` with the erroneous trace of the published code, to reproduce its results.

    The trace is taken over bin and channel: column c of every bin is divided by
    sum_i R[bin i, i, c], with i below the number of channels, so that R is no longer Hermitian.
    """
    channels = sources.shape[1]
    first = covariances[..., :channels]
    trace = jnp.einsum("kici->kc", first)[:, None, :, None]
    scaled = covariances * (channels / jnp.where(trace == 0, 1, trace))
    eye = jnp.eye(channels)[None, None]
    matrices = jnp.moveaxis(scaled, 3, 1)  # [source, bin, channel, channel]
    size = jnp.abs(matrices).max((2, 3), keepdims=True)
    matrices = matrices + wiener.LOAD * jnp.maximum(size, 1) * eye
    inverses = jnp.linalg.inv(matrices)
    power = _einsum("kfab,kbtf,katf->ktf", inverses, sources, sources.conj()).real / channels
    total = _einsum("ktf,kfab->tfab", power, matrices)
    solved = jnp.linalg.solve(total + wiener.TINY * eye, jnp.moveaxis(mixture, 0, -1)[..., None])
    return _einsum("ktf,kfab,tfb->katf", power, matrices, solved[..., 0])


def oracle_stems(
    method: str, stems: np.ndarray, mixture: np.ndarray, rate: int, form: Representation = SHIPPED
) -> np.ndarray:
    """Return the estimates that an oracle makes, float32 `[source, channel, samples]`.

    Stems are float32 `[source, channel, samples]`, the mixture is `[channel, samples]`. Only mel
    oracles depend on the rate in Hz and on the form of their masks.
    """
    parts = ORACLES[method](stems, mixture[None], rate, form)
    return np.concatenate(list(parts), -1, dtype=np.float32)


def oracle_spool(
    method: str, stems: Waves, mixture: Waves, rate: int, form: Representation = SHIPPED
) -> Spool:
    """Do the work of `oracle_stems` on disk; the mixture is `[1, channel, samples]`."""
    spool = Spool(*stems.shape)
    for part in ORACLES[method](stems, mixture, rate, form):
        for source, wave in enumerate(part):
            spool.write(source, [wave])
    return spool


# (spectra of the sources, spectrum of the mixture, sums over the file) -> spectra of the estimates
Filter = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Gather = Callable[[jax.Array], jax.Array]


def _masked(mask: Callable[[jax.Array, jax.Array], jax.Array]) -> Filter:
    """Turn a mask, which needs no sums over the file, into a filter."""
    return lambda sources, mixture, sums: mask(sources, mixture) * mixture[None]


def _by_stft(
    estimate: Filter, stems: Waves, mixture: Waves, *_: object, gather: Gather | None = None
) -> Iterator[np.ndarray]:
    """Yield the filtered mixture in parts; a filter that needs sums reads the file twice."""
    sums: jax.Array | float = 0.0
    if gather is not None:
        for chunk in _chunks(stems, mixture):
            sums = sums + _gather(gather, chunk.piece, chunk.own, len(stems))
    for chunk in _chunks(stems, mixture):
        yield np.asarray(_estimate(estimate, chunk.piece, sums, len(stems)))[..., : chunk.keep]


def _chunks(stems: Waves, mixture: Waves) -> Iterator[Chunk]:
    """Cut stems and mixture, as channels of one signal, into chunks."""
    cuts = (slice(at, at + BLOCK) for at in range(0, mixture.shape[-1], BLOCK))
    blocks = (np.concatenate([*stems[..., cut], *mixture[..., cut]]) for cut in cuts)
    return chunks(blocks, N_FFT, HOP)


@partial(jax.jit, static_argnames=("gather", "sources"))
def _gather(gather: Gather, piece: jax.Array, own: jax.Array, sources: int) -> jax.Array:
    return gather(_spectra(piece, sources)[:-1] * own[None, None, :, None])


@partial(jax.jit, static_argnames=("estimate", "sources"))
def _estimate(estimate: Filter, piece: jax.Array, sums: jax.Array, sources: int) -> jax.Array:
    spectra = _spectra(piece, sources)
    whole = synthesis(estimate(spectra[:-1], spectra[-1], sums), HOP)
    return whole[..., HOP:-HOP] * hann(N_FFT).sum()


def _spectra(piece: jax.Array, sources: int) -> jax.Array:
    """Transform `[(sources + 1) channels, samples]` -> `[sources + 1, channel, frame, bin]`."""
    signals = piece.reshape(sources + 1, -1, piece.shape[-1])
    return stft(signals, N_FFT, HOP, center=False) / hann(N_FFT).sum().astype(np.float32)


MelMasks = Callable[[Sequence[Analysis]], np.ndarray]  # `[source, frame, mel]`


def oracle_masks(stems: Sequence[Analysis]) -> np.ndarray:
    """Return the power ratios of true stems, float32 `[source, frame, mel]`: ideal mel masks."""
    power = np.stack([stem.power for stem in stems]) + 1e-12
    return (power / power.sum(0)).astype(np.float32)


def _by_mel(
    masks: MelMasks, stems: Waves, mixture: Waves, rate: int, form: Representation
) -> Iterator[np.ndarray]:
    """Filter by mel masks made from the true stems, in the way separation applies its masks."""
    sounds = [blocks_of(stems, i) for i in range(len(stems))]
    shares = masks([analyse(mid_stream(x, rate, form.sample_rate), form) for x in sounds])
    return apply_masks(blocks_of(mixture, 0), rate, shares, form)


def loudest(stems: Sequence[Analysis]) -> np.ndarray:
    """Return 1 for the source of the largest mel power, 0 for others, `[source, frame, mel]`."""
    best = np.argmax([stem.power for stem in stems], 0)
    return np.stack([best == k for k in range(len(stems))]).astype(np.float32)


# (stems, mixture `[1, channel, samples]`, rate, representation) -> parts `[source, channel, n]`
Oracle = Callable[[Waves, Waves, int, Representation], Iterator[np.ndarray]]

# A new oracle is one function and one row.
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
