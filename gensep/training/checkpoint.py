"""Training state on disk, through orbax: leaves by path, atomic, resumable."""

import logging
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from gensep.runtime.trees import by_path, from_paths

State = TypeVar("State")


class Checkpoints:
    """The newest states of one run, under `folder`."""

    def __init__(self, folder: Path, keep: int = 1):
        logging.getLogger("absl").setLevel(logging.WARNING)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def save(self, step: int, state: Any) -> None:
        """Save in the background; a kill leaves the last complete one."""
        self._manager.save(step, args=ocp.args.StandardSave(by_path(state)))

    def restore(self, like: State) -> State | None:
        """Give the newest state, or None where there is none, in the structure of `like`."""
        step = self._manager.latest_step()
        if step is None:
            return None
        shapes = jax.eval_shape(lambda: like)
        leaves = self._manager.restore(step, args=ocp.args.StandardRestore(by_path(shapes)))
        # orbax ties arrays to a device, for which everything would be compiled anew, and once more
        # when a leaf is replaced
        return from_paths(like, {path: jnp.array(np.asarray(x)) for path, x in leaves.items()})

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()
