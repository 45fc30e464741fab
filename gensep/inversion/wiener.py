"""Multichannel Wiener filtering: local Gaussian sources with a spatial covariance per bin.

Duong, Vincent and Gribonval 2010; EM as in norbert (Liutkus and Stoeter 2019). Source j is
N(0, v_j R_j) with power v_j[frame, bin] and covariance R_j[channel, channel, bin]. The mixture is
the sum of the sources, so the posterior mean of a source is v_j R_j V^-1 x with V = sum_k v_k R_k.
The axes of matrices come first, `[channel, channel, ...]`: their algebra is elementwise over the
others.
"""

from functools import partial

import jax
import jax.numpy as jnp

# Share of the trace that is added to the diagonal: the covariance of a point source has rank one
# and is singular in float32 without it.
LOAD = 1e-6
EM_LOAD = 1e-4  # more in EM, whose steps amplify rounding errors
TINY = 1e-25
_einsum = partial(jnp.einsum, precision="highest")


def inverse(matrix: jax.Array) -> jax.Array:
    """Invert Hermitian positive definite `[n, n, ...]` by Gauss-Jordan elimination."""
    for k in range(matrix.shape[0]):
        pivot = matrix[k, k][None]
        row, column = matrix[k] / pivot, matrix[:, k]
        matrix = matrix - column[:, None] * row[None]
        matrix = matrix.at[k].set(row).at[:, k].set(-column / pivot).at[k, k].set(1 / pivot[0])
    return matrix


def outer(spectra: jax.Array) -> jax.Array:
    """Return y y^H of `[source, channel, ...]` as `[source, channel, channel, ...]`."""
    return spectra[:, :, None] * spectra[:, None].conj()


def loaded(covariances: jax.Array, load: float = LOAD) -> jax.Array:
    """Add `load` times its mean to the diagonal of `[source, channel, channel, bin]`.

    The covariance of a silent source, which is zero, becomes the identity.
    """
    channels = covariances.shape[1]
    eye = jnp.eye(channels)[None, :, :, None]
    trace = jnp.trace(covariances, axis1=1, axis2=2).real[:, None, None]
    return jnp.where(trace > 0, covariances + load / channels * trace * eye, eye)


def unit_trace(covariances: jax.Array) -> jax.Array:
    """Scale `[source, channel, channel, bin]` to a trace of I, the number of channels."""
    trace = jnp.trace(covariances, axis1=1, axis2=2).real[:, None, None]
    return covariances * (covariances.shape[1] / jnp.where(trace > 0, trace, 1))


def refined_power(covariances: jax.Array, moments: jax.Array) -> jax.Array:
    """Return v = Re tr(R^-1 C) / I `[source, frame, bin]` from moments C per frame."""
    inverses = jax.vmap(inverse)(covariances)
    return _einsum("kabf,kbatf->ktf", inverses, moments).real / covariances.shape[1]


def wiener(power: jax.Array, covariances: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return the posterior means `[source, channel, frame, bin]` of the sources of a mixture."""
    whitened = _einsum("abtf,btf->atf", _precision(power, covariances), mixture)
    return _einsum("ktf,kabf,btf->katf", power, covariances, whitened)


def expectation(power: jax.Array, covariances: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return the posterior moments C = y y^H + (I - G) v R, `[source, channel, channel, ...]`."""
    prior = power[:, None, None] * covariances[:, :, :, None]
    precision = _precision(power, covariances)
    means = _einsum("kabtf,btf->katf", prior, _einsum("abtf,btf->atf", precision, mixture))
    gains = _einsum("kabtf,bctf->kactf", prior, precision)
    return outer(means) + prior - _einsum("kabtf,kbctf->kactf", gains, prior)


def em_powers(
    spectra: jax.Array, mixture: jax.Array, covariances: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    """Run one iteration of EM per covariance and return powers v and moments C after the last.

    It starts from v = mean_channel |y|^2 and C = y y^H of estimates y
    `[source, channel, frame, bin]`; without covariances, these are returned. `covariances` are
    those of iteration 0, 1, ..., each by `maximization` from sums over the whole file.
    """
    power, moments = jnp.mean(jnp.abs(spectra) ** 2, 1), outer(spectra)
    for covariance in covariances:
        moments = expectation(power, covariance, mixture)
        power = jnp.maximum(refined_power(covariance, moments), 0)
    return power, moments


def maximization(power: jax.Array, moments: jax.Array) -> jax.Array:
    """Return R = sum_t C / sum_t v from sums of v `[source, bin]` and of C per channel pair."""
    return loaded(moments / jnp.where(power > 0, power, 1)[:, None, None], EM_LOAD)


def _precision(power: jax.Array, covariances: jax.Array) -> jax.Array:
    """Return V^-1 `[channel, channel, frame, bin]`; a large multiple of I where all is silent."""
    total = _einsum("ktf,kabf->abtf", power, covariances)
    return inverse(total + TINY * jnp.eye(total.shape[0])[:, :, None, None])
