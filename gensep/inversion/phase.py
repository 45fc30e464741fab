"""Phases from magnitudes: Griffin-Lim, its fast form, and MISI, which uses the mixture.

Griffin and Lim 1984; Perraudin, Balazs and Soendergaard 2013; Gunawan and Sen 2010. All alternate
between spectra and a wave of which some samples are known: zeros outside the file and, within a
file, the result of the chunk before.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gensep.representation.stft import stft, synthesis


class Known(NamedTuple):
    """What is known of the wave before its phases are estimated."""

    fixed: jax.Array  # bool [samples]
    value: jax.Array  # [..., samples] or a scalar, the wave where it is fixed
    valid: jax.Array  # float [frame], 1 where the magnitudes of a frame are given


@partial(jax.jit, static_argnames="hop_length")
def griffin_lim_known(
    spectra: jax.Array, known: Known, hop_length: int, iterations: int, momentum: float
) -> jax.Array:
    """Run Griffin-Lim from spectra `[..., frame, bin]` with initial phases: `[..., samples]`.

    With t = transform(wave), the phases are those of t - momentum / (1 + momentum) t_before;
    momentum 0 is the classical algorithm. Known samples guide the phases, but are not copied into
    the result.
    """
    magnitude, pull = jnp.abs(spectra), momentum / (1 + momentum)

    def step(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        spectra, before = state
        now = _transform(_wave(spectra, known, hop_length), spectra, hop_length)
        return magnitude * phase_of(now - pull * before), now

    spectra, _ = jax.lax.fori_loop(0, iterations, step, (spectra, jnp.zeros_like(spectra)))
    return synthesis(spectra, hop_length, known.valid)


@partial(jax.jit, static_argnames="hop_length")
def misi_known(
    spectra: jax.Array, mixture: jax.Array, known: Known, hop_length: int, iterations: int
) -> jax.Array:
    """Run MISI from spectra `[source, ..., frame, bin]`; the waves add up to `[..., samples]`.

    The difference between the mixture and the sum of the sources is shared equally among them
    before their phases are taken.
    """
    magnitude = jnp.abs(spectra)

    def completed(waves: jax.Array) -> jax.Array:
        return waves + (mixture - waves.sum(0))[None] / len(waves)

    def step(_: int, spectra: jax.Array) -> jax.Array:
        waves = completed(_wave(spectra, known, hop_length))
        return magnitude * phase_of(_transform(waves, spectra, hop_length))

    spectra = jax.lax.fori_loop(0, iterations, step, spectra)
    return completed(synthesis(spectra, hop_length, known.valid))


@partial(jax.jit, static_argnames=("hop_length", "samples"))
def griffin_lim(
    spectra: jax.Array, hop_length: int, samples: int, iterations: int = 32, momentum: float = 0.0
) -> jax.Array:
    """Return waves `[..., samples]` from spectra of the centred `stft` with initial phases."""
    known, inside = _centred(spectra, hop_length, samples)
    return griffin_lim_known(spectra, known, hop_length, iterations, momentum)[..., inside]


@partial(jax.jit, static_argnames="hop_length")
def misi(spectra: jax.Array, mixture: jax.Array, hop_length: int, iterations: int = 5) -> jax.Array:
    """Return waves `[source, ..., samples]` that add up to a mixture `[..., samples]`."""
    known, inside = _centred(spectra, hop_length, mixture.shape[-1])
    edges = inside.start, known.fixed.shape[0] - inside.stop
    padded = jnp.pad(mixture, [(0, 0)] * (mixture.ndim - 1) + [edges])
    return misi_known(spectra, padded, known, hop_length, iterations)[..., inside]


def random_phases(key: jax.Array, magnitude: jax.Array) -> jax.Array:
    """Return the magnitudes with uniformly random phases."""
    return magnitude * jnp.exp(2j * jnp.pi * jax.random.uniform(key, magnitude.shape))


def _centred(spectra: jax.Array, hop_length: int, samples: int) -> tuple[Known, slice]:
    """Return what is known in a centred transform: silence outside the file, and its place."""
    frames, n_fft = spectra.shape[-2], 2 * (spectra.shape[-1] - 1)
    total = (frames - 1) * hop_length + n_fft
    inside = slice(n_fft // 2, n_fft // 2 + samples)
    if inside.stop > total:
        raise ValueError(f"{frames} frames reach over {total - n_fft // 2} samples, not {samples}")
    fixed = np.ones(total, bool)
    fixed[inside] = False
    return Known(jnp.asarray(fixed), jnp.zeros(()), jnp.ones(frames)), inside


def _wave(spectra: jax.Array, known: Known, hop_length: int) -> jax.Array:
    wave = synthesis(spectra, hop_length, known.valid)
    return jnp.where(jnp.broadcast_to(known.fixed, wave.shape), known.value, wave)


def _transform(wave: jax.Array, like: jax.Array, hop_length: int) -> jax.Array:
    return stft(wave, 2 * (like.shape[-1] - 1), hop_length, center=False)


def phase_of(spectra: jax.Array) -> jax.Array:
    """Return spectra divided by their magnitudes; 1 where they are 0."""
    size = jnp.abs(spectra)
    return jnp.where(size > 0, spectra / jnp.where(size > 0, size, 1), 1)
