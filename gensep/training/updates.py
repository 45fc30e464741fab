"""Updates of one model by one optimiser: what most tasks are made of."""

from collections.abc import Callable
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from gensep.training.contract import Batch, Row, Task, TrainState, first_state
from gensep.training.options import Training

Model = TypeVar("Model")
Tree = TypeVar("Tree")


class Outcome(NamedTuple, Generic[Model]):
    """What a loss may return beside its value."""

    value: jax.Array  # []
    row: Row | None = None  # scalars to be logged
    model: Model | None = None  # the model with running statistics moved by the batch


# loss(model, key, batch) -> scalar, or scalar and more
Loss = Callable[[Model, jax.Array, Batch], jax.Array | Outcome[Model]]
# factors(model) -> factors of the learning rate, a tree like the model's; None: all are 1
Factors = Callable[[Model], Model | None]


class Averaged(NamedTuple, Generic[Model]):
    """A model in training, the average of its weights and the state of its optimiser."""

    model: Model
    average: Model  # exponential moving average
    optimiser: optax.OptState


ModelState = TrainState[Averaged[Model]]
Update = Callable[[jax.Array, ModelState[Model], Batch], tuple[ModelState[Model], Row]]


def make_optimiser(
    rate: float, steps: int, warmup: int, clip: float, factors: Factors = lambda model: None
) -> optax.GradientTransformation:
    """Return Adam with warm-up, cosine decay to a hundredth and clipped gradient norm."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, rate, min(warmup, steps // 2), steps, rate / 100
    )

    def scale(change: optax.Updates, model: Model) -> optax.Updates:
        own = factors(model)
        return change if own is None else jax.tree.map(jnp.multiply, change, own)

    adam = optax.chain(optax.clip_by_global_norm(clip), optax.adam(schedule, b2=0.99))
    return optax.chain(adam, optax.stateless(scale))


def make_state(model: Model, optimiser: optax.GradientTransformation) -> ModelState[Model]:
    """Return the state before the first update of `model`."""
    average = jax.tree.map(jnp.array, model)
    return first_state(Averaged(model, average, optimiser.init(model)))


def make_update(
    loss: Loss[Model, Batch], optimiser: optax.GradientTransformation, decay: float
) -> Update[Model, Batch]:
    """Return the jitted `update(key, state, batch) -> (state, row)`, which uses up the state.

    An update whose loss or gradient is not finite is counted and skipped. The average warms up:
    its decay is at most (1 + step) / (10 + step). The row holds the loss; where the loss returns a
    row of its own, it and the norm of the gradient too. Where it returns a model, weights and
    running statistics are those of that model before they change.
    """

    def measured(
        model: Model, key: jax.Array, batch: Batch
    ) -> tuple[jax.Array, tuple[Row | None, Model | None]]:
        out = loss(model, key, batch)
        out = out if isinstance(out, Outcome) else Outcome(out)
        return out.value, (out.row, out.model)

    def update(
        key: jax.Array, state: ModelState[Model], batch: Batch
    ) -> tuple[ModelState[Model], Row]:
        old = state.learner
        graded = jax.value_and_grad(measured, has_aux=True)
        (value, (own, statistics)), gradient = graded(old.model, key, batch)
        norm = optax.tree.norm(gradient)
        good = jnp.isfinite(value) & jnp.isfinite(norm)
        change, following = optimiser.update(gradient, old.optimiser, old.model)
        current = old.model if statistics is None else statistics
        moved = optax.apply_updates(current, change), following
        model, following = where_finite(good, moved, (old.model, old.optimiser))
        rate = 1 - jnp.minimum(decay, (1 + state.step) / (10 + state.step))
        average = optax.incremental_update(model, old.average, rate)
        row = {"loss": value} if own is None else {"loss": value, "gradient_norm": norm, **own}
        learner, skipped = Averaged(model, average, following), state.skipped + ~good
        return state._replace(step=state.step + 1, learner=learner, skipped=skipped), row

    return jax.jit(update, donate_argnums=1)


def where_finite(good: jax.Array, new: Tree, old: Tree) -> Tree:
    """Return the tree `new` where `good`, a scalar, is true, else `old`."""
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)


class ModelTask(Task[Averaged[Model], Batch], Generic[Model, Batch]):
    """A task of one model, one loss and one optimiser; subclasses say what these are."""

    def __init__(self, c: Training):
        self.c = c

    def make_model(self, key: jax.Array) -> Model:
        """Return the model before training."""
        raise NotImplementedError

    def rates(self, model: Model) -> Model | None:
        """Return factors of the learning rate, a tree like the model's, or None: all are 1."""
        return None

    def loss(self, model: Model, key: jax.Array, batch: Batch) -> jax.Array | Outcome[Model]:
        """Return what is minimised, a scalar, and maybe a row to be logged with it; traced."""
        raise NotImplementedError

    @cached_property
    def _optimiser(self) -> optax.GradientTransformation:
        return make_optimiser(self.c.rate, self.c.steps, self.c.warmup, self.c.clip, self.rates)

    @cached_property
    def _update(self) -> Update[Model, Batch]:
        return make_update(self.loss, self._optimiser, self.c.ema)

    def start(self, key: jax.Array) -> ModelState[Model]:
        """Return the state of the untrained model."""
        return make_state(self.make_model(key), self._optimiser)

    def update(
        self, key: jax.Array, state: ModelState[Model], batch: Batch
    ) -> tuple[ModelState[Model], Row]:
        """Return the state after one more update, and the loss."""
        return self._update(key, state, batch)
