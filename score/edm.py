"""The denoiser of Karras et al. 2022 ("EDM"): preconditioning and loss for data of known scale."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from score.broadcast import align_first, align_last
from score.prior import WeightedDenoiser


class EDM(nnx.Module):
    """D(x, sigma) = mean + c_skip (x - mean) + c_out F(c_in (x - mean), ln(sigma) / 4) (eq. 7).

    `mean` (`[features]`) and `sigma_data` (a scalar) are the mean and the standard deviation of the
    training set; they are not trained. `net` is F: it maps (x, ln sigma `[batch]`) to the shape of
    x.
    """

    def __init__(self, net: nnx.Module, mean: ArrayLike, sigma_data: ArrayLike):
        self.net = net
        self.mean = nnx.Variable(jnp.asarray(mean, jnp.float32))
        self.sigma_data = nnx.Variable(jnp.asarray(sigma_data, jnp.float32))

    @property
    def any_length(self) -> bool:
        """Whether the network is convolutional in time, so that inputs may have any length."""
        return bool(getattr(self.net, "any_length", False))

    def __call__(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return E[x0 | x] for `x: [batch, ...]`, `sigma: [batch]` or a scalar; shaped like x."""
        sigma = jnp.broadcast_to(sigma, (x.shape[0],))
        sd, mean = jax.lax.stop_gradient((self.sigma_data[...], self.mean[...]))
        s, mean = align_first(sigma, x), align_last(mean, x)
        total = s**2 + sd**2
        centred = x - mean
        # the networks contain EDM's factor 1/4 in the frequencies of their embedding
        raw = self.net(centred / jnp.sqrt(total), jnp.log(sigma))
        return mean + sd**2 / total * centred + s * sd / jnp.sqrt(total) * raw

    def weight(self, sigma: jax.Array) -> jax.Array:
        """Return the weight of the loss, (sigma^2 + sigma_data^2) / (sigma sigma_data)^2."""
        sd = jax.lax.stop_gradient(self.sigma_data[...])
        return (sigma**2 + sd**2) / (sigma * sd) ** 2


def denoising_loss(
    denoiser: WeightedDenoiser, x: jax.Array, noise: jax.Array, sigma: jax.Array
) -> jax.Array:
    """Return weight(sigma) mean |D(x + sigma n, sigma) - x|^2 for every example, `[batch]`.

    The denoiser supplies the weight. With the weight of `EDM` the best linear denoiser of white
    data has the loss 1.

    Args:
        denoiser: D and its weight.
        x: clean data, `[batch, ...]`.
        noise: standard normal noise n, shaped like x.
        sigma: noise levels, `[batch]`.
    """
    s = align_first(sigma, x)
    error = denoiser(x + s * noise, sigma) - x
    return denoiser.weight(sigma) * (error**2).reshape(len(x), -1).mean(-1)
