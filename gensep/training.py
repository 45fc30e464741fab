"""What every training command shares: state, update, averaging, loop, logs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gensep.runs import write_atomically

# loss(model, key, batch) -> scalar
Loss = Callable[[Any, jax.Array, Any], jax.Array]


class TrainState(NamedTuple):
    """All that training carries from step to step, and a checkpoint holds."""

    step: jax.Array  # []
    model: Any
    average: Any  # exponential moving average of the model
    optimiser: Any
    best: jax.Array  # [], lowest validation loss so far
    skipped: jax.Array  # [], updates left out because they were not finite


def make_optimiser(
    rate: float, steps: int, warmup: int, clip: float
) -> optax.GradientTransformation:
    """Adam with warm-up, cosine decay to a hundredth and clipped gradient norm."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, min(warmup, steps // 2), steps,
                                                  rate / 100)
    return optax.chain(optax.clip_by_global_norm(clip), optax.adam(schedule, b2=0.99))


def make_state(model: Any, optimiser: optax.GradientTransformation) -> TrainState:
    """Start training `model`."""
    average = jax.tree.map(jnp.array, model)
    return TrainState(jnp.asarray(0), model, average, optimiser.init(model), jnp.asarray(jnp.inf),
                      jnp.asarray(0))


def make_update(loss: Loss, optimiser: optax.GradientTransformation, decay: float) -> Callable:
    """Make the jitted `update(key, state, batch) -> (state, loss)`.

    An update whose loss or gradient is not finite is counted and skipped. The average warms up:
    its decay is at most (1 + step) / (10 + step).
    """

    def update(key, state: TrainState, batch):
        value, gradient = jax.value_and_grad(loss)(state.model, key, batch)
        good = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradient))
        change, following = optimiser.update(gradient, state.optimiser, state.model)
        model = optax.apply_updates(state.model, change)

        def pick(new, old):
            return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)

        model, following = pick(model, state.model), pick(following, state.optimiser)
        rate = 1 - jnp.minimum(decay, (1 + state.step) / (10 + state.step))
        average = optax.incremental_update(model, state.average, rate)
        return TrainState(state.step + 1, model, average, following, state.best,
                          state.skipped + ~good), value

    return jax.jit(update, donate_argnums=1)


class Log:
    """`metrics.jsonl` and TensorBoard events of a run; a resumed run forgets what came after."""

    def __init__(self, folder: Path, step: int):
        from tensorboardX import SummaryWriter

        self._path = folder / "metrics.jsonl"
        kept = [row for row in read_metrics(folder) if row["step"] <= step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        write_atomically(self._path, text)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, **values: float) -> None:
        """Append one row."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush the events."""
        self._board.close()


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Give the rows of a run's `metrics.jsonl`; a line cut by a kill is left out."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
