"""Networks of critics: the one table that knows how each is built."""

from typing import TYPE_CHECKING

from gensep.cli.records import Json

if TYPE_CHECKING:  # commands read the table for their options, without waiting for JAX
    from score import Critic

# name -> class of `score`, built from (features, width, blocks): a raw network of a denoiser
CRITICS = {"conv1d": "Conv1dDenoiser", "unet": "UNet"}


def make_critic(settings: Json, seed: int = 0) -> "Critic":
    """Build an untrained critic, whose logits are 0.

    `settings` of a prior file are `network`, `features` (size of the last axis), `width`, `blocks`,
    and `mean` and `variance` of every feature in the training data.

    Raises:
        KeyError: for a network that is not in the table or a setting that is missing.
    """
    import jax
    import jax.numpy as jnp
    from flax import nnx

    import score

    def build() -> "Critic":
        rngs = nnx.Rngs(seed)
        sizes = (settings[name] for name in ("features", "width", "blocks"))
        net = getattr(score, CRITICS[settings["network"]])(*sizes, rngs=rngs)
        mean, variance = (jnp.asarray(settings[name]) for name in ("mean", "variance"))
        return score.Critic(net, mean, variance, rngs=rngs)

    # under one jit: otherwise every random draw of the initial weights is compiled separately
    return jax.jit(build)()
