"""Multi-scale flows: half of the channels leave at every level under a prior of their own."""

import jax
import jax.numpy as jnp
from flax import nnx

from flows.bijection import Bijection, Condition, replace, sum_elements
from flows.layers import Squeeze
from flows.networks import Conv
from flows.transforms import bounded

BOUND = 4.0  # of a prior's log sd


class SplitPrior(nnx.Module):
    """Standardises what leaves, x_a -> (x_a - mean(x_b)) e^(-ls(x_b)), given what stays.

    To leave with density N(mean, e^(2 ls)) is to be mapped so and leave with N(0, 1): in this way
    a flow of several levels is one bijection onto one standard normal.
    """

    def __init__(
        self,
        leaving: int,
        staying: int,
        kernel: tuple[int, int] = (3, 3),
        embedding: int = 0,
        *,
        rngs: nnx.Rngs,
    ):
        self.conv = Conv(staying, 2 * leaving, kernel, rngs=rngs, zero=True)
        self.film = (
            nnx.Linear(
                embedding,
                2 * leaving,
                use_bias=False,
                rngs=rngs,
                kernel_init=nnx.initializers.zeros,
            )
            if embedding
            else None
        )

    def __call__(self, given: jax.Array, condition: Condition) -> tuple[jax.Array, jax.Array]:
        """Give mean and log sd, each `[batch, H, W, leaving]`."""
        raw = self.conv(given)
        if self.film is not None and condition is not None:
            shift = self.film(condition)
            raw = raw + (shift if shift.ndim == raw.ndim else shift[:, None, None])
        mean, log_sd = jnp.split(raw, 2, -1)
        return mean, bounded(log_sd, BOUND)


class FreePrior(nnx.Module):
    """Mean and log sd of its own for every latent of a fixed shape `[H, W, C]`."""

    def __init__(self, shape: tuple[int, int, int]):
        self.mean = nnx.Param(jnp.zeros(shape))
        self.log_sd = nnx.Param(jnp.zeros(shape))

    def __call__(self, given: jax.Array, condition: Condition) -> tuple[jax.Array, jax.Array]:
        """Give mean and log sd, `[H, W, C]`, whatever is given."""
        return self.mean[...], bounded(self.log_sd[...], BOUND)


class Level(Bijection):
    """Squeeze, steps; then one half leaves under `prior`, the other goes `deeper`.

    What comes out is put together and unsqueezed, so that z is shaped like x. Without `deeper`
    all channels leave: the last level.
    """

    def __init__(
        self, squeeze: Squeeze, steps: Bijection, prior: nnx.Module | None, deeper: Bijection | None
    ):
        self.squeeze, self.steps, self.prior, self.deeper = squeeze, steps, prior, deeper

    def _split(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        leaving = y.shape[-1] if self.deeper is None else y.shape[-1] // 2
        return y[..., :leaving], y[..., leaving:]

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map to latents, shaped like x."""
        y, total = self.steps.forward(self.squeeze.forward(x)[0], condition)
        leaving, staying = self._split(y)
        if self.prior is not None:
            mean, log_sd = self.prior(staying, condition)  # type: ignore[operator]
            leaving = (leaving - mean) * jnp.exp(-log_sd)
            total -= sum_elements(jnp.broadcast_to(log_sd, leaving.shape))
        if self.deeper is not None:
            staying, logdet = self.deeper.forward(staying, condition)
            total += logdet
        return self.squeeze.inverse(jnp.concatenate([leaving, staying], -1))[0], total

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map latents back."""
        leaving, staying = self._split(self.squeeze.forward(z)[0])
        total = jnp.zeros(len(z))
        if self.deeper is not None:
            staying, total = self.deeper.inverse(staying, condition)
        if self.prior is not None:
            mean, log_sd = self.prior(staying, condition)  # type: ignore[operator]
            leaving = leaving * jnp.exp(log_sd) + mean
            total += sum_elements(jnp.broadcast_to(log_sd, leaving.shape))
        y, logdet = self.steps.inverse(jnp.concatenate([leaving, staying], -1), condition)
        return self.squeeze.inverse(y)[0], total + logdet

    def initialize(self, x: jax.Array, condition: Condition = None) -> tuple["Level", jax.Array]:
        """Set the steps, then what lies deeper."""
        steps, y = self.steps.initialize(self.squeeze.forward(x)[0], condition)
        made = replace(self, steps=steps)
        if self.deeper is not None:
            made.deeper, _ = self.deeper.initialize(self._split(y)[1], condition)
        return made, made.forward(x, condition)[0]


def make_prior(
    kind: str,
    shape: tuple[int, int, int],
    staying: int,
    kernel: tuple[int, int],
    embedding: int,
    rngs: nnx.Rngs,
) -> nnx.Module | None:
    """Make the prior of latents of `shape` that leave while `staying` channels go on.

    Args:
        kind: free: numbers of their own, for one size of input; conv: given what stays.
        shape: of what leaves.
        staying: channels; 0 at the last level, where conv needs no prior but an ActNorm.
        kernel: of the convolution.
        embedding: size of the condition.
        rngs: source of parameters.
    """
    if kind not in ("conv", "free"):
        raise ValueError(f"expected a prior conv or free, got '{kind}'")
    if kind == "free":
        return FreePrior(shape)
    return SplitPrior(shape[-1], staying, kernel, embedding, rngs=rngs) if staying else None
