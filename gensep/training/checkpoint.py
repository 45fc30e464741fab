"""Training states on disk, written by orbax: leaves by path, atomic, resumable."""

import logging
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from gensep.runtime.trees import by_path, from_paths

State = TypeVar("State")


class Checkpoints:
    """The newest states of one run, under `folder`; used by one process alone."""

    def __init__(self, folder: Path, keep: int = 1):
        logging.getLogger("absl").setLevel(logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        own = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own} if jax.process_count() > 1 else None
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            cleanup_tmp_directories=True,
            create=False,
            multiprocessing_options=alone,
        )
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def save(self, step: int, state: object) -> None:
        """Save in the background; if the process is killed, the last complete one stays."""
        # as plain arrays: a state can be restored on another number of devices
        leaves = {path: np.array(leaf) for path, leaf in by_path(state).items()}
        self._manager.save(step, args=ocp.args.StandardSave(leaves))

    def restore(self, like: State) -> State | None:
        """Return the newest state in the structure of `like`, or None if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        shapes = jax.eval_shape(lambda: like)
        leaves = self._manager.restore(step, args=ocp.args.StandardRestore(by_path(shapes)))
        return from_paths(like, {path: jnp.array(np.asarray(x)) for path, x in leaves.items()})

    def close(self) -> None:
        """Wait until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()
