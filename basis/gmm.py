"""Gaussian mixtures as priors, exact at all noise levels: joint, or one mixture per element."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class GaussianMixture(NamedTuple):
    """sum_j weights_j N(means_j, Q_j diag(variances_j) Q_j^T) on vectors; see `gaussian_mixture`.

    Covariances are stored as eigenvalues and eigenvectors, so that noise of variance sigma^2 is
    added to the eigenvalues, without a new factorisation for every noise level.
    """

    weights: jax.Array  # [component], summing to 1
    means: jax.Array  # [component, D]
    variances: jax.Array  # [component, D], eigenvalues
    axes: jax.Array  # [component, D, D], eigenvectors in columns
    sigmas: jax.Array  # [level]

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return grad log p_sigma for `x: [batch, D]`."""
        terms, along = self._terms(x, sigma)
        pull = along / (self.variances + sigma**2)[:, None]
        pull = jax.nn.softmax(terms, axis=0)[..., None] * pull
        return -jnp.einsum("jne,jde->nd", pull, self.axes)

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return log p_sigma of `x: [batch, D]`, `[batch]`."""
        return jax.nn.logsumexp(self._terms(x, sigma)[0], axis=0)

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Return the rms error of the best *linear* denoiser, `[D]`.

        It is an upper bound of the denoiser's error, and exact for a single component.
        """
        total = self.covariance()
        noisy = total + sigma**2 * jnp.eye(len(total), dtype=total.dtype)
        return sigma * jnp.sqrt(jnp.maximum(jnp.diagonal(jnp.linalg.solve(noisy, total)), 0))

    def moments(self) -> tuple[jax.Array, jax.Array]:
        """Return mean and variance of every element without noise, `[D]` each."""
        return self.mean(), jnp.diagonal(self.covariance())

    def mean(self) -> jax.Array:
        """Return the mean of the whole mixture, `[D]`."""
        return self.weights @ self.means

    def covariances(self) -> jax.Array:
        """Return the covariance of every component, `[component, D, D]`."""
        return jnp.einsum("jde,je,jfe->jdf", self.axes, self.variances, self.axes)

    def covariance(self) -> jax.Array:
        """Return the covariance of the whole mixture, `[D, D]`."""
        shift = self.means - self.mean()[None]
        between = jnp.einsum("j,jd,je->de", self.weights, shift, shift)
        return jnp.einsum("j,jde->de", self.weights, self.covariances()) + between

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Draw samples `[n, D]` without noise."""
        which_key, noise_key = jax.random.split(key)
        which = jax.random.categorical(which_key, jnp.log(self.weights), shape=(n,))
        noise = jax.random.normal(noise_key, (n, self.means.shape[1]), self.means.dtype)
        noise = noise * jnp.sqrt(self.variances)[which]
        return self.means[which] + jnp.einsum("nde,ne->nd", self.axes[which], noise)

    def _terms(self, x: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return log(weight_j N(x)) `[component, batch]`, and Q_j^T(x - mean_j) with an axis D."""
        along = jnp.einsum("jnd,jde->jne", x[None] - self.means[:, None], self.axes)
        total = (self.variances + sigma**2)[:, None]
        squares = (along**2 / total + jnp.log(2 * jnp.pi * total)).sum(-1)
        return jnp.log(self.weights)[:, None] - 0.5 * squares, along


