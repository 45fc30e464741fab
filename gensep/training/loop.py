"""What every training command shares: state, update, averaging, loop, logs."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from gensep.cli import config
from gensep.cli.records import describe
from gensep.runtime.errors import UserError
from gensep.runtime.files import write_atomically
from gensep.training.checkpoint import Checkpoints
from gensep.training.log import Log, read_metrics

# loss(model, key, batch) -> scalar, or scalar and a dict of scalars to be logged
Loss = Callable[[Any, jax.Array, Any], Any]

# options that may change between the slices of one run
SLICE_KEYS = {"run", "max_minutes", "save_every", "data_dir", "download"}


class TrainState(NamedTuple):
    """All that training carries from step to step, and a checkpoint holds."""

    step: jax.Array  # []
    model: Any
    average: Any  # exponential moving average of the model
    optimiser: Any
    best: jax.Array  # [], lowest validation loss so far
    skipped: jax.Array  # [], updates left out because they were not finite


def make_optimiser(
    rate: float, steps: int, warmup: int, clip: float, factors: Any = None
) -> optax.GradientTransformation:
    """Adam with warm-up, cosine decay to a hundredth and clipped gradient norm.

    `factors` of the rate, a tree like the model's, are those of its parameters; None is all 1.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, rate, min(warmup, steps // 2), steps, rate / 100
    )
    adam = optax.chain(optax.clip_by_global_norm(clip), optax.adam(schedule, b2=0.99))
    if factors is None:
        return adam
    own = optax.stateless(lambda change, _: jax.tree.map(jnp.multiply, change, factors))
    return optax.chain(adam, own)


def make_state(model: Any, optimiser: optax.GradientTransformation) -> TrainState:
    """Start training `model`."""
    average = jax.tree.map(jnp.array, model)
    # a dtype of their own: numbers without one become another program once they are replaced
    return TrainState(
        jnp.zeros((), int),
        model,
        average,
        optimiser.init(model),
        jnp.full((), jnp.inf, float),
        jnp.zeros((), int),
    )


def make_update(loss: Loss, optimiser: optax.GradientTransformation, decay: float) -> Callable:
    """Make the jitted `update(key, state, batch) -> (state, loss)`.

    An update whose loss or gradient is not finite is counted and skipped. The average warms up:
    its decay is at most (1 + step) / (10 + step). Where the loss comes with a dict, the update
    returns it with the loss and the norm of the gradient added, instead of the loss alone.
    """

    def watched(model, key, batch):
        out = loss(model, key, batch)
        return out if isinstance(out, tuple) else (out, None)

    def update(key, state: TrainState, batch):
        (value, seen), gradient = jax.value_and_grad(watched, has_aux=True)(state.model, key, batch)
        norm = optax.tree.norm(gradient)
        good = jnp.isfinite(value) & jnp.isfinite(norm)
        change, following = optimiser.update(gradient, state.optimiser, state.model)
        model = optax.apply_updates(state.model, change)

        def pick(new, old):
            return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)

        model, following = pick(model, state.model), pick(following, state.optimiser)
        rate = 1 - jnp.minimum(decay, (1 + state.step) / (10 + state.step))
        average = optax.incremental_update(model, state.average, rate)
        out = value if seen is None else {"loss": value, "gradient_norm": norm, **seen}
        return TrainState(
            state.step + 1, model, average, following, state.best, state.skipped + ~good
        ), out

    return jax.jit(update, donate_argnums=1)


class Task(Protocol):
    """What a command trains."""

    loss_name: str  # for the axis of a picture

    def batch(self, step: int) -> Any:
        """Give the raw batch of a step: a pure function of seed and step."""
        ...

    def make_model(self) -> Any:
        """Give the untrained model."""
        ...

    def rates(self, model: Any) -> Any:
        """Give factors of the learning rate, a tree like the model's, or None."""
        ...

    def loss(self, model: Any, key: jax.Array, batch: Any) -> Any:
        """Give what is made small (see `Loss`); traced."""
        ...

    def validate(self, state: TrainState, folder: Path, log: "Log", step: int) -> TrainState:
        """Measure; keep the best in `folder` and in `state.best`."""
        ...

    def finish(self, folder: Path) -> None:
        """Do what is done once, after the last step."""
        ...


def train(c: Any, task: Task) -> TrainState:
    """Train `task` with the options `c` of its command, or go on, to `c.steps`."""
    from tqdm import tqdm

    from gensep.plots.training import plot_training
    from gensep.runtime.parallel import prefetch

    began = time.monotonic()
    folder = Path(c.run)
    _claim(folder, c)
    model = task.make_model()
    optimiser = make_optimiser(c.rate, c.steps, c.warmup, c.clip, task.rates(model))
    checkpoints, best = Checkpoints(folder / "checkpoints"), Checkpoints(folder / "best")
    state = make_state(model, optimiser)
    state = checkpoints.restore(state) or state
    start = int(state.step)
    log = Log(folder, start)
    update = make_update(task.loss, optimiser, c.ema)
    batches = prefetch(task.batch, start, c.steps)
    bar = tqdm(total=c.steps, initial=start, unit="step", desc=folder.name, dynamic_ncols=True)
    key = jax.random.key(c.seed + 1)
    for step, batch in enumerate(batches, start=start + 1):
        # the key of a step depends on its number only, so that a resumed run draws the same
        state, seen = update(jax.random.fold_in(key, step - 1), state, batch)
        bar.update()
        if step % 100 == 0:
            row = seen if isinstance(seen, dict) else {"loss": seen}
            log.write(step, **{name: float(value) for name, value in row.items()})
            bar.set_postfix(loss=f"{float(row['loss']):.4f}")
        if step % c.validate_every == 0 or step == c.steps:
            before, state = float(state.best), task.validate(state, folder, log, step)
            if float(state.best) < before:
                best.save(step, state)
        late = c.max_minutes and time.monotonic() - began > 60 * c.max_minutes
        if step % c.save_every == 0 or step == c.steps or late:
            checkpoints.save(step, state)
        if late and step < c.steps:
            bar.write(f"stopped at step {step} of {c.steps}; the same command goes on from here")
            break
    bar.close()
    checkpoints.close()
    best.close()
    log.close()
    plot_training(folder / "training.png", read_metrics(folder), task.loss_name)
    if int(state.step) == c.steps:
        task.finish(folder)
    return state


def _claim(folder: Path, c: Any) -> None:
    """Write the run's config, or check that a resumed run has the same."""
    path = folder / "config.toml"
    if path.exists():
        old = config.parse(type(c), ["--config", str(path)])
        changed = [
            f.name
            for f in dataclasses.fields(c)
            if f.name not in SLICE_KEYS and getattr(old, f.name) != getattr(c, f.name)
        ]
        if changed:
            raise UserError(
                f"{folder} was started with another {', '.join(changed)}; give the "
                "same values to go on, or another --run to start afresh"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "run.json", describe())
    write_atomically(path, config.to_toml(c))
