"""What several networks share: the embedding of the noise level, and normalisation."""

import jax
import jax.numpy as jnp


def embed_log_sigma(log_sigma: jax.Array, size: int, highest: float) -> jax.Array:
    """Return sines and cosines of `log_sigma: [batch]`, `[batch, size]`.

    Their frequencies are geometric from 0.25 to `highest`.
    """
    frequency = jnp.exp(jnp.linspace(jnp.log(0.25), jnp.log(highest), size // 2))
    angle = log_sigma[:, None] * frequency[None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def layer_norm(x: jax.Array) -> jax.Array:
    """Return x with mean 0 and variance 1 over its last axis."""
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)
