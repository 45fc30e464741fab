"""Training state on disk, through orbax: leaves by path, atomic, resumable."""

import logging
import re
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

State = TypeVar("State")


def by_path(tree: Any) -> dict[str, Any]:
    """Give the leaves of a tree by their path, e.g. `model.net.blocks.0.conv.kernel`.

    orbax saves trees that hold an nnx.List but cannot restore them; a flat dict it can. How flax
    spells the array inside a variable is left out, so that files outlive its versions.
    """
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: tuple) -> str:
    words = re.sub(r"\W+", ".", jax.tree_util.keystr(path)).strip(".")
    return re.sub(r"\._?(raw_)?value$", "", words)


def from_paths(like: State, leaves: dict[str, Any]) -> State:
    """Put leaves by path into a tree of the structure of `like`.

    Raises:
        KeyError: where a leaf is missing.
    """
    found = [leaves[path] for path in by_path(like)]
    return jax.tree.unflatten(jax.tree.structure(like), found)


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
