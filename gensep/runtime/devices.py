"""Work over all local devices: one mesh, batches split along their leading axis."""

from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


class Devices(NamedTuple):
    """All devices of this process, and how arrays lie on them."""

    number: int
    split: NamedSharding  # along the leading axis, whose length `number` divides
    whole: NamedSharding  # everything on each

    def multiple(self, n: int) -> int:
        """Give the least multiple of the number of devices that is n or more."""
        return -(-n // self.number) * self.number

    def share(self, tree: Any) -> Any:
        """Put a copy on every device."""
        return jax.device_put(tree, self.whole)

    def deal(self, tree: Any) -> Any:
        """Split arrays among the devices."""
        return jax.device_put(tree, self.split)


def local_devices() -> Devices:
    """Give all devices of this process."""
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("chain",), axis_types=(AxisType.Auto,), devices=devices)
    return Devices(
        len(devices),
        NamedSharding(mesh, PartitionSpec("chain")),
        NamedSharding(mesh, PartitionSpec()),
    )
