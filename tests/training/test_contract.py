"""The contract of training: toy tasks that the loop serves without knowing what they train."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gensep.runtime.trees import by_path
from gensep.training.contract import Task, TrainState, Validation, first_state
from gensep.training.loop import Stopping, train
from gensep.training.options import TrainingConfig
from gensep.training.run_folder import read_metrics
from gensep.training.updates import Averaged, ModelTask, make_state, make_update

MEAN = jnp.array([2.0, -1.0])


def options(folder, **changes):
    known = {"steps": 12, "batch": 8, "validate_every": 3, "save_every": 2, "rate": 0.1}
    return TrainingConfig(data="", run=str(folder), **{**known, "warmup": 1, **changes})


def sample(step, rows, size=8):
    """Return rows of a batch of vectors about MEAN, a function of the step."""
    x = np.random.default_rng(step).normal(size=(size, 2)) * 0.1 + np.asarray(MEAN)
    return x.astype(np.float32)[rows]


def folders(path):
    return {file.name for file in path.iterdir()}


# ---- two models, two optimisers


class Players(NamedTuple):
    """A generator and a critic with an optimiser of its own each."""

    generator: jax.Array  # a sample is noise plus this
    critic: jax.Array  # judges x by critic . x - |critic|^2 / 2
    descent: optax.OptState
    ascent: optax.OptState


class Adversaries(Task[Players, np.ndarray]):
    """Two critic updates per generator update, in one compiled program."""

    loss_name = "critic's gap"

    def __init__(self):
        self.descent, self.ascent = optax.adam(0.05), optax.sgd(0.2)
        self.update = jax.jit(self._update, donate_argnums=1)

    def batch(self, step, rows):
        return sample(step, rows, 16)

    def start(self, key):
        generator, critic = jax.random.normal(key, (2, 2))
        return first_state(
            Players(generator, critic, self.descent.init(generator), self.ascent.init(critic))
        )

    @staticmethod
    def gap(generator, critic, key, real):
        fake = generator[None] + 0.1 * jax.random.normal(key, real.shape)
        return (real @ critic).mean() - (fake @ critic).mean() - (critic**2).sum() / 2

    def _update(self, key, state, real):
        p = state.learner
        value, slope = jax.value_and_grad(self.gap, 1)(p.generator, p.critic, key, real)
        change, ascent = self.ascent.update(-slope, p.ascent)
        p = p._replace(critic=p.critic + change, ascent=ascent)

        def move(p):
            slope = jax.grad(self.gap)(p.generator, p.critic, key, real)
            change, descent = self.descent.update(slope, p.descent)
            return p._replace(generator=p.generator + change, descent=descent)

        p = jax.lax.cond(state.step % 3 == 2, move, lambda p: p, p)
        return state._replace(step=state.step + 1, learner=p), {"loss": value}

    def validate(self, state):
        return Validation(float(jnp.abs(state.learner.generator - MEAN).max()), {})

    def finish(self, folder):
        (folder / "finished").touch()


def test_two_optimisers_take_turns_and_training_resumes(tmp_path):
    long = {"steps": 300, "validate_every": 20, "save_every": 50}
    whole, parts = (options(tmp_path / name, **long) for name in ("whole", "parts"))
    task = Adversaries()
    state = train(whole, task)
    assert float(state.best) < 0.1
    assert int(state.learner.descent[0].count) == 100
    assert task.update._cache_size() == 1
    for minutes in (1e-9, 1e-9, 0):
        again = Adversaries()
        other = train(parts, again, Stopping(300, minutes=minutes))
        assert again.update._cache_size() == 1
    for path, leaf in by_path(state).items():
        np.testing.assert_array_equal(by_path(other)[path], leaf, err_msg=path)
    assert read_metrics(tmp_path / "parts") == read_metrics(tmp_path / "whole")
    # a validation that hands over no prior: everything else is there
    assert folders(tmp_path / "whole") == {
        *("best", "checkpoints", "config.toml", "finished", "metrics.jsonl", "run.json"),
        *("tensorboard", "training.png"),
    }


# ---- stopping, learning rates that fall, files


class Told(ModelTask):
    """A model whose validation scores are told beforehand, one per validation."""

    loss_name = "loss"

    def __init__(self, c, scores=()):
        super().__init__(c)
        self.scores, self.finished = scores, 0

    def batch(self, step, rows):
        return sample(step, rows)

    def make_model(self, key):
        return {"w": jnp.zeros(2)}

    def loss(self, model, key, batch):
        return ((batch - model["w"][None]) ** 2).mean()

    def validate(self, state):
        at = int(state.step) // self.c.validate_every - 1
        score = self.scores[at] if self.scores else -float(state.step)
        return Validation(score, {}, texts=(("note.json", json.dumps({"score": score})),))

    def finish(self, folder):
        self.finished += 1


def test_patience_counts_validations_without_improvement(tmp_path):
    scores = (5.0, 4.0, 4.0, 3.0, 3.5, float("nan"), 1.0, 0.0)
    c = options(tmp_path / "run", steps=24)
    task = Told(c, scores)
    state = train(c, task, Stopping(24, patience=2))
    assert int(state.step) == 18  # not 9: there one alone was no better
    assert float(state.best) == 3.0  # what is not a number is no improvement
    assert int(state.stale) == 2
    assert task.finished == 1
    assert json.loads((tmp_path / "run" / "note.json").read_text()) == {"score": 3.0}
    assert folders(tmp_path / "run" / "best") == {"12"}
    # it has ended: the same command does no more updates, and more patience goes on
    assert int(train(c, task, Stopping(24, patience=2)).step) == 18
    assert int(train(c, task, Stopping(24, patience=3)).step) == 24
    patient = Told(options(tmp_path / "patient", steps=24), scores)
    assert int(train(patient.c, patient).step) == 24


def test_patience_is_carried_over_an_interruption(tmp_path):
    c = options(tmp_path / "run", steps=24, save_every=1)
    task = Told(c, (5.0, 6.0, 7.0, 8.0, 9.0, 9.0, 9.0, 9.0))
    for _ in range(7):  # one update each: beyond the second validation
        state = train(c, task, Stopping(24, patience=2, minutes=1e-9))
    assert (int(state.step), int(state.stale), task.finished) == (7, 1, 0)
    state = train(c, task, Stopping(24, patience=2))
    assert (int(state.step), int(state.stale), task.finished) == (9, 2, 1)


class Plateau(Told):
    """Halves its learning rate whenever a validation brings no improvement."""

    def __init__(self, c, scores):
        super().__init__(c, scores)
        self.optimiser = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
        self.inner = make_update(self.loss, self.optimiser, 0.9)

    def start(self, key):
        return make_state(self.make_model(key), self.optimiser)

    def update(self, key, state, batch):
        return self.inner(key, state, batch)

    def validated(self, state: TrainState[Averaged], validation) -> TrainState[Averaged]:
        optimiser = state.learner.optimiser
        rate = optimiser.hyperparams["learning_rate"]
        rate = jnp.where(state.stale > 0, rate / 2, rate)
        optimiser = optimiser._replace(hyperparams={"learning_rate": rate})
        return state._replace(learner=state.learner._replace(optimiser=optimiser))


def test_a_learning_rate_falls_on_a_plateau(tmp_path):
    c = options(tmp_path / "run")
    task = Plateau(c, (4.0, 4.0, 3.0, 3.5))
    state = train(c, task)
    rate = float(state.learner.optimiser.hyperparams["learning_rate"])
    assert rate == pytest.approx(0.025)
    assert task.inner._cache_size() == 1
    w, rate = np.zeros(2), 0.1
    for step in range(12):
        w -= rate * (w - sample(step, slice(None)).mean(0))
        rate /= 2 if step in (5, 11) else 1
    np.testing.assert_allclose(state.learner.model["w"], w, rtol=1e-5)


def test_only_process_0_writes(tmp_path, monkeypatch):
    c = options(tmp_path / "run")
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    task = Told(c)
    state = train(c, task)
    assert int(state.step) == 12
    assert float(state.best) == -12
    assert task.finished == 0
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    state = train(c, task)
    assert int(state.step) == 12
    assert task.finished == 1
    assert (tmp_path / "run" / "note.json").exists()


def test_stopping():
    assert not Stopping(5).finished(4, 100)
    assert Stopping(5).finished(5, 0)
    assert Stopping(5, patience=2).finished(1, 2)
    assert not Stopping(5, patience=2).finished(1, 1)
    assert not Stopping(5).late(0.0)
    assert Stopping(5, minutes=1e-9).late(0.0)
