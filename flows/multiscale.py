"""Multi-scale flows: at every level half of the channels leave, under a prior of their own."""

from typing import Protocol, Self

import jax
import jax.numpy as jnp
from flax import nnx

from flows.bijection import Bijection, Condition, replace, sum_elements
from flows.layers import Squeeze, film, over_positions
from flows.networks import Conv
from flows.transforms import bounded

BOUND = 4.0  # largest absolute log standard deviation of a prior


class LatentPrior(Protocol):
    """A Gaussian of the channels that leave, given those that stay."""

    def __call__(self, given: jax.Array, condition: Condition, /) -> tuple[jax.Array, jax.Array]:
        """Return mean and log standard deviation, broadcastable to `[batch, H, W, leaving]`."""
        ...


class SplitPrior(nnx.Module):
    """The prior N(mean(x_b), e^(2 ls(x_b))) of the channels x_a that leave, given x_b that stay.

    `Level` maps x_a to (x_a - mean) e^(-ls), which has the prior N(0, 1): so a flow of several
    levels is one bijection onto one standard normal.
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
        self.film = film(embedding, 2 * leaving, rngs)

    def __call__(self, given: jax.Array, condition: Condition) -> tuple[jax.Array, jax.Array]:
        """Return mean and log standard deviation, each `[batch, H, W, leaving]`."""
        raw = self.conv(given)
        if self.film is not None and condition is not None:
            raw = raw + over_positions(self.film(condition))
        mean, log_sd = jnp.split(raw, 2, -1)
        return mean, bounded(log_sd, BOUND)


class FreePrior(nnx.Module):
    """A prior with a trained mean and log standard deviation for every latent of `[H, W, C]`."""

    def __init__(self, shape: tuple[int, int, int]):
        self.mean = nnx.Param(jnp.zeros(shape))
        self.log_sd = nnx.Param(jnp.zeros(shape))

    def __call__(self, given: jax.Array, condition: Condition) -> tuple[jax.Array, jax.Array]:
        """Return mean and log standard deviation, `[1, H, W, C]`, independent of the arguments."""
        return self.mean[...][None], bounded(self.log_sd[...], BOUND)[None]


class Level(Bijection):
    """Squeeze, steps; then half of the channels leave under `prior`, the others go `deeper`.

    The latents of both halves are concatenated and unsqueezed, so that z is shaped like x. At the
    last level `deeper` is None, and all channels leave.
    """

    def __init__(
        self,
        squeeze: Squeeze,
        steps: Bijection,
        prior: LatentPrior | None,
        deeper: Bijection | None,
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
            mean, log_sd = self.prior(staying, condition)
            leaving = (leaving - mean) * jnp.exp(-log_sd)
            total -= sum_elements(jnp.broadcast_to(log_sd, leaving.shape))
        if self.deeper is not None:
            staying, logdet = self.deeper.forward(staying, condition)
            total += logdet
        return self.squeeze.inverse(jnp.concatenate([leaving, staying], -1))[0], total

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map latents to data."""
        leaving, staying = self._split(self.squeeze.forward(z)[0])
        total = jnp.zeros(len(z))
        if self.deeper is not None:
            staying, total = self.deeper.inverse(staying, condition)
        if self.prior is not None:
            mean, log_sd = self.prior(staying, condition)
            leaving = leaving * jnp.exp(log_sd) + mean
            total += sum_elements(jnp.broadcast_to(log_sd, leaving.shape))
        y, logdet = self.steps.inverse(jnp.concatenate([leaving, staying], -1), condition)
        return self.squeeze.inverse(y)[0], total + logdet

    def initialize(self, x: jax.Array, condition: Condition = None) -> tuple[Self, jax.Array]:
        """Initialise the steps, then the deeper levels."""
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
) -> LatentPrior | None:
    """Return the prior of latents of `shape` that leave while `staying` channels stay.

    Args:
        kind: "conv" computes mean and log standard deviation from the channels that stay; "free"
            trains a pair of them for every latent, which fixes the size of the input.
        shape: shape of the latents that leave, `[H, W, C]`.
        staying: number of channels that stay; 0 at the last level, where "conv" has no prior and
            the caller adds an ActNorm.
        kernel: kernel size of the convolution.
        embedding: size of the condition.
        rngs: random keys of the initial parameters.

    Raises:
        ValueError: for another kind.
    """
    if kind not in ("conv", "free"):
        raise ValueError(f"expected a prior conv or free, got '{kind}'")
    if kind == "free":
        return FreePrior(shape)
    return SplitPrior(shape[-1], staying, kernel, embedding, rngs=rngs) if staying else None
