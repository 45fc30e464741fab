"""Training of separators: what is trained, plateaus, warm starts, validation, resumption."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from gensep.representation.magnitude import Spectra
from gensep.runtime.errors import UserError
from gensep.separators.family import Family
from gensep.separators.files import load_separator
from gensep.separators.losses import LOSSES
from gensep.separators.networks import SEPARATORS, settings_of
from gensep.training.loop import train
from gensep.training.optimisers import OPTIMISERS, choose_optimiser, on_plateau
from gensep.training.options import Learning
from gensep.training.separator_task import SeparatorTask

pytestmark = pytest.mark.usefixtures("hasty")

SPECTRA = {"sample_rate": 2000, "n_fft": 32, "hop_length": 16}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Learning):
    loss: str | None = None
    init: str | None = None


class Tiny(nnx.Module):
    """A gain per source, normalised by a running mean of the mixture, which is not trained."""

    def __init__(self, sources):
        self.gains = nnx.Param(jnp.zeros(sources))
        self.mean = nnx.BatchStat(jnp.ones(()))

    def __call__(self, mixture):
        gains = self.gains[...][None, :, None, None, None]
        return gains * mixture[:, None] / jax.lax.stop_gradient(self.mean[...])

    def in_training(self, mixture, key):
        del key
        moved = nnx.clone(self)
        moved.mean[...] = jax.lax.stop_gradient(mixture.mean())
        return moved(mixture), moved


@pytest.fixture
def network(monkeypatch):
    build, compat = lambda s, rngs: Tiny(len(s["sources"])), {"compat": False}
    row = Family(build, SPECTRA, ("a", "b"), "mse", defaults=compat)
    monkeypatch.setitem(SEPARATORS, "tiny", row)


class Examples:
    """Noise; source a is a quarter of the mixture and b the rest. Songs of 100 and 700 frames."""

    sources = ("a", "b")
    spectra = Spectra(**SPECTRA)

    def batch(self, seed, step, size):
        rng = np.random.default_rng([seed, step])
        return rng.uniform(size=(size, 1, 8, 17)).astype(np.float32)

    def inputs(self, key, raw):
        return raw, jnp.stack([0.25 * raw, 0.75 * raw], 1)

    def held_out(self):
        for frames in (100, 700):
            mixture = np.ones((1, 1, frames, 17), np.float32)
            yield mixture, np.stack([0.25 * mixture, 0.75 * mixture], 1)


def options(tmp_path, **changes):
    plain = {"run": str(tmp_path / "run"), "steps": 40, "batch": 4, "validate_every": 20}
    return Options(**plain | {"rate": 0.1, "warmup": 0, "ema": 0.0, "clip": 1e9} | changes)


def make(c, sources=("a", "b")):
    return SeparatorTask(c, Examples(), settings_of("tiny", sources))


def test_training_moves_parameters_and_running_statistics(tmp_path, network):
    c = options(tmp_path, weight_decay=0.1)
    task = make(c)
    state = task.start(jax.random.key(0))
    raw = task.batch(0, slice(None))
    state, row = task.update(jax.random.key(0), state, raw)
    mean = raw.mean()
    np.testing.assert_allclose(state.learner.model.mean[...], mean, rtol=1e-5)
    np.testing.assert_allclose(state.learner.model.gains[...], 0.1, rtol=1e-3)  # a step of Adam
    true = np.stack([0.25 * raw, 0.75 * raw])
    np.testing.assert_allclose(row["loss"], (true**2).mean(), rtol=1e-5)


def test_a_run_finds_the_gains_and_writes_the_separator(tmp_path, network):
    train(c := options(tmp_path, steps=150, validate_every=50), make(c))
    loaded = load_separator(c.run)
    shares = loaded.network.gains[...] / loaded.network.mean[...]
    np.testing.assert_allclose(shares, [0.25, 0.75], atol=0.02)
    assert loaded.sources == ("a", "b")
    assert loaded.about["config"]["steps"] == 150
    folder = tmp_path / "run"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if "valid_loss" in row][-1]
    assert last["valid_ratio_a"] > 20
    assert last["valid_ratio_b"] > 20
    assert (folder / "estimates.png").exists()


def test_validation_weighs_whole_songs_equally(tmp_path, network):
    task = make(options(tmp_path))
    state = task.start(jax.random.key(0))
    found = task.validate(state)
    # 100 frames are one window of 512, 700 are two, padded by silence
    squares = (0.25**2 + 0.75**2) / 2
    wanted = squares * np.mean([100 / 512, 700 / 1024])
    np.testing.assert_allclose(found.score, wanted, rtol=1e-4)
    assert found.row["valid_ratio_a"] == pytest.approx(0, abs=1e-3)


def test_the_published_network_has_the_published_loss(tmp_path, network):
    mixture, sources = map(jnp.asarray, next(Examples().held_out()))
    estimates = -100 * sources  # far from everything: a reward without limit
    c = options(tmp_path, loss="ikala")
    for compat in (False, True):
        settings = settings_of("tiny", ("a", "b"), compat=compat)
        value = SeparatorTask(c, Examples(), settings)._value(estimates, sources, mixture)
        wanted = LOSSES["ikala"](estimates, sources, mixture, compat=compat)
        np.testing.assert_allclose(value, wanted)
    plain = LOSSES["ikala"](estimates, sources, mixture)
    assert abs(wanted - plain) > 1e-3 * plain


def test_one_of_the_sources_alone(tmp_path, network):
    task = make(options(tmp_path), ("b",))
    state = task.start(jax.random.key(0))
    raw = task.batch(0, slice(None))
    _, row = task.update(jax.random.key(0), state, raw)
    np.testing.assert_allclose(row["loss"], (0.75**2 * raw**2).mean(), rtol=1e-5)
    with pytest.raises(UserError, match=r"no source c; they have a, b"):
        make(options(tmp_path), ("c",))


def test_a_warm_start_continues_from_the_weights(tmp_path, network):
    train(c := options(tmp_path), make(c))
    again = make(options(tmp_path, init=c.run, run=str(tmp_path / "second")))
    state = again.start(jax.random.key(0))
    np.testing.assert_array_equal(
        state.learner.model.gains[...], load_separator(c.run).network.gains[...]
    )
    with pytest.raises(UserError, match="ask for the same"):
        make(options(tmp_path, init=c.run), ("a",))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_optimiser_falls_by_its_rate(tmp_path, optimiser):
    c = options(tmp_path, optimiser=optimiser, decay="constant", rate=0.01)
    rule = choose_optimiser(c, lambda model: None)
    weights = jnp.array([1.0, -2.0])
    state = rule.init(weights)
    change, state = rule.update(2 * weights, state, weights)
    assert (np.sign(change) == -np.sign(weights)).all()
    halved = optax.tree.set(state, step_size=jnp.float32(0.5))
    full, _ = rule.update(2 * weights, state, weights)
    half, _ = rule.update(2 * weights, halved, weights)
    np.testing.assert_allclose(half, full / 2, rtol=1e-6)


def test_the_rate_falls_on_plateaus(tmp_path):
    c = options(tmp_path, decay="plateau", plateau=3, cooldown=2, plateau_factor=0.5)
    state = choose_optimiser(c, lambda model: None).init(jnp.zeros(1))
    sizes = []
    for stale in range(17):
        state = on_plateau(c, state, stale)
        sizes.append(float(optax.tree.get(state, "step_size")))
    assert [i for i in range(1, 17) if sizes[i] < sizes[i - 1]] == [4, 10, 16]
    assert sizes[-1] == 0.125
    other = dataclasses.replace(c, decay="constant")
    assert on_plateau(other, state, 4) is state


def test_patience_ends_a_run(tmp_path, network):
    # A rate of zero: no validation after the first is better.
    c = options(tmp_path, rate=0.0, decay="constant", patience=3, steps=1000, validate_every=5)
    state = train(c, make(c))
    assert int(state.step) == 20


@pytest.mark.parametrize("decay", ["cosine", "plateau"])
def test_a_run_in_slices_is_the_run_at_once(tmp_path, network, programs, decay):
    same = {"steps": 6, "validate_every": 1, "save_every": 1, "decay": decay, "plateau": 1}
    whole = options(tmp_path, run=str(tmp_path / "whole"), **same)
    train(whole, make(whole))
    sliced = options(tmp_path, run=str(tmp_path / "sliced"), max_minutes=1e-9, **same)
    for _ in range(whole.steps):
        state = train(sliced, make(sliced))
    assert int(state.step) == 6
    with (
        np.load(tmp_path / "whole/separator.npz") as a,
        np.load(tmp_path / "sliced/separator.npz") as b,
    ):
        for name in set(a.files) - {"header"}:
            np.testing.assert_array_equal(a[name], b[name])
