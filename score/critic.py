"""Critics as density ratios: one logit per example at every noise level, and its logistic losses.

A classifier that is trained with the logistic loss to tell samples of p from samples of a known
density q has the logit ln p(x) - ln q(x) at its optimum. With q = N(mean, variance + sigma^2),
which has the mean and the variances of the noisy data at every level, its gradient and that of ln q
add up to the score of p. A critic of the Wasserstein distance has no such optimum: the penalty
holds the norm of its gradient at 1 everywhere, so that this is no score.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from score.broadcast import align_first, align_last
from score.layers import embed_log_sigma
from score.prior import interpolate

EMBEDDING = 16


class Critic(nnx.Module):
    """logit(x, sigma) = sd / (2 sigma) <u, F(u, ln sigma)> + c(ln sigma).

    u = (x - mean) / sqrt(variance + sigma^2) has unit variance. `net` is F, any raw network of a
    denoiser: it maps (u, ln sigma `[batch]`) to the shape of u. The inner product grows with the
    number of elements, as log densities do, and is exact for Gaussian data if F is linear in u.
    With the factor sd / sigma, F is of unit size at all noise levels, like the networks of Karras
    et al. (2022). `mean` and `variance` (`[features]`) are those of the training set and are not
    trained; sd^2 is the mean of `variance`.
    """

    def __init__(self, net: nnx.Module, mean: ArrayLike, variance: ArrayLike, *, rngs: nnx.Rngs):
        self.net = net
        zeros = nnx.initializers.zeros
        self.constant = nnx.Linear(EMBEDDING, 1, kernel_init=zeros, rngs=rngs)
        self.mean = nnx.Variable(jnp.asarray(mean, jnp.float32))
        self.variance = nnx.Variable(jnp.asarray(variance, jnp.float32))

    @property
    def any_length(self) -> bool:
        """Whether the network is convolutional in time, so that inputs may have any length."""
        return bool(getattr(self.net, "any_length", False))

    def __call__(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return the logits `[batch]` of `x: [batch, ...]` at `sigma: [batch]` or a scalar."""
        sigma = jnp.broadcast_to(sigma, (len(x),))
        mean, variance = self.reference(x, sigma)
        u = (x - mean) / jnp.sqrt(variance)
        inner = _sum(u * self.net(u, jnp.log(sigma)))
        constant = self.constant(embed_log_sigma(jnp.log(sigma), EMBEDDING, 2.0))[:, 0]
        return self.sd / (2 * sigma) * inner + constant

    @property
    def sd(self) -> jax.Array:
        """Standard deviation of the training set, `[]`: root of the mean variance."""
        return jax.lax.stop_gradient(jnp.sqrt(self.variance[...].mean()))

    def reference(self, x: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return mean and variance of q at `sigma: [batch]`, both broadcastable to x."""
        mean, variance = jax.lax.stop_gradient((self.mean[...], self.variance[...]))
        return align_last(mean, x), align_last(variance, x) + align_first(sigma, x) ** 2

    def slope(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return the gradient of the logits with respect to x, shaped like x."""
        return jax.grad(lambda x: self(x, sigma).sum())(x)


def contrast_loss(critic: Critic, x: jax.Array, others: jax.Array, sigma: jax.Array) -> jax.Array:
    """Return the logistic loss of telling x from `others` with the same noise levels, `[batch]`.

    The logit of the optimum is ln p(x) - ln q(x), if `others` are samples of q. Where p and q
    hardly overlap, as in many dimensions, all are told apart before the ratio is known.

    Args:
        critic: of which the logits are.
        x: noisy data, `[batch, ...]`.
        others: samples of another density, shaped like x.
        sigma: noise levels, `[batch]`.
    """
    return jax.nn.softplus(-critic(x, sigma)) + jax.nn.softplus(critic(others, sigma))


def draw_reference(critic: Critic, noise: jax.Array, sigma: jax.Array) -> jax.Array:
    """Return samples of q at `sigma: [batch]`, from standard normal noise shaped like the data."""
    mean, variance = critic.reference(noise, sigma)
    return mean + jnp.sqrt(variance) * noise


def order_loss(
    critic: Critic, x: jax.Array, noise: jax.Array, sigma: jax.Array, step: float = 0.2
) -> jax.Array:
    """Return the logistic loss of telling x, y from y, x, where y is drawn near x; `[batch]`.

    This is conditional noise-contrastive estimation (Ceylan and Gutmann 2018): with y ~ K(y | x)
    and the density of the model p_c = q exp(logit), the logit of the order x, y is
    ln p_c(x) K(y | x) - ln p_c(y) K(x | y). The loss is smallest for the true density, up to a
    constant, whatever K is. Because y is near x, the orders are never told apart with certainty,
    in any number of dimensions. K is a Langevin step along the score of the model as it is:

        y = mean + r (x - mean) + d^2 / 2 v grad logit(x) + d sqrt(v) n,    r = sqrt(1 - d^2),

    with the variance v of q and d = step sigma / sqrt(sd^2 + sigma^2). Such a step is nearly
    reversible if the model is true, so that the order tells little but where the model errs;
    contrastive divergence is the same up to this difference (Yair and Michaeli 2021). A K without
    the logit would be as correct, but the random part of logit(x) - logit(y) would hide the errors:
    docs/results/samplers/critics.md compares. Both n and -n are used, which removes what is odd
    in n.

    Args:
        critic: the model; two gradients with respect to x are taken beside that of the loss.
        x: noisy data, `[batch, ...]`.
        noise: standard normal noise n, shaped like x.
        sigma: noise levels, `[batch]`.
        step: length of steps, relative to the noise, in the units of u of `Critic`.
    """
    mean, v = critic.reference(x, sigma)
    frozen = jax.lax.stop_gradient(critic)
    d = align_first(step * sigma / jnp.sqrt(critic.sd**2 + sigma**2), x)

    def middle(x: jax.Array) -> jax.Array:
        return jnp.sqrt(1 - d**2) * (x - mean) + d**2 / 2 * v * frozen.slope(x, sigma)

    from_x, here = middle(x), critic(x, sigma)

    def gap(noise: jax.Array) -> jax.Array:
        y = mean + from_x + d * jnp.sqrt(v) * noise
        # ln q(x) K(y | x) - ln q(y) K(x | y), in one sum so that large terms cancel
        back = (x - mean - middle(y)) / (d * jnp.sqrt(v))
        known = ((y - mean) ** 2 - (x - mean) ** 2) / v + back**2 - noise**2
        return here - critic(y, sigma) + _sum(known) / 2

    gaps = jnp.stack([gap(noise), gap(-noise)])
    return jax.nn.softplus(-gaps).mean(0)


class CriticPrior(NamedTuple):
    """A prior whose density is that of the reference q times exp(logit), at every noise level."""

    critic: Critic
    sigmas: jax.Array  # [level], falling; the noise levels at which `errors` was measured
    errors: jax.Array  # [level, features], rms of the denoiser x + sigma^2 score on held-out data

    @property
    def any_length(self) -> bool:
        """Whether x may have any number of frames, not only that of the training."""
        return self.critic.any_length

    @property
    def normalised(self) -> bool:
        """Whether `log_prob` integrates to 1: its constant is as good as the training's."""
        return False

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return ln q(x) + logit in nats, `[batch]`: ln p_sigma(x) up to a constant per level."""
        mean, variance = self.critic.reference(x, jnp.broadcast_to(sigma, (len(x),)))
        squares = (x - mean) ** 2 / variance + jnp.log(2 * jnp.pi * variance)
        return self.critic(x, sigma) - _sum(jnp.broadcast_to(squares, x.shape)) / 2

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return the gradient of `log_prob`, shaped like `x: [batch, ..., features]`."""
        mean, variance = self.critic.reference(x, jnp.broadcast_to(sigma, (len(x),)))
        return self.critic.slope(x, sigma) - (x - mean) / variance

    def moments(self) -> tuple[jax.Array, jax.Array]:
        """Return mean and variance of the training set, `[features]` each."""
        return self.critic.mean[...], self.critic.variance[...]

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Return the measured rms error of the denoiser per feature, `[features]`."""
        return interpolate(sigma, self.sigmas, self.errors)


def _sum(x: jax.Array) -> jax.Array:
    """Return sums over all axes but the first, `[batch]`."""
    return x.reshape(len(x), -1).sum(-1)
