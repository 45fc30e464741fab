"""The density of data with Gaussian noise of any level, modelled by one flow."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from flows.bijection import Bijection, initialize, replace, sum_elements
from flows.broadcast import align_first, align_last

LAYOUTS = ("image", "bands")


class SigmaEmbedding(nnx.Module):
    """An embedding of ln sigma, `[batch] -> [batch, size]`; levels below `floor` look alike."""

    def __init__(self, size: int, floor: float, *, rngs: nnx.Rngs):
        self.size, self.floor = size, floor
        self.first = nnx.Linear(size, size, rngs=rngs)
        self.second = nnx.Linear(size, size, rngs=rngs)

    def __call__(self, sigma: jax.Array) -> jax.Array:
        """Return the embedding; sigma may be 0."""
        log_sigma = jnp.log(sigma**2 + self.floor**2) / 2
        frequency = jnp.exp(jnp.linspace(jnp.log(0.125), jnp.log(4.0), self.size // 2))
        angle = log_sigma[:, None] * frequency[None]
        h = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)
        return jax.nn.silu(self.second(jax.nn.silu(self.first(h))))


class Density(nnx.Module):
    """p_sigma(x) for `x: [batch, ...]`: a flow on (x - mean) / sqrt(sigma^2 + sd^2).

    Args:
        flow: a bijection of `[batch, H, W, C]`.
        mean: mean of the data, a scalar or `[features]`.
        sd: standard deviation of the data, a scalar.
        layout: how examples become `[H, W, C]`. "image" keeps pictures as they are and gives
            windows `[frames, bands]` one channel; "bands" makes the last axis the channels,
            `[frames, 1, bands]`.
        embed: embedding of the noise level, with which one flow serves all noise levels; without
            it, the flow is the density at a single noise level.
        low: smallest values of data without noise, a scalar or `[features]`.
        high: largest values; `denoise` returns values near the range from `low` to `high`.

    Raises:
        ValueError: for an unknown layout.
    """

    def __init__(
        self,
        flow: Bijection,
        mean: ArrayLike,
        sd: ArrayLike,
        layout: str = "image",
        embed: SigmaEmbedding | None = None,
        low: ArrayLike = -1e30,
        high: ArrayLike = 1e30,
    ):
        if layout not in LAYOUTS:
            raise ValueError(f"expected a layout {' or '.join(LAYOUTS)}, got '{layout}'")
        self.flow, self.layout, self.embed = flow, layout, embed
        self.mean = nnx.Variable(jnp.asarray(mean, jnp.float32))
        self.sd = nnx.Variable(jnp.asarray(sd, jnp.float32))
        self.low = nnx.Variable(jnp.asarray(low, jnp.float32))
        self.high = nnx.Variable(jnp.asarray(high, jnp.float32))

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return `[batch, H, W, C]` for the shape of x."""
        if len(shape) == 4:
            return shape
        if self.layout == "image" and len(shape) == 3:
            return (*shape, 1)
        return (*shape[:-1], *[1] * (4 - len(shape)), shape[-1])

    def _scale(self, sigma: jax.Array) -> jax.Array:
        return jnp.sqrt(sigma**2 + jax.lax.stop_gradient(self.sd[...]) ** 2)

    def _arguments(self, sigma: jax.Array, batch: int) -> tuple[jax.Array, jax.Array | None]:
        """Return the noise level of every example, `[batch]`, and their embeddings."""
        sigma = jnp.broadcast_to(sigma, (batch,))
        return sigma, None if self.embed is None else self.embed(sigma)

    def to_latent(self, x: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return z `[batch, H, W, C]`, a priori N(0, I), and ln |det dz/dx| `[batch]`."""
        sigma, condition = self._arguments(sigma, len(x))
        scale = self._scale(sigma)
        centred = x - align_last(jax.lax.stop_gradient(self.mean[...]), x)
        whitened = centred / align_first(scale, x)
        z, logdet = self.flow.forward(whitened.reshape(self._shape(x.shape)), condition)
        return z, logdet - x[0].size * jnp.log(scale)

    def from_latent(self, z: jax.Array, sigma: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Return x `[batch, *shape]` for latents `[batch, H, W, C]`."""
        sigma, condition = self._arguments(sigma, len(z))
        x = self.flow.inverse(z, condition)[0].reshape(len(z), *shape)
        return align_last(self.mean[...], x) + x * align_first(self._scale(sigma), x)

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return ln p_sigma(x) in nats, `[batch]`; sigma is a scalar or `[batch]`."""
        z, logdet = self.to_latent(x, sigma)
        return logdet - sum_elements(z**2 + jnp.log(2 * jnp.pi)) / 2

    def denoise(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return x + sigma^2 grad ln p_sigma(x), kept near the range of the data; shaped like x.

        The true E[x0 | x] lies within the range of the data. Far from all data the gradient of a
        flow may grow without bound, and a sampler would follow it to infinity. So elements that
        would leave the range by more than half of its width get the best linear denoiser of white
        data instead, which leads back towards the data. The margin of one half leaves a useful
        Jacobian to data at the edge of the range, such as silence.
        """
        slope = jax.grad(lambda x: self.log_prob(x, sigma).sum())(calm(x))
        square = align_first(jnp.square(sigma), x) if jnp.ndim(sigma) else sigma**2
        clean = x + square * slope
        low, high, mean, sd = (
            align_last(jax.lax.stop_gradient(v[...]), x)
            for v in (self.low, self.high, self.mean, self.sd)
        )
        room = (high - low) / 2
        near = (clean >= low - room) & (clean <= high + room)  # false for nan
        return jnp.where(near, clean, mean + sd**2 / (sd**2 + square) * (x - mean))

    def sample(
        self,
        key: jax.Array,
        shape: tuple[int, ...],
        sigma: jax.Array,
        temperature: float | jax.Array = 1.0,
    ) -> jax.Array:
        """Draw samples `[batch, ...]` of p_sigma; latents have the deviation `temperature`."""
        z = temperature * jax.random.normal(key, self._shape(shape))
        return self.from_latent(z, sigma, shape[1:])

    def initialize(self, x: jax.Array, sigma: jax.Array) -> "Density":
        """Return this density with its flow initialised for a batch of noisy x, sigma `[batch]`."""
        sigma, condition = self._arguments(sigma, len(x))
        scale = align_first(self._scale(sigma), x)
        whitened = ((x - align_last(self.mean[...], x)) / scale).reshape(self._shape(x.shape))
        return replace(self, flow=initialize(self.flow, whitened, condition))


@jax.custom_vjp
def calm(x: jax.Array) -> jax.Array:
    """Return x; in the backward pass, replace cotangents that are not finite by 0."""
    return x


def _calm_backward(_: None, cotangent: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(jnp.isfinite(cotangent), cotangent, 0),)


calm.defvjp(lambda x: (x, None), _calm_backward)


def negative_log_likelihood(
    density: Density, x: jax.Array, noise: jax.Array, sigma: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return -ln p_sigma(x + sigma n) and ln |det dz/dx| in nats per dimension, both `[batch]`.

    The expectation of the first is at least the entropy of the noise, ln(2 pi e sigma^2) / 2.

    Args:
        density: p.
        x: clean data, `[batch, ...]`.
        noise: standard normal noise n, shaped like x.
        sigma: noise levels, `[batch]`.
    """
    s = align_first(sigma, x)
    z, logdet = density.to_latent(x + s * noise, sigma)
    dims = x[0].size
    nll = sum_elements(z**2 + jnp.log(2 * jnp.pi)) / 2 - logdet
    return nll / dims, logdet / dims


def likelihood_and_denoising(
    density: Density, x: jax.Array, noise: jax.Array, sigma: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the two results of `negative_log_likelihood` and the denoising loss, all `[batch]`.

    The denoising loss is the squared error of the denoiser x + sigma^2 score with the weights of
    Karras et al. 2022: mean |n + sigma score|^2 (sigma^2 + sd^2) / sd^2, which is 1 for the best
    linear denoiser of white data. Its gradient needs a second derivative of the flow and costs
    about three times that of the likelihood; but at high noise levels it varies far less, because
    its target is the clean data and not the noisy data.

    The arguments are those of `negative_log_likelihood`.
    """
    s = align_first(sigma, x)

    def total(noisy: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        z, logdet = density.to_latent(noisy, sigma)
        nll = sum_elements(z**2 + jnp.log(2 * jnp.pi)) / 2 - logdet
        return nll.sum(), (nll, logdet)

    slope, (nll, logdet) = jax.grad(total, has_aux=True)(x + s * noise)
    error = sum_elements((noise - s * slope) ** 2)
    sd, dims = jax.lax.stop_gradient(density.sd[...]), x[0].size
    return nll / dims, logdet / dims, (sigma**2 + sd**2) / sd**2 * error / dims
