"""The density of data with Gaussian noise of any level, by one flow."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from flows.bijection import Bijection, initialize, replace, sum_elements

LAYOUTS = ("image", "bands")


class SigmaEmbedding(nnx.Module):
    """ln sigma as a vector, `[batch] -> [batch, size]`; levels below `floor` look alike."""

    def __init__(self, size: int, floor: float, *, rngs: nnx.Rngs):
        self.size, self.floor = size, floor
        self.first = nnx.Linear(size, size, rngs=rngs)
        self.second = nnx.Linear(size, size, rngs=rngs)

    def __call__(self, sigma: jax.Array) -> jax.Array:
        """Embed, also sigma = 0."""
        log_sigma = jnp.log(sigma**2 + self.floor**2) / 2
        frequency = jnp.exp(jnp.linspace(jnp.log(0.125), jnp.log(4.0), self.size // 2))
        angle = log_sigma[:, None] * frequency
        h = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)
        return jax.nn.silu(self.second(jax.nn.silu(self.first(h))))


class Density(nnx.Module):
    """p_sigma(x) for `x: [batch, ...]`: a flow on (x - mean) / sqrt(sigma^2 + sd^2).

    With an `embed`ding the flow knows the noise level, and one set of weights serves all of them;
    without, the flow is that of one level. `layout` tells how examples become `[H, W, C]`: image
    takes pictures as they are and gives windows `[frames, bands]` one channel; bands makes the
    last axis the channels, `[frames, 1, bands]`. Data without noise lie between `low` and `high`,
    numbers or `[features]`; what `denoise` gives stays near it.
    """

    def __init__(
        self,
        flow: Bijection,
        mean: jax.Array,
        sd: jax.Array,
        layout: str = "image",
        embed: SigmaEmbedding | None = None,
        low: Any = -1e30,
        high: Any = 1e30,
    ):
        if layout not in LAYOUTS:
            raise ValueError(f"expected a layout {' or '.join(LAYOUTS)}, got '{layout}'")
        self.flow, self.layout, self.embed = flow, layout, embed
        self.mean = nnx.Variable(jnp.asarray(mean, jnp.float32))
        self.sd = nnx.Variable(jnp.asarray(sd, jnp.float32))
        self.low = nnx.Variable(jnp.asarray(low, jnp.float32))
        self.high = nnx.Variable(jnp.asarray(high, jnp.float32))

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Give `[batch, H, W, C]` for the shape of x."""
        if len(shape) == 4:
            return shape
        if self.layout == "image" and len(shape) == 3:
            return (*shape, 1)
        return (*shape[:-1], *[1] * (4 - len(shape)), shape[-1])

    def _scale(self, sigma: jax.Array) -> jax.Array:
        return jnp.sqrt(sigma**2 + jax.lax.stop_gradient(self.sd[...]) ** 2)

    def _arguments(self, sigma, batch: int) -> tuple[jax.Array, jax.Array | None]:
        sigma = jnp.broadcast_to(sigma, (batch,))
        return sigma, None if self.embed is None else self.embed(sigma)

    def to_latent(self, x: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Give z `[batch, H, W, C]`, a priori N(0, I), and log |dz/dx| `[batch]`."""
        sigma, condition = self._arguments(sigma, len(x))
        scale = self._scale(sigma)
        centred = x - jax.lax.stop_gradient(self.mean[...])
        whitened = centred / scale.reshape(-1, *[1] * (x.ndim - 1))
        z, logdet = self.flow.forward(whitened.reshape(self._shape(x.shape)), condition)
        return z, logdet - x[0].size * jnp.log(scale)

    def from_latent(self, z: jax.Array, sigma: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Give x `[batch, *shape]` of latents `[batch, H, W, C]`."""
        sigma, condition = self._arguments(sigma, len(z))
        x = self.flow.inverse(z, condition)[0].reshape(len(z), *shape)
        scale = self._scale(sigma).reshape(-1, *[1] * len(shape))
        return self.mean[...] + x * scale

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give log p_sigma(x) in nats, `[batch]`, sigma a scalar or `[batch]`."""
        z, logdet = self.to_latent(x, sigma)
        return logdet - sum_elements(z**2 + jnp.log(2 * jnp.pi)) / 2

    def denoise(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give x + sigma^2 grad log p_sigma(x) where it is near the range of the data, like x.

        A mean of data lies in their range. Far from all data a flow does not know that: there its
        gradient may grow without bound, and a sampler would follow it to infinity. Elements that
        would leave the range by more than half of it get the best linear denoiser of white data
        instead, which leads back; half, as data at the edge, like silence, need a Jacobian, too.
        """
        slope = jax.grad(lambda x: self.log_prob(x, sigma).sum())(calm(x))
        square = jnp.square(sigma).reshape(-1, *[1] * (x.ndim - 1)) if jnp.ndim(sigma) else sigma**2
        clean = x + square * slope
        low, high, mean, sd = (
            jax.lax.stop_gradient(v[...]) for v in (self.low, self.high, self.mean, self.sd)
        )
        room = (high - low) / 2
        near = (clean >= low - room) & (clean <= high + room)  # false where it is not a number
        return jnp.where(near, clean, mean + sd**2 / (sd**2 + square) * (x - mean))

    def sample(
        self,
        key: jax.Array,
        shape: tuple[int, ...],
        sigma: jax.Array,
        temperature: float | jax.Array = 1.0,
    ) -> jax.Array:
        """Draw `[batch, ...]` of p_sigma; latents have the sd `temperature`."""
        z = temperature * jax.random.normal(key, self._shape(shape))
        return self.from_latent(z, sigma, shape[1:])

    def initialize(self, x: jax.Array, sigma: jax.Array) -> "Density":
        """Give this density with its flow set from a batch of noisy x, sigma `[batch]`."""
        sigma, condition = self._arguments(sigma, len(x))
        scale = self._scale(sigma).reshape(-1, *[1] * (x.ndim - 1))
        whitened = ((x - self.mean[...]) / scale).reshape(self._shape(x.shape))
        return replace(self, flow=initialize(self.flow, whitened, condition))


@jax.custom_vjp
def calm(x: jax.Array) -> jax.Array:
    """Give x; a cotangent that comes back to it loses what is not finite."""
    return x


def _calm_backward(_: None, cotangent: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(jnp.isfinite(cotangent), cotangent, 0),)


calm.defvjp(lambda x: (x, None), _calm_backward)


def negative_log_likelihood(
    density: Density, x: jax.Array, noise: jax.Array, sigma: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Give -log p_sigma(x + sigma n) in nats a dimension, and log |dz/dx| likewise, `[batch]`.

    No density of data with noise does better than sigma's own ln(2 pi e sigma^2) / 2.
    """
    s = sigma.reshape(-1, *[1] * (x.ndim - 1))
    z, logdet = density.to_latent(x + s * noise, sigma)
    dims = x[0].size
    nll = sum_elements(z**2 + jnp.log(2 * jnp.pi)) / 2 - logdet
    return nll / dims, logdet / dims


def likelihood_and_denoising(
    density: Density, x: jax.Array, noise: jax.Array, sigma: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Give what `negative_log_likelihood` does, and the squared error of the score, `[batch]`.

    The error is that of the denoiser x + sigma^2 score under the weights of Karras et al. 2022,
    mean |n + sigma score|^2 (sigma^2 + sd^2) / sd^2: 1 for the best linear denoiser of white data.
    Its gradient is that of a second derivative of the flow, some three times as costly as the
    likelihood's; but where noise is large, it is far less noisy: the likelihood regresses on data
    with the noise, the denoiser on data without.
    """
    s = sigma.reshape(-1, *[1] * (x.ndim - 1))

    def total(noisy):
        z, logdet = density.to_latent(noisy, sigma)
        nll = sum_elements(z**2 + jnp.log(2 * jnp.pi)) / 2 - logdet
        return nll.sum(), (nll, logdet)

    slope, (nll, logdet) = jax.grad(total, has_aux=True)(x + s * noise)
    error = sum_elements((noise - s * slope) ** 2)
    sd, dims = jax.lax.stop_gradient(density.sd[...]), x[0].size
    return nll / dims, logdet / dims, (sigma**2 + sd**2) / sd**2 * error / dims