def gaussian_mixture(
    weights: jax.Array, means: jax.Array, covariances: jax.Array, sigmas: jax.Array
) -> GaussianMixture:
    """Build a Gaussian mixture.

    Args:
        weights: `[component]`, positive; they are normalised.
        means: `[component, D]`.
        covariances: `[component, D, D]`, or `[component, D]` if they are diagonal.
        sigmas: `[level]`, the range of noise levels that the prior reports; any is exact.

    Raises:
        ValueError: if the shapes do not fit.
    """
    weights, means, covariances = (jnp.asarray(a) for a in (weights, means, covariances))
    (j, d), shape = means.shape, covariances.shape
    if weights.shape != (j,) or shape not in ((j, d), (j, d, d)):
        raise ValueError(
            f"means {means.shape} need weights ({j},), not {weights.shape}, and "
            f"covariances ({j}, {d}) or ({j}, {d}, {d}), not {shape}"
        )
    if covariances.ndim == 2:
        variances, axes = covariances, jnp.tile(jnp.eye(d, dtype=means.dtype), (j, 1, 1))
    else:
        variances, axes = jnp.linalg.eigh(covariances)
    return GaussianMixture(
        weights / weights.sum(), means, jnp.maximum(variances, 0), axes, jnp.asarray(sigmas)
    )


def full_gaussian(mean: jax.Array, covariance: jax.Array, sigmas: jax.Array) -> GaussianMixture:
    """Build N(mean `[D]`, covariance `[D, D]`) as a mixture of one component."""
    return gaussian_mixture(jnp.ones(1, mean.dtype), mean[None], covariance[None], sigmas)


class ElementMixture(NamedTuple):
    """Independent elements, each from a Gaussian mixture: a model of hiss, hum or a residual.

    The axes after `component` are broadcast to the last axes of x: none for the same mixture
    everywhere, `[mel]` for one mixture per mel band.
    """

    weights: jax.Array  # [component, ...], summing to 1 over components
    means: jax.Array  # [component, ...]
    variances: jax.Array  # [component, ...]
    sigmas: jax.Array  # [level]

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return grad log p_sigma, shaped like x."""
        pull = -self._shift(x) / self._total(x, sigma)
        return (jax.nn.softmax(self._terms(x, sigma), axis=0) * pull).sum(0)

    def log_density(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return log p_sigma of every element, shaped like x."""
        return jax.nn.logsumexp(self._terms(x, sigma), axis=0)

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return log p_sigma of every batch element, `[batch]`."""
        return self.log_density(x, sigma).reshape(x.shape[0], -1).sum(-1)

    def moments(self) -> tuple[jax.Array, jax.Array]:
        """Return mean and variance of every element without noise, `[...]` each."""
        mean = (self.weights * self.means).sum(0)
        return mean, (self.weights * (self.variances + (self.means - mean[None]) ** 2)).sum(0)

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Return the rms error of the best linear denoiser, an upper bound of this one, `[...]`."""
        total = self.moments()[1]
        return sigma * jnp.sqrt(total / (total + sigma**2))

    def sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draw a sample of `shape` without noise."""
        which_key, noise_key = jax.random.split(key)
        ndim = len(shape)
        weights = _behind(jnp.log(self.weights), ndim)
        # the Gumbel trick: the argmax of log weight + Gumbel noise is a sample of the component
        which = (weights + jax.random.gumbel(which_key, (len(weights), *shape))).argmax(0)[None]
        noise = jax.random.normal(noise_key, shape, self.means.dtype)
        chosen = [
            jnp.take_along_axis(jnp.broadcast_to(_behind(a, ndim), (len(a), *shape)), which, 0)[0]
            for a in (self.means, self.variances)
        ]
        return chosen[0] + jnp.sqrt(chosen[1]) * noise

    def _shift(self, x: jax.Array) -> jax.Array:
        return x[None] - _behind(self.means, x.ndim)

    def _total(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        return _behind(self.variances, x.ndim) + sigma**2

    def _terms(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return log(weight_j N(x)), `[component, *x.shape]`."""
        total = self._total(x, sigma)
        squares = self._shift(x) ** 2 / total + jnp.log(2 * jnp.pi * total)
        return _behind(jnp.log(self.weights), x.ndim) - 0.5 * squares


def _behind(values: jax.Array, ndim: int) -> jax.Array:
    """Align the axes behind `[component, ...]` with the last axes of an x of `ndim` axes."""
    return values.reshape(len(values), *[1] * (ndim - values.ndim + 1), *values.shape[1:])
