"""What the training loop and a task have agreed on: who does what, and what passes between them.

A task knows its data, models, losses and optimisers, and measures. The loop (gensep.training.loop)
deals batches over all devices, decides which state is best and when to stop, and alone writes
files. Neither knows how the other works, so that a task may train one model or several.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp

from gensep.cli.records import Json
from gensep.priors.files import FILE, save_prior
from gensep.representation.form import Form

if TYPE_CHECKING:
    from basis import Prior

Learner = TypeVar("Learner")
Batch = TypeVar("Batch")
Row = dict[str, jax.Array]  # scalars to be logged


class TrainState(NamedTuple, Generic[Learner]):
    """All that training carries from update to update and a checkpoint holds; a tree of arrays."""

    step: jax.Array  # [], updates done
    learner: Learner  # the task's own part: models, averages, states of optimisers
    best: jax.Array  # [], lowest validation score so far
    skipped: jax.Array  # [], updates left out because they were not finite
    stale: jax.Array  # [], validations since the one with the lowest score


def first_state(learner: Learner) -> TrainState[Learner]:
    """Return the state before the first update."""
    # explicit dtypes: weakly typed scalars change type after one update and recompile it
    none, skipped, stale = (jnp.zeros((), int) for _ in range(3))
    return TrainState(none, learner, jnp.full((), jnp.inf, float), skipped, stale)


class ModelFile(Protocol):
    """A model as the loop writes it when it is the best so far."""

    def write(self, folder: Path, **about: object) -> None:
        """Write the file into a run folder; `about` is JSON: version, step and score."""


class PriorFile(NamedTuple):
    """A prior to be written, see `gensep.priors.files.save_prior`."""

    kind: str
    prior: "Prior"
    settings: Json
    form: Form  # what the examples mean
    about: Json  # how it was made

    def write(self, folder: Path, **about: object) -> None:
        """Write prior.npz."""
        path, (kind, prior, settings, form, own) = folder / FILE, self
        save_prior(path, kind, prior, settings, form, half=False, **about, **own)


class Validation(NamedTuple):
    """What a validation measured, and what is to be saved if its score is the best so far."""

    score: float  # lower is better; one that is not a number is never the best
    row: dict[str, float]  # further numbers for the log
    model: ModelFile | None = None
    texts: tuple[tuple[str, str], ...] = ()  # further files: name and contents


class Task(Protocol[Learner, Batch]):
    """What is trained. Methods without an abstract body may be left as they are."""

    loss_name: str  # label of the axis of loss curves

    def batch(self, step: int, rows: slice) -> Batch:
        """Return some rows of the raw batch of a step, a pure function of the arguments.

        Arrays of numpy, which are dealt over the devices along their leading axis; scalars go to
        all. A job on several hosts asks each for its own rows. Called in threads, ahead of time.
        """
        ...

    def start(self, key: jax.Array) -> TrainState[Learner]:
        """Return the state before the first update, see `first_state`."""
        ...

    def update(
        self, key: jax.Array, state: TrainState[Learner], batch: Batch
    ) -> tuple[TrainState[Learner], Row]:
        """Return the state after one more update (`step` is one more) and a row with "loss".

        It is compiled by the task, see `gensep.training.updates.make_update`, and may use up
        `state`. The state is on every device, the batch is dealt over them.
        """
        ...

    def validate(self, state: TrainState[Learner]) -> Validation:
        """Measure the state, here a copy on one device; neither change nor write anything."""
        ...

    def validated(self, state: TrainState[Learner], validation: Validation) -> TrainState[Learner]:
        """Return the state that training goes on with after a validation, `best` and `stale` set.

        Here, for example, a learning rate falls once `stale` says that there is no progress.
        """
        return state

    def finish(self, folder: Path) -> None:
        """Draw pictures of the best state into the run folder, after the last update."""
