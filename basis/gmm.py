"""Gaussian mixtures as priors, diffused exactly: full covariance, or one mixture per element."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class GaussianMixture(NamedTuple):
    """sum_j weights_j N(means_j, Q_j diag(variances_j) Q_j^T) on vectors; see `gaussian_mixture`.

    Covariances are kept as eigenvalues and eigenvectors: noise of variance sigma^2 is then added
    to the eigenvalues, and no level needs a factorisation of its own.
    """

    weights: jax.Array  # [component], summing to 1
    means: jax.Array  # [component, D]
    variances: jax.Array  # [component, D], eigenvalues
    axes: jax.Array  # [component, D, D], eigenvectors in columns
    sigmas: jax.Array  # [level]

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give grad log p_sigma for `x: [batch, D]`."""
        terms, along = self._terms(x, sigma)
        pull = along / (self.variances + sigma**2)[:, None]
        pull = jax.nn.softmax(terms, axis=0)[..., None] * pull
        return -jnp.einsum("jne,jde->nd", pull, self.axes)

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give log p_sigma of `x: [batch, D]`, `[batch]`."""
        return jax.nn.logsumexp(self._terms(x, sigma)[0], axis=0)

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Give the rms error of the best *linear* denoiser, `[D]`.

        It bounds the denoiser's error from above and is that error for one component.
        """
        total = self.covariance()
        noisy = total + sigma**2 * jnp.eye(len(total), dtype=total.dtype)
        return sigma * jnp.sqrt(jnp.maximum(jnp.diagonal(jnp.linalg.solve(noisy, total)), 0))

    def moments(self) -> tuple[jax.Array, jax.Array]:
        """Give mean and variance of every element without noise, `[D]` each."""
        return self.mean(), jnp.diagonal(self.covariance())

    def mean(self) -> jax.Array:
        """Give the mean of the whole mixture, `[D]`."""
        return self.weights @ self.means

    def covariances(self) -> jax.Array:
        """Give the covariance of every component, `[component, D, D]`."""
        return jnp.einsum("jde,je,jfe->jdf", self.axes, self.variances, self.axes)

    def covariance(self) -> jax.Array:
        """Give the covariance of the whole mixture, `[D, D]`."""
        shift = self.means - self.mean()
        between = jnp.einsum("j,jd,je->de", self.weights, shift, shift)
        return jnp.einsum("j,jde->de", self.weights, self.covariances()) + between

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Draw `[n, D]` without noise."""
        which_key, noise_key = jax.random.split(key)
        which = jax.random.categorical(which_key, jnp.log(self.weights), shape=(n,))
        noise = jax.random.normal(noise_key, (n, self.means.shape[1]), self.means.dtype)
        noise = noise * jnp.sqrt(self.variances)[which]
        return self.means[which] + jnp.einsum("nde,ne->nd", self.axes[which], noise)

    def _terms(self, x: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Give log(weight_j N(x)) `[component, batch]` and Q_j^T(x - mean_j), one axis more."""
        along = jnp.einsum("jnd,jde->jne", x - self.means[:, None], self.axes)
        total = (self.variances + sigma**2)[:, None]
        squares = (along**2 / total + jnp.log(2 * jnp.pi * total)).sum(-1)
        return jnp.log(self.weights)[:, None] - 0.5 * squares, along


def gaussian_mixture(
    weights: jax.Array, means: jax.Array, covariances: jax.Array, sigmas: jax.Array
) -> GaussianMixture:
    """Make a mixture of `weights: [component]`, which are normalised, and `means: [component, D]`.

    Args:
        weights: positive, of any sum.
        means: of the components.
        covariances: `[component, D, D]`, or `[component, D]` where they are diagonal.
        sigmas: levels that the prior is said to support; it is exact at all of them.

    Raises:
        ValueError: for shapes that do not fit.
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
    """Make N(mean `[D]`, covariance `[D, D]`) as a mixture of one component."""
    return gaussian_mixture(jnp.ones(1, mean.dtype), mean[None], covariance[None], sigmas)


class ElementMixture(NamedTuple):
    """A Gaussian mixture for every element alone: a model of hiss, hum or a residual, per band.

    What stands behind `component` is broadcast to the trailing axes of x: nothing for one mixture
    everywhere, `[mel]` for one a band.
    """

    weights: jax.Array  # [component, ...], summing to 1 over components
    means: jax.Array  # [component, ...]
    variances: jax.Array  # [component, ...]
    sigmas: jax.Array  # [level]

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give grad log p_sigma, shaped like x."""
        pull = -self._shift(x) / self._total(x, sigma)
        return (jax.nn.softmax(self._terms(x, sigma), axis=0) * pull).sum(0)

    def log_density(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give log p_sigma of every element, shaped like x."""
        return jax.nn.logsumexp(self._terms(x, sigma), axis=0)

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give log p_sigma per batch element, `[batch]`."""
        return self.log_density(x, sigma).reshape(x.shape[0], -1).sum(-1)

    def moments(self) -> tuple[jax.Array, jax.Array]:
        """Give mean and variance of every element without noise, `[...]` each."""
        mean = (self.weights * self.means).sum(0)
        return mean, (self.weights * (self.variances + (self.means - mean) ** 2)).sum(0)

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Give the rms error of the best linear denoiser, a bound from above, `[...]`."""
        total = self.moments()[1]
        return sigma * jnp.sqrt(total / (total + sigma**2))

    def sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draw an x of `shape` without noise."""
        which_key, noise_key = jax.random.split(key)
        ndim = len(shape)
        weights = _behind(jnp.log(self.weights), ndim)
        # the Gumbel trick: the largest of log weight + Gumbel noise is a draw of the component
        which = (weights + jax.random.gumbel(which_key, (len(weights), *shape))).argmax(0)[None]
        noise = jax.random.normal(noise_key, shape, self.means.dtype)
        chosen = [
            jnp.take_along_axis(jnp.broadcast_to(_behind(a, ndim), (len(a), *shape)), which, 0)[0]
            for a in (self.means, self.variances)
        ]
        return chosen[0] + jnp.sqrt(chosen[1]) * noise

    def _shift(self, x: jax.Array) -> jax.Array:
        return x - _behind(self.means, x.ndim)

    def _total(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        return _behind(self.variances, x.ndim) + sigma**2

    def _terms(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give log(weight_j N(x)), `[component, *x.shape]`."""
        total = self._total(x, sigma)
        squares = self._shift(x) ** 2 / total + jnp.log(2 * jnp.pi * total)
        return _behind(jnp.log(self.weights), x.ndim) - 0.5 * squares


def _behind(values: jax.Array, ndim: int) -> jax.Array:
    """Line `[component, ...]` up with the trailing axes of an x of `ndim` axes."""
    return values.reshape(len(values), *[1] * (ndim - values.ndim + 1), *values.shape[1:])
