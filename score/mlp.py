"""A small network for vectors such as points, latent codes or samples of toy densities."""

import jax
import jax.numpy as jnp
from flax import nnx

from score.layers import embed_log_sigma


class MLP(nnx.Module):
    """The raw network F(x, ln sigma) of an EDM denoiser on `[batch, D]`: residual layers."""

    def __init__(
        self, dimension: int, width: int, blocks: int, embedding: int = 16, *, rngs: nnx.Rngs
    ):
        self.embedding = embedding
        self.enter = nnx.Linear(dimension + embedding, width, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(blocks)])
        self.leave = nnx.Linear(width, dimension, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x: jax.Array, log_sigma: jax.Array) -> jax.Array:
        """Return F for `x: [batch, D]`, `log_sigma: [batch]`; shaped like x."""
        h = self.enter(jnp.concatenate([x, embed_log_sigma(log_sigma, self.embedding, 2.0)], -1))
        for block in self.blocks:
            h = h + block(jax.nn.silu(h))
        return self.leave(jax.nn.silu(h))
