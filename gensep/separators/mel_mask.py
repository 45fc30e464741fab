"""The supervised rival of the priors: their network body, trained to estimate masks of mel bands.

It sees the mel decibels that the priors see, of the mixture, and gives the share of every source in
every bin. The masks add up to 1.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from gensep.representation.mel import Representation
from score import Conv1dDenoiser


class MelMask(nnx.Module):
    """Masks of `sources` sources from mel decibels, by the network body of `score.Conv1dDenoiser`.

    The body is told a noise level of 1 everywhere. Its masks depend on the level of the mixture,
    which should be near `form.level_db`.
    """

    def __init__(
        self, form: Representation, sources: int, width: int, blocks: int, *, rngs: nnx.Rngs
    ):
        self.form, self.sources = form, sources
        outputs = sources * form.n_mels
        self.body = Conv1dDenoiser(form.n_mels, width, blocks, outputs=outputs, rngs=rngs)

    @property
    def reach(self) -> int:
        """Frames on either side of a frame that its masks depend on."""
        return 2 + sum(block.dilation for block in self.body.blocks)  # one tap at either end

    def masks(self, power: jax.Array) -> jax.Array:
        """Return masks `[batch, source, frame, mel]` for mel power `[batch, frame, mel]`."""
        x = self.form.encode(power, self.sources)
        raw = self.body(x, jnp.zeros(len(x)))
        raw = raw.reshape(*x.shape[:-1], self.sources, self.form.n_mels)
        return jax.nn.softmax(jnp.moveaxis(raw, -2, 1), axis=1)

    def __call__(self, mixture: jax.Array) -> jax.Array:
        """Return magnitudes `[batch, source, 1, frame, bin]` for `mixture: [batch, 1, frame, bin]`.

        The transform of the mixture must be that of the form.
        """
        form = self.form
        bank = form.filterbank(form.sample_rate, form.n_fft)
        power = jnp.matmul(mixture[:, 0] ** 2, bank.T, precision="highest")
        spread = form.spread(form.sample_rate, form.n_fft)
        masks = jnp.matmul(self.masks(power), spread, precision="highest")
        return masks[:, :, None] * mixture[:, None]
