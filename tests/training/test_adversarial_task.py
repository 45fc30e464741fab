"""Semi-supervised training: steps of critics and separator, terms of the loss, resumption."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gensep.representation.magnitude import Spectra
from gensep.separators.networks import settings_of
from gensep.training.adversarial_task import AdversarialTask, Batch
from gensep.training.loop import train
from gensep.training.options import Adversarial
from score import gradient_penalty, wasserstein

pytestmark = pytest.mark.usefixtures("hasty")

SAMPLES, FRAMES = 512, 12
SETTINGS = settings_of(
    "unet",
    ("low", "high"),
    {"sample_rate": 2000, "n_fft": 32, "hop_length": 32},
    width=2,
    blocks=1,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Adversarial):
    loss: str | None = None
    init: str | None = None


def tones(rng, *shape):
    """Tones of two ranges `[..., source, channel, samples]`."""
    time = np.arange(SAMPLES) / 2000
    hertz = rng.uniform((100, 500), (200, 700), (*shape, 2))[..., None, None]
    return (rng.uniform(0.5, 1) * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


class Examples:
    """Paired songs, and unpaired excerpts, made from numbers."""

    sources = ("low", "high")
    spectra = Spectra(**SETTINGS["spectra"])
    steps = 3

    def batch(self, seed, step, size):
        return tones(np.random.default_rng([seed, step]), size)

    def inputs(self, key, raw):
        return self.spectra.magnitudes(raw.sum(1)), self.spectra.magnitudes(raw)

    def held_out(self):
        yield tuple(map(np.asarray, self.inputs(None, jnp.asarray(self.batch(0, 10**6, 1)))))


class Unpaired(Examples):
    def batch(self, seed, step, size):
        rng = np.random.default_rng([seed, step, 1])
        mixtures = tones(rng, size, self.steps + 1).sum(2)
        return {"mixtures": mixtures, "solos": tones(rng, size, self.steps)}


def options(tmp_path, **changes):
    plain = {"run": str(tmp_path / "run"), "steps": 4, "batch": 2, "validate_every": 2}
    plain |= {"save_every": 1, "critic_steps": 3, "critic_width": 2, "critic_frames": FRAMES}
    return Options(**plain | {"warmup": 0, "decay": "constant", "critic_rate": 1e-2} | changes)


def make(c):
    return AdversarialTask(c, Examples(), Unpaired(), SETTINGS)


def test_an_update_is_what_its_parts_say(tmp_path):
    """Three steps of two critics, each with its own Adam, then one of the separator."""
    c = options(tmp_path, alpha=0.3, beta=0.2, ema=0.0)
    task = make(c)
    state = task.start(jax.random.key(0))
    batch = task.batch(0, slice(None))
    key = jax.random.key(5)
    critic_key, separator_key = jax.random.split(key)
    seen = lambda x: jnp.log1p(x[:, 0, 3 : 3 + FRAMES, :-1])  # noqa: E731, the central 12 of 18
    learner = state.learner
    critics = [jax.tree.map(lambda x, i=i: x[i], learner.critics) for i in range(2)]
    rule = optax.adam(1e-2, b1=0.0, b2=0.9)
    rules = [rule.init(critic) for critic in critics]

    @jax.jit
    def loss(critic, real, fake, share):
        gap = wasserstein(critic, real, fake)
        return 10 * gradient_penalty(critic, real, fake, share) - gap

    for k, step_key in enumerate(jax.random.split(critic_key, 3)):
        order_key, share_key = jax.random.split(step_key)
        fakes = learner.model(task.examples.spectra.magnitudes(batch.mixtures[:, k]))
        shares = jax.random.uniform(share_key, (2, 2))
        fakes = jnp.stack([seen(fakes[:, i]) for i in range(2)])
        fakes = jax.random.permutation(order_key, fakes, axis=1)
        for i in range(2):
            real = seen(task.examples.spectra.magnitudes(batch.solos[:, k, i]))
            slope = jax.grad(loss)(critics[i], real, fakes[i], shares[i])
            change, rules[i] = rule.update(slope, rules[i])
            critics[i] = optax.apply_updates(critics[i], change)

    def separator_loss(model):
        mixture, sources = task.examples.inputs(None, jnp.asarray(batch.paired))
        paired = ((jnp.log1p(model(mixture)) - jnp.log1p(sources)) ** 2).mean()
        mixture = task.examples.spectra.magnitudes(batch.mixtures[:, -1])
        out = model(mixture)
        judged = -sum(critics[i](seen(out[:, i])).mean() for i in range(2))
        return paired + 0.3 * judged + 0.2 * ((mixture - out.sum(1)) ** 2).mean()

    value, slope = jax.jit(jax.value_and_grad(separator_loss))(learner.model)
    change, _ = task._optimiser.update(slope, learner.optimiser, learner.model)
    wanted = optax.apply_updates(learner.model, change)
    state, row = task.update(key, state, batch)
    assert int(state.step) == 1
    np.testing.assert_allclose(row["loss"], value, rtol=1e-4)
    assert {"wasserstein_low", "wasserstein_high", "penalty", "paired", "judged"} <= set(row)
    for i in range(2):
        mine = jax.tree.map(lambda x, i=i: x[i], state.learner.critics)
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(critics[i]), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-4)
    for a, b in zip(jax.tree.leaves(state.learner.model), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_a_batch_that_is_not_finite_changes_nothing(tmp_path):
    task = make(options(tmp_path))
    state = task.start(jax.random.key(0))
    before = jax.tree.map(np.array, state.learner)
    batch = task.batch(0, slice(None))
    bad = Batch(*(np.full_like(x, np.nan) for x in batch))
    state, _ = task.update(jax.random.key(0), state, bad)
    assert int(state.skipped) == 1
    for name in ("model", "critics"):
        old, new = (getattr(x, name) for x in (before, state.learner))
        for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_run_in_slices_is_the_run_at_once(tmp_path, programs):
    whole = options(tmp_path, run=str(tmp_path / "whole"), steps=2, validate_every=1)
    train(whole, make(whole))
    sliced = options(tmp_path, run=str(tmp_path / "sliced"), max_minutes=1e-9, steps=2)
    sliced = dataclasses.replace(sliced, validate_every=1)
    for _ in range(whole.steps):
        train(sliced, make(sliced))
    with (
        np.load(tmp_path / "whole/separator.npz") as a,
        np.load(tmp_path / "sliced/separator.npz") as b,
    ):
        for name in set(a.files) - {"header"}:
            np.testing.assert_array_equal(a[name], b[name])
    rows = [json.loads(x) for x in (tmp_path / "sliced/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "valid_loss" in row] == [1, 2]
    assert (tmp_path / "whole/estimates.png").exists()
