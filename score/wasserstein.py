"""Critics of Wasserstein GANs: their network for spectrograms, and their loss.

Such a critic tells samples of two distributions apart, but its gradient is no score: its penalty
makes the gradient one long almost everywhere, whatever the density.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

Critic = Callable[[jax.Array], jax.Array]  # `[batch, ...]` to `[batch]`


class SpectrogramCritic(nnx.Module):
    """A number for each of `[batch, frames, bins]`: strided convolutions without normalisation.

    The network of the critics of Stoller, Ewert and Dixon 2018 for 64 frames of 256 bins:
    convolutions of 4x4 that halve both axes, until one of them is no longer than 4, then some that
    halve the bins alone; a dense layer of 32 units.
    """

    def __init__(
        self, frames: int = 64, bins: int = 256, width: int = 32, *, rngs: nnx.Rngs
    ) -> None:
        layers, channels, level = [], 1, 0
        while min(frames, bins) > 4:
            out = width * 2**level
            layers.append(nnx.Conv(channels, out, (4, 4), strides=2, padding="SAME", rngs=rngs))
            frames, bins, channels, level = -(-frames // 2), -(-bins // 2), out, level + 1
        while bins > 4:
            layers.append(
                nnx.Conv(channels, channels, (2, 4), strides=(1, 2), padding="SAME", rngs=rngs)
            )
            bins = -(-bins // 2)
        self.convs = nnx.List(layers)
        self.dense = nnx.Linear(frames * bins * channels, 32, rngs=rngs)
        self.last = nnx.Linear(32, 1, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return numbers `[batch]` for `x: [batch, frames, bins]`; high for what is real."""
        x = x[..., None]
        for conv in self.convs:
            x = jax.nn.leaky_relu(conv(x), 0.2)
        x = jax.nn.leaky_relu(self.dense(x.reshape(len(x), -1)), 0.2)
        return self.last(x)[:, 0]


def gradient_penalty(
    critic: Critic, real: jax.Array, fake: jax.Array, share: jax.Array, *, one_sided: bool = True
) -> jax.Array:
    """Return the mean penalty on the length of the critic's gradient between real and fake.

    Args:
        critic: maps `[batch, ...]` to `[batch]`.
        real: `[batch, ...]`.
        fake: shaped like `real`; examples meet in the order given.
        share: of the real example at every point of the mean, `[batch]`, in [0, 1].
        one_sided: penalise lengths above 1 only (Petzka et al. 2018), else any other than 1
            (Gulrajani et al. 2017).
    """
    share = share.reshape(-1, *(1,) * (real.ndim - 1))
    between = share * real + (1 - share) * fake
    gradient = jax.grad(lambda x: critic(x).sum())(between)
    squares = (gradient**2).sum(tuple(range(1, real.ndim)))
    # the derivative of a root has no value at 0
    excess = jnp.sqrt(jnp.maximum(squares, 1e-24)) - 1
    return (jnp.maximum(excess, 0) ** 2 if one_sided else excess**2).mean()


def wasserstein(critic: Critic, real: jax.Array, fake: jax.Array) -> jax.Array:
    """Return the critic's estimate of the Wasserstein distance, E D(real) - E D(fake)."""
    return critic(real).mean() - critic(fake).mean()
