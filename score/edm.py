"""The denoiser of Karras et al. 2022 ("EDM"): preconditioning and loss for data of known scale."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


class EDM(nnx.Module):
    """D(x, sigma) = mean + c_skip (x - mean) + c_out F(c_in (x - mean), ln(sigma) / 4).

    `mean` (per feature) and `sigma_data` are those of the training set; they are not trained.
    """

    def __init__(self, net: nnx.Module, mean: jax.Array, sigma_data: jax.Array):
        self.net = net
        self.mean = nnx.Variable(jnp.asarray(mean, jnp.float32))
        self.sigma_data = nnx.Variable(jnp.asarray(sigma_data, jnp.float32))

    def __call__(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give E[x0 | x] for `x: [batch, ...]`, `sigma: [batch]` or a scalar; shaped like x."""
        sigma = jnp.broadcast_to(sigma, (x.shape[0],))
        sd, mean = jax.lax.stop_gradient((self.sigma_data[...], self.mean[...]))
        s = sigma.reshape(-1, *[1] * (x.ndim - 1))
        total = s**2 + sd**2
        centred = x - mean
        # the network's own scale of sigma is ln: EDM's factor 1/4 lies in the frequencies
        raw = self.net(centred / jnp.sqrt(total), jnp.log(sigma))
        return mean + sd**2 / total * centred + s * sd / jnp.sqrt(total) * raw

    def weight(self, sigma: jax.Array) -> jax.Array:
        """Give the loss's weight (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, like sigma."""
        sd = jax.lax.stop_gradient(self.sigma_data[...])
        return (sigma**2 + sd**2) / (sigma * sd) ** 2


def denoising_loss(denoiser: Any, x: jax.Array, noise: jax.Array, sigma: jax.Array) -> jax.Array:
    """Give the weighted squared error per example, `[batch]`.

    weight(sigma) * mean |D(x + sigma n, sigma) - x|^2 with the denoiser's own weight; with that of
    `EDM` the best linear denoiser of white data has 1.
    """
    s = sigma.reshape(-1, *[1] * (x.ndim - 1))
    error = denoiser(x + s * noise, sigma) - x
    return denoiser.weight(sigma) * (error**2).reshape(len(x), -1).mean(-1)
