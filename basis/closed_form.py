"""Priors and posteriors that are known exactly: the ground truth of every sampler test."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from basis.gmm import GaussianMixture


class Gaussian(NamedTuple):
    """Independent normals per element; also a usable prior, for hiss or a residual source."""

    mean: jax.Array  # broadcastable to x
    variance: jax.Array  # broadcastable to x
    sigmas: jax.Array  # [level]

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give -(x - mean) / (variance + sigma^2)."""
        return (self.mean - x) / (self.variance + sigma**2)

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give log p_sigma per batch element, `[batch]`."""
        total = jnp.broadcast_to(self.variance + sigma**2, x.shape)
        terms = -0.5 * ((x - self.mean) ** 2 / total + jnp.log(2 * jnp.pi * total))
        return terms.reshape(x.shape[0], -1).sum(-1)

    def moments(self) -> tuple[jax.Array, jax.Array]:
        """Give mean and variance of every element without noise."""
        return self.mean, self.variance

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Give the posterior sd of x0 given x, exactly."""
        return sigma * jnp.sqrt(self.variance / (self.variance + sigma**2))


def gaussian_posterior(
    means: jax.Array, variances: jax.Array, gains: jax.Array, mixture: jax.Array, tau: float
) -> tuple[jax.Array, jax.Array]:
    """Give mean `[source, ...]` and covariance `[source, source, ...]` of the sources.

    For independent x_k ~ N(means_k, variances_k) per element and
    mixture = sum_k gains_k x_k + tau n: the Wiener filter.
    """
    total = tau**2 + jnp.tensordot(gains**2, variances, axes=1)
    gain = gains.reshape(-1, *[1] * (means.ndim - 1)) * variances / total
    mean = means + gain * (mixture - jnp.tensordot(gains, means, axes=1))
    scaled = gains.reshape(-1, *[1] * (means.ndim - 1)) * variances
    cross = scaled[:, None] * scaled[None] / total
    eye = jnp.eye(len(means)).reshape(len(means), len(means), *[1] * (means.ndim - 1))
    return mean, eye * variances[None] - cross


class MixturePosterior(NamedTuple):
    """A Gaussian mixture over all sources, one component for each tuple of the priors' own."""

    log_weights: jax.Array  # [batch, tuple], normalised
    means: jax.Array  # [batch, tuple, source, D]
    covariances: jax.Array  # [tuple, source, D, source, D], the same for every mixture
    log_evidence: jax.Array  # [batch], log p(mixture)

    def mean(self) -> jax.Array:
        """Give the posterior mean of the sources, `[source, batch, D]`."""
        return jnp.einsum("nt,ntkd->knd", jnp.exp(self.log_weights), self.means)

    def covariance(self) -> jax.Array:
        """Give the posterior covariance, `[batch, source, D, source, D]`."""
        weights = jnp.exp(self.log_weights)
        shift = self.means - jnp.moveaxis(self.mean(), 0, 1)[:, None]
        within = jnp.einsum("nt,tkdle->nkdle", weights, self.covariances)
        return within + jnp.einsum("nt,ntkd,ntle->nkdle", weights, shift, shift)

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Draw `[n, source, batch, D]`."""
        which_key, noise_key = jax.random.split(key)
        batch, tuples, k, d = self.means.shape
        which = jax.random.categorical(which_key, self.log_weights, shape=(n, batch))
        values, vectors = jnp.linalg.eigh(self.covariances.reshape(tuples, k * d, k * d))
        # an eigenvalue near 0 (little noise of the mixture) may come out negative
        roots = vectors * jnp.sqrt(jnp.maximum(values, 0))[:, None]
        noise = jax.random.normal(noise_key, (n, batch, k * d), self.means.dtype)

        def fill(x, inputs):  # tuple by tuple: a root for every draw would fill the memory
            i, mean, root = inputs
            return jnp.where((which == i)[..., None], mean + noise @ root.T, x), None

        means = jnp.moveaxis(self.means, 1, 0).reshape(tuples, batch, k * d)
        x, _ = jax.lax.scan(fill, jnp.zeros_like(noise), (jnp.arange(tuples), means, roots))
        return jnp.moveaxis(x.reshape(n, batch, k, d), 2, 1)


def mixture_posterior(
    priors: Sequence[GaussianMixture], gains: jax.Array, mixture: jax.Array, tau: float
) -> MixturePosterior:
    """Condition sources of Gaussian mixtures on mixture = sum_k gains_k x_k + tau n.

    Each tuple c of components is a joint Gaussian, V = tau^2 I + sum_k gains_k^2 S_k: weight
    prod_k weights_k N(mixture; sum_k gains_k mean_k, V), mean mean_k + gains_k S_k V^-1 (mixture -
    sum gains mean), covariance S_j delta_jk - gains_j gains_k S_j V^-1 S_k.

    Args:
        priors: a mixture a source; components multiply, so that few sources have few of them.
        gains: `[source]`.
        mixture: `[batch, D]`.
        tau: sd of the observation, a scalar or `[D]`.
    """
    tuples = np.indices([len(p.weights) for p in priors]).reshape(len(priors), -1)
    each = list(zip(priors, tuples, strict=True))
    d = mixture.shape[-1]
    means = jnp.stack([p.means[c] for p, c in each], 1)  # [tuple, source, D]
    own = jnp.stack([p.covariances()[c] for p, c in each], 1)  # [tuple, source, D, D]
    scaled = gains[:, None, None] * own
    noise = jnp.broadcast_to(jnp.asarray(tau, mixture.dtype) ** 2, (d,))
    total = jnp.diag(noise) + jnp.einsum("k,tkde->tde", gains, scaled)
    error = mixture[:, None] - jnp.einsum("k,tkd->td", gains, means)  # [batch, tuple, D]
    solved = jnp.linalg.solve(total, jnp.moveaxis(error, 0, -1))  # [tuple, D, batch]
    evidence = -0.5 * (
        jnp.einsum("ntd,tdn->nt", error, solved) + jnp.linalg.slogdet(2 * jnp.pi * total)[1]
    )
    joint = evidence + sum(jnp.log(p.weights[c]) for p, c in each)
    log_evidence = jax.nn.logsumexp(joint, axis=1)
    across = jnp.linalg.solve(total[:, None], scaled)  # V^-1 gains_k S_k, [tuple, source, D, D]
    eye = jnp.eye(len(priors), dtype=mixture.dtype)
    covariances = jnp.einsum("kl,tkde->tkdle", eye, own) - jnp.einsum(
        "tkdf,tlfe->tkdle", scaled, across
    )
    return MixturePosterior(
        joint - log_evidence[:, None],
        means + jnp.einsum("tkde,ten->ntkd", scaled, solved),
        covariances,
        log_evidence,
    )
