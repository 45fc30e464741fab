"""From the mel masks of a mixture to linear-frequency spectra of its sources.

A mask says which share of the mixture's mel power each source has. The power of a source in a bin
of the transform is estimated from it in one of three ways (POWERS); spectra are then the mixture
filtered by ratios of these powers, or their roots with phases (METHODS). The transform is that of
`masking`, at the rate of the file and per channel; bins outside all bands follow the nearest band.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gensep.inversion.phase import phase_of
from gensep.representation.mel import Representation

NNLS_ITERATIONS = 100
SMALL = 1e-10
_matmul = partial(jnp.matmul, precision="highest")


class Bands(NamedTuple):
    """The mel bands of a representation in the bins of one transform."""

    bank: jax.Array  # M, [mel, bin]
    inverse: jax.Array  # pseudo-inverse of M, [bin, mel]
    spread: jax.Array  # [mel, bin], columns sum to 1
    covered: jax.Array  # bool [bin]


Solver = Callable[[jax.Array, Bands], jax.Array]  # mel power -> power of bins


@lru_cache(maxsize=4)
def bands(form: Representation, rate: int, n_fft: int) -> Bands:
    """Return the bands in the bins of a transform of `n_fft` samples at `rate`."""
    bank = form.filterbank(rate, n_fft)
    inverse = np.linalg.pinv(bank.astype(np.float64)).astype(np.float32)
    return Bands(*map(jnp.asarray, (bank, inverse, form.spread(rate, n_fft), bank.sum(0) > 1e-6)))


# ---- powers: shares `[source, frame, mel]`, mixture power `[channel, frame, bin]` -> per source


def spread_powers(shares: jax.Array, power: jax.Array, bands: Bands) -> jax.Array:
    """Share the power of the mixture: the mask of a bin is a weighted mean over its bands."""
    return _matmul(shares, bands.spread)[:, None] * power[None]


def fitted_powers(solve: Solver, shares: jax.Array, power: jax.Array, bands: Bands) -> jax.Array:
    """Find powers with the mel power of each source; spread the mask where no band reaches."""
    mel = shares[:, None] * _matmul(power, bands.bank.T)[None]
    covered = bands.covered[None, None, None]
    return jnp.where(covered, solve(mel, bands), spread_powers(shares, power, bands))


def pinv(mel: jax.Array, bands: Bands) -> jax.Array:
    """Find the powers of least norm with a mel power, raise negative ones: `[..., mel or bin]`."""
    return jnp.maximum(_matmul(mel, bands.inverse.T), SMALL)


def nnls(mel: jax.Array, bands: Bands, iterations: int = NNLS_ITERATIONS) -> jax.Array:
    """Minimise |M s - mel|^2 over s >= 0 from the pseudo-inverse: `[..., mel]` -> `[..., bin]`.

    Multiplicative steps s <- s (M^T mel) / (M^T M s) never increase it (Lee and Seung 2000).
    """
    goal = _matmul(mel, bands.bank)

    def step(_: int, s: jax.Array) -> jax.Array:
        return s * goal / (_matmul(_matmul(s, bands.bank.T), bands.bank) + SMALL)

    return jax.lax.fori_loop(0, iterations, step, pinv(mel, bands))


POWERS: dict[str, Callable[[jax.Array, jax.Array, Bands], jax.Array]] = {
    "spread": spread_powers,
    "nnls": partial(fitted_powers, nnls),
    "pinv": partial(fitted_powers, pinv),
}


def with_residual(powers: jax.Array, power: jax.Array) -> jax.Array:
    """Add a source with the power of the mixture that the others do not explain."""
    return jnp.concatenate([powers, jnp.maximum(power - powers.sum(0), 0)[None]])


# ---- spectra: from powers `[source, channel, frame, bin]`, mixture `[channel, frame, bin]`


def ratio(powers: jax.Array, mixture: jax.Array) -> jax.Array:
    """Filter the mixture by the ratios of the powers; by equal ratios where all are 0."""
    total = powers.sum(0, keepdims=True)
    shares = jnp.where(total > 0, powers / jnp.where(total > 0, total, 1), 1 / len(powers))
    return shares * mixture[None]


def mixture_phases(powers: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return the roots of the powers with the phases of the mixture."""
    return jnp.sqrt(powers) * phase_of(mixture)[None]


Spectra = Callable[[jax.Array, jax.Array], jax.Array]


class Method(NamedTuple):
    """How masks become waves."""

    powers: str  # a name in POWERS
    spectra: Spectra
    finish: str = "synthesis"  # or griffin_lim, misi, em_wiener, which refine the spectra first
    iterations: int = 0
    momentum: float = 0.0


METHODS: dict[str, Method] = {
    "spread": Method("spread", ratio),
    "nnls": Method("nnls", ratio),
    "pinv": Method("pinv", ratio),
    "mixture_phase": Method("nnls", mixture_phases),
    "griffin_lim": Method("spread", mixture_phases, "griffin_lim", 32),
    "fast_griffin_lim": Method("spread", mixture_phases, "griffin_lim", 32, 0.99),
    "misi": Method("spread", mixture_phases, "misi", 5),
    "em_wiener": Method("spread", ratio, "em_wiener", 1),
}
