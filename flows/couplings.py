"""Coupling layers: a part of the elements is mapped with parameters computed from the rest."""

from typing import Self

import jax
import jax.numpy as jnp
from flax import nnx

from flows.bijection import Bijection, Condition, Network, replace, sum_elements
from flows.broadcast import align_last
from flows.transforms import Transform

CHECKERBOARD, CHANNEL = 0, 1  # kinds of masks


class HalfCoupling(Bijection):
    """Map the first half of the channels, given the second (Dinh et al. 2015; Glow)."""

    def __init__(self, channels: int, transform: Transform, net: Network):
        """Build the layer.

        Args:
            channels: number of channels of x, even.
            transform: a transform of `flows.transforms`.
            net: maps (`[..., channels / 2]`, condition) to `[..., channels / 2 * parameters]`.

        Raises:
            ValueError: for an odd number of channels.
        """
        if channels % 2:
            raise ValueError(
                f"expected an even number of channels to couple, got {channels}; squeeze more"
            )
        self.transform, self.net = transform, net

    def _raw(self, given: jax.Array, condition: Condition) -> jax.Array:
        return _with_start(self.net(given, condition), self.transform)

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map the first half."""
        moved, given = jnp.split(x, 2, -1)
        y, slope = self.transform.forward(moved, self._raw(given, condition))
        return jnp.concatenate([y, given], -1), sum_elements(slope)

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Undo `forward`."""
        moved, given = jnp.split(z, 2, -1)
        x, slope = self.transform.inverse(moved, self._raw(given, condition))
        return jnp.concatenate([x, given], -1), sum_elements(slope)

    def initialize(self, x: jax.Array, condition: Condition = None) -> tuple[Self, jax.Array]:
        """Initialise the norms of the network."""
        net = self.net.initialize(jnp.split(x, 2, -1)[1], condition)
        made = replace(self, net=net)
        return made, made.forward(x, condition)[0]


class MaskedCoupling(Bijection):
    """Map the elements where the mask is 0, given those where it is 1 (Dinh et al. 2017, eq. 9).

    y = b x + (1 - b) T(x; net(b x)). The mask b is a checkerboard over positions, or is 1 on the
    first or second half of the channels; `parity` 0 or 1 chooses which half is given. Kind and
    parity are numbers, so that couplings of both kinds can be stacked.
    """

    def __init__(
        self, kind: jax.Array | int, transform: Transform, net: Network, parity: jax.Array | int
    ):
        self.transform, self.net = transform, net
        self.kind = nnx.Variable(jnp.asarray(kind, jnp.float32))
        self.parity = nnx.Variable(jnp.asarray(parity, jnp.float32))

    def mask(self, x: jax.Array) -> jax.Array:
        """Return the mask for x, `[1, H, W, C]`."""
        _, h, w, c = x.shape
        board = ((jnp.arange(h)[:, None] + jnp.arange(w)[None]) % 2)[..., None]
        # rounded, because averaging weights over many steps adds rounding errors
        kind, parity = jax.lax.stop_gradient(
            (jnp.round(self.kind[...]), jnp.round(self.parity[...]))
        )
        half = (jnp.arange(c) >= c // 2)[None, None]
        return jnp.abs(jnp.where(kind == CHANNEL, half, board) - parity)[None]

    def _raw(self, x: jax.Array, mask: jax.Array, condition: Condition) -> jax.Array:
        return _with_start(self.net(mask * x, condition), self.transform)

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map the elements where the mask is 0."""
        mask = self.mask(x)
        y, slope = self.transform.forward(x, self._raw(x, mask, condition))
        return jnp.where(mask == 1, x, y), sum_elements((1 - mask) * slope)

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Undo `forward`."""
        mask = self.mask(z)
        x, slope = self.transform.inverse(z, self._raw(z, mask, condition))
        return jnp.where(mask == 1, z, x), sum_elements((1 - mask) * slope)

    def initialize(self, x: jax.Array, condition: Condition = None) -> tuple[Self, jax.Array]:
        """Initialise the norms of the network."""
        net = self.net.initialize(self.mask(x) * x, condition)
        made = replace(self, net=net)
        return made, made.forward(x, condition)[0]


def _with_start(raw: jax.Array, transform: Transform) -> jax.Array:
    """Return the transform's start plus the network's output as `[..., C, parameters]`."""
    raw = raw.reshape(*raw.shape[:-1], -1, transform.parameters)
    return raw + align_last(jnp.asarray(transform.start), raw)
