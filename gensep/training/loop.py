"""The training loop: batches over all devices, validation, stopping; one for every task."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gensep.runtime.devices import all_devices, from_first, on_one
from gensep.training.contract import Batch, Learner, Task, TrainState
from gensep.training.options import Training
from gensep.training.run_folder import RunFolder

LOG_EVERY = 100  # updates between training losses in the log


class Stopping(NamedTuple):
    """When training ends: after so many updates, without progress or, resumable, out of time."""

    steps: int
    patience: int = 0  # validations without improvement in a row; 0: no limit
    minutes: float = 0.0  # of one call of `train`; 0: no limit

    @classmethod
    def of(cls, c: Training) -> "Stopping":
        """Return when a training with these options stops."""
        return cls(c.steps, c.patience, c.max_minutes)

    def finished(self, step: int, stale: int) -> bool:
        """Tell whether no more updates are wanted, `stale` validations after the best one."""
        return step >= self.steps or 0 < self.patience <= stale

    def late(self, began: float) -> bool:
        """Tell whether time is up, as process 0 sees it; `began` is a time.monotonic()."""
        late = self.minutes and from_first(np.array(time.monotonic() - began > 60 * self.minutes))
        return bool(late)


def train(
    c: Training, task: Task[Learner, Batch], stopping: Stopping | None = None
) -> TrainState[Learner]:
    """Train `task` with the options `c` of its command, or go on with the training in `c.run`.

    The batch is dealt over all devices of all processes, and the state is a copy on each. Random
    numbers and losses are those of one device, up to the order of floating-point sums. By default
    training stops where `c` says. Return the last state.

    Raises:
        UserError: if the batch cannot be dealt evenly, or the run folder has other options.
    """
    from tqdm import tqdm

    from gensep.runtime.parallel import prefetch

    began, stopping, devices = time.monotonic(), stopping or Stopping.of(c), all_devices()
    rows, run = devices.rows(c.batch), RunFolder(c)
    state = devices.share(run.restore(task.start(jax.random.key(c.seed))))
    start, stale = int(state.step), int(state.stale)
    ended = stopping.finished(start, stale)
    last = start if ended else stopping.steps
    batches = prefetch(lambda step: task.batch(step, rows), start, last)
    shown = {"unit": "step", "dynamic_ncols": True, "disable": not run.writes}
    bar = tqdm(desc=run.path.name, total=stopping.steps, initial=start, **shown)
    key = jax.random.key(c.seed + 1)
    for step, batch in enumerate(batches, start=start + 1):
        # the key of a step depends on its number only, so that a resumed run draws the same
        state, row = task.update(jax.random.fold_in(key, step - 1), state, devices.deal(batch))
        bar.update()
        if step % LOG_EVERY == 0:
            run.log(step, {name: float(value) for name, value in row.items()})
            bar.set_postfix(loss=f"{float(row['loss']):.4f}")
        if step % c.validate_every == 0 or step == last:
            state = devices.share(_validate(task, run, state, step))
            stale = int(state.stale)
        ended, late = stopping.finished(step, stale), stopping.late(began)
        if step % c.save_every == 0 or ended or late:
            run.save(step, state)
        if late and not ended:
            bar.write(f"stopped at step {step} of {last}; the same command goes on from here")
        if late or ended:
            break
    bar.close()
    run.close(task.loss_name)
    if ended and run.writes:
        task.finish(run.path)
    return state


def _validate(
    task: Task[Learner, Batch], run: RunFolder, state: TrainState[Learner], step: int
) -> TrainState[Learner]:
    """Measure the state, log it, and save it if it is the best so far."""
    found = task.validate(on_one(state))
    score, row = from_first((found.score, found.row))  # whatever follows, all hosts agree on it
    found = found._replace(score=float(score), row={k: float(v) for k, v in row.items()})
    run.log(step, {"valid_loss": found.score, "skipped": int(state.skipped), **found.row})
    better = found.score < float(state.best)
    state = state._replace(
        best=jnp.asarray(found.score if better else state.best, state.best.dtype),
        stale=jnp.asarray(0 if better else state.stale + 1, state.stale.dtype),
    )
    if better:
        run.save_best(step, state, found)
    return task.validated(state, found)
