"""Work over several devices: one mesh, arrays split along their leading axis."""

from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gensep.runtime.errors import UserError

Tree = TypeVar("Tree")


class Devices(NamedTuple):
    """A mesh of devices, and how arrays lie on them."""

    number: int
    split: NamedSharding  # along the leading axis, whose length `number` divides
    whole: NamedSharding  # a copy on each

    def multiple(self, n: int) -> int:
        """Return the least multiple of the number of devices that is n or more."""
        return -(-n // self.number) * self.number

    def rows(self, n: int) -> slice:
        """Return which rows of a batch of n lie on the devices of this process.

        Raises:
            UserError: if the devices cannot have equally many rows each.
        """
        if n % self.number:
            raise UserError(
                f"{self.number} devices share every batch, so --batch must be a multiple of "
                f"{self.number}, not {n}; give {self.multiple(n)}"
            )
        mine = self.split.addressable_devices_indices_map((n,)).values()
        places = [index[0] for index in mine if index]
        return slice(min(p.start or 0 for p in places), max(p.stop or n for p in places))

    def share(self, tree: Tree) -> Tree:
        """Put a copy on every device; all processes must give the same."""
        return jax.device_put(tree, self.whole)

    def deal(self, tree: Tree) -> Tree:
        """Split arrays among the devices and copy scalars to all; processes give their own rows."""

        def place(x: jax.Array | np.ndarray) -> jax.Array:
            if not np.ndim(x):
                return jax.device_put(x, self.whole)
            return jax.make_array_from_process_local_data(self.split, x)

        return jax.tree.map(place, tree)


def local_devices() -> Devices:
    """Return all devices of this process."""
    return over(jax.local_devices())


def all_devices() -> Devices:
    """Return all devices of all processes, those of each side by side."""
    return over(sorted(jax.devices(), key=lambda device: (device.process_index, device.id)))


def over(devices: list[jax.Device]) -> Devices:
    """Return a mesh of these devices."""
    mesh = Mesh(np.array(devices), ("batch",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("batch"))
    return Devices(len(devices), split, NamedSharding(mesh, PartitionSpec()))


def on_one(tree: Tree) -> Tree:
    """Return the copy on one device of this process of what lies on every device."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def from_first(tree: Tree) -> Tree:
    """Return the numbers of process 0 on every process; all give trees of the same structure."""
    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(tree)
