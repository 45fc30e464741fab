"""Priors and posteriors that are known exactly; the tests of samplers compare with them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from basis.broadcast import align_first, align_last
from basis.gmm import GaussianMixture


class Gaussian(NamedTuple):
    """A prior of independent normal elements, as a model of hiss or of a residual source, too."""

    mean: jax.Array  # broadcastable to x
    variance: jax.Array  # broadcastable to x
    sigmas: jax.Array  # [level]

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return -(x - mean) / (variance + sigma^2)."""
        return (align_last(self.mean, x) - x) / (align_last(self.variance, x) + sigma**2)

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return log p_sigma of every batch element, `[batch]`."""
        total = jnp.broadcast_to(self.variance + sigma**2, x.shape)
        squares = (x - align_last(self.mean, x)) ** 2
        terms = -0.5 * (squares / total + jnp.log(2 * jnp.pi * total))
        return terms.reshape(x.shape[0], -1).sum(-1)

    def moments(self) -> tuple[jax.Array, jax.Array]:
        """Return mean and variance of every element without noise."""
        return self.mean, self.variance

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Return the exact posterior standard deviation of x0 given x."""
        return sigma * jnp.sqrt(self.variance / (self.variance + sigma**2))


def gaussian_posterior(
    means: jax.Array, variances: jax.Array, gains: jax.Array, mixture: jax.Array, tau: float
) -> tuple[jax.Array, jax.Array]:
    """Return mean `[source, ...]` and covariance `[source, source, ...]` of the sources.

    This is the Wiener filter, for independent x_k ~ N(means_k, variances_k) per element and
    mixture = sum_k gains_k x_k + tau n.
    """
    total = tau**2 + jnp.tensordot(gains**2, variances, axes=1)
    scaled = align_first(gains, means) * variances
    error = mixture - jnp.tensordot(gains, means, axes=1)
    mean = means + scaled / total[None] * error[None]
    cross = scaled[:, None] * scaled[None] / total[None, None]
    eye = jnp.eye(len(means)).reshape(len(means), len(means), *[1] * (means.ndim - 1))
    return mean, eye * variances[None] - cross


class MixturePosterior(NamedTuple):
    """A Gaussian mixture over all sources, one component per tuple of components of the priors."""

    log_weights: jax.Array  # [batch, tuple], normalised
    means: jax.Array  # [batch, tuple, source, D]
    covariances: jax.Array  # [tuple, source, D, source, D], the same for every mixture
    log_evidence: jax.Array  # [batch], log p(mixture)

    def mean(self) -> jax.Array:
        """Return the posterior mean of the sources, `[source, batch, D]`."""
        return jnp.einsum("nt,ntkd->knd", jnp.exp(self.log_weights), self.means)

    def covariance(self) -> jax.Array:
        """Return the posterior covariance, `[batch, source, D, source, D]`."""
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
        # an eigenvalue near 0 (where the mixture has little noise) may be computed as negative
        roots = vectors * jnp.sqrt(jnp.maximum(values, 0))[:, None]
        noise = jax.random.normal(noise_key, (n, batch, k * d), self.means.dtype)

        # tuple by tuple, because one root per sample would need too much memory
        def fill(x: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            i, mean, root = inputs
            return jnp.where((which == i)[..., None], mean[None] + noise @ root.T, x), None

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
        priors: one mixture per source; the number of tuples is the product of their sizes.
        gains: `[source]`.
        mixture: `[batch, D]`.
        tau: standard deviation of the observation, a scalar or `[D]`.
    """
    tuples = np.indices([len(p.weights) for p in priors]).reshape(len(priors), -1)
    each = list(zip(priors, tuples, strict=True))
    d = mixture.shape[-1]
    means = jnp.stack([p.means[c] for p, c in each], 1)  # [tuple, source, D]
    own = jnp.stack([p.covariances()[c] for p, c in each], 1)  # [tuple, source, D, D]
    scaled = gains[None, :, None, None] * own
    noise = jnp.broadcast_to(jnp.asarray(tau, mixture.dtype) ** 2, (d,))
    total = jnp.diag(noise)[None] + jnp.einsum("k,tkde->tde", gains, scaled)
    error = mixture[:, None] - jnp.einsum("k,tkd->td", gains, means)[None]  # [batch, tuple, D]
    solved = jnp.linalg.solve(total, jnp.moveaxis(error, 0, -1))  # [tuple, D, batch]
    log_det = jnp.linalg.slogdet(2 * jnp.pi * total)[1]
    evidence = -0.5 * (jnp.einsum("ntd,tdn->nt", error, solved) + log_det[None])
    joint = evidence + jnp.asarray(sum(jnp.log(p.weights[c]) for p, c in each))[None]
    log_evidence = jax.nn.logsumexp(joint, axis=1)
    across = jnp.linalg.solve(total[:, None], scaled)  # V^-1 gains_k S_k, [tuple, source, D, D]
    eye = jnp.eye(len(priors), dtype=mixture.dtype)
    covariances = jnp.einsum("kl,tkde->tkdle", eye, own) - jnp.einsum(
        "tkdf,tlfe->tkdle", scaled, across
    )
    return MixturePosterior(
        joint - log_evidence[:, None],
        means[None] + jnp.einsum("tkde,ten->ntkd", scaled, solved),
        covariances,
        log_evidence,
    )
