"""Coupling layers: one part of the elements is mapped by parameters that the other part gives."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from flows.bijection import Bijection, Condition, replace, sum_elements

CHECKERBOARD, CHANNEL = 0, 1  # kinds of masks


class HalfCoupling(Bijection):
    """The first half of the channels is mapped, given the second (Dinh et al. 2015; Glow)."""

    def __init__(self, channels: int, transform: Any, net: nnx.Module):
        """Couple an even number of `channels`.

        Args:
            channels: of what is coupled.
            transform: a transform of `flows.transforms`.
            net: (`[..., channels / 2]`, condition) -> `[..., channels / 2 * parameters]`.
        """
        if channels % 2:
            raise ValueError(
                f"expected an even number of channels to couple, got {channels}; squeeze more"
            )
        self.transform, self.net = transform, net

    def _raw(self, given: jax.Array, condition: Condition) -> jax.Array:
        return _start(self.net(given, condition), self.transform)  # type: ignore[operator]

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map the first half."""
        moved, given = jnp.split(x, 2, -1)
        y, slope = self.transform.forward(moved, self._raw(given, condition))
        return jnp.concatenate([y, given], -1), sum_elements(slope)

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map it back."""
        moved, given = jnp.split(z, 2, -1)
        x, slope = self.transform.inverse(moved, self._raw(given, condition))
        return jnp.concatenate([x, given], -1), sum_elements(slope)

    def initialize(
        self, x: jax.Array, condition: Condition = None
    ) -> tuple["HalfCoupling", jax.Array]:
        """Set the network's norms."""
        net = self.net.initialize(jnp.split(x, 2, -1)[1], condition)  # type: ignore[attr-defined]
        made = replace(self, net=net)
        return made, made.forward(x, condition)[0]


class MaskedCoupling(Bijection):
    """Elements where the mask is 0 are mapped, given those where it is 1 (Dinh et al. 2017).

    y = b x + (1 - b) T(x; net(b x)). The mask b is a checkerboard over places, or is 1 on the
    first or second half of the channels; `parity` 0 or 1 chooses which half is given. Both are
    numbers, so that couplings of either kind can be stacked.
    """

    def __init__(
        self, kind: jax.Array | int, transform: Any, net: nnx.Module, parity: jax.Array | int
    ):
        self.transform, self.net = transform, net
        self.kind = nnx.Variable(jnp.asarray(kind, jnp.float32))
        self.parity = nnx.Variable(jnp.asarray(parity, jnp.float32))

    def mask(self, x: jax.Array) -> jax.Array:
        """Give the mask for x, `[H, W, C]`."""
        _, h, w, c = x.shape
        board = ((jnp.arange(h)[:, None] + jnp.arange(w)) % 2)[..., None]
        # rounded, as averages of weights over many steps may be off by rounding errors
        kind, parity = jax.lax.stop_gradient(
            (jnp.round(self.kind[...]), jnp.round(self.parity[...]))
        )
        place = jnp.where(kind == CHANNEL, jnp.arange(c) >= c // 2, board)
        return jnp.abs(place - parity)

    def _raw(self, x: jax.Array, mask: jax.Array, condition: Condition) -> jax.Array:
        return _start(self.net(mask * x, condition), self.transform)  # type: ignore[operator]

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map where the mask is 0."""
        mask = self.mask(x)
        y, slope = self.transform.forward(x, self._raw(x, mask, condition))
        return jnp.where(mask == 1, x, y), sum_elements((1 - mask) * slope)

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map it back."""
        mask = self.mask(z)
        x, slope = self.transform.inverse(z, self._raw(z, mask, condition))
        return jnp.where(mask == 1, z, x), sum_elements((1 - mask) * slope)

    def initialize(
        self, x: jax.Array, condition: Condition = None
    ) -> tuple["MaskedCoupling", jax.Array]:
        """Set the network's norms."""
        net = self.net.initialize(self.mask(x) * x, condition)  # type: ignore[attr-defined]
        made = replace(self, net=net)
        return made, made.forward(x, condition)[0]


def _start(raw: jax.Array, transform: Any) -> jax.Array:
    """Give `[..., C, parameters]` from a network's channels, with the transform's start added."""
    return raw.reshape(*raw.shape[:-1], -1, transform.parameters) + transform.start
