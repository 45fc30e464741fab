"""Training: killed and resumed bit for bit, refused configs, skipped updates, augmentation."""

import json
import os
import random
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from gensep import train_ncsn
from gensep.datasets.augment import PREROLL, Spread, augment, crop
from gensep.datasets.spectrograms import write_dataset
from gensep.priors.files import load_prior
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.runtime.trees import by_path
from gensep.training import score_task
from gensep.training import updates as updates_of_models
from gensep.training.checkpoint import Checkpoints
from gensep.training.contract import Validation
from gensep.training.run_folder import Log, read_metrics
from gensep.training.updates import make_optimiser, make_state, make_update
from helpers import ROOT

BANDS, STEPS = 8, 40
SMALL = Representation(n_fft=512, hop_length=256, n_mels=BANDS)
TINY = [
    "--batch",
    "4",
    "--frames",
    "16",
    "--width",
    "16",
    "--blocks",
    "1",
    "--levels",
    "3",
    "--valid_windows",
    "8",
    "--steps",
    str(STEPS),
    "--save_every",
    "5",
    "--validate_every",
    "8",
    "--warmup",
    "5",
    "--ema",
    "0.9",
]

# Kills itself while it makes the batch of one step, once a checkpoint is complete.
KILLED = """
import os, re, signal, sys, time
from gensep import train_ncsn
from gensep.training import score_task
run, step = sys.argv[sys.argv.index("--run") + 1], int(sys.argv.pop(1))
batch = score_task.ScoreTask.batch

def deadly(self, at, rows):
    while at >= step:
        folder = run + "/checkpoints"
        if os.path.isdir(folder) and any(re.fullmatch("[0-9]+", n) for n in os.listdir(folder)):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
    return batch(self, at, rows)

score_task.ScoreTask.batch = deadly
train_ncsn.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(0)

    def tracks(n):
        for i in range(n):
            walk = rng.normal(size=(200, BANDS)).cumsum(0) * 80 - 1000
            yield f"track{i}", walk.clip(-6000, 2000).astype(np.int16)

    write_dataset(folder / "data", {"train": tracks(4), "valid": tracks(2)}, SMALL)
    return folder


def arguments(folder, run, *changes):
    return ["--data", str(folder / "data"), "--run", str(folder / run), *TINY, *changes]


def state_of(folder, run):
    """Read the last state of a run as it lies on disk, by path."""
    with ocp.CheckpointManager(folder / run / "checkpoints") as manager:
        saved = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())
    return {path: np.asarray(leaf) for path, leaf in saved.items()}


@pytest.fixture(scope="module")
def whole(folder, programs):
    """Train once without interruption."""
    train_ncsn.main(arguments(folder, "whole"))
    return state_of(folder, "whole")


def test_a_run_leaves_all_it_should(folder, whole):
    run = folder / "whole"
    assert {p.name for p in run.iterdir()} == {
        "best",
        "checkpoints",
        "config.toml",
        "metrics.jsonl",
        "prior.npz",
        "run.json",
        "samples.png",
        "tensorboard",
        "training.png",
    }
    assert int(whole["step"]) == STEPS
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == [8, 16, 24, 32, 40]
    assert all(np.isfinite(row["valid_loss"]) for row in rows)
    assert rows[-1]["valid_loss"] < rows[0]["valid_loss"]
    best = min(rows, key=lambda row: row["valid_loss"])
    assert float(whole["best"]) == pytest.approx(best["valid_loss"])
    loaded = load_prior(str(run))
    assert loaded.header["about"]["step"] == best["step"]
    assert loaded.header["about"]["valid_loss"] == pytest.approx(best["valid_loss"], abs=1e-5)
    assert loaded.form == SMALL
    assert loaded.name == "whole"
    # it is the average that is kept, and what is kept is the best
    if best["step"] == STEPS:
        for path, leaf in by_path(loaded.prior.denoiser).items():
            np.testing.assert_array_equal(leaf, whole[f"learner.average.{path}"])
    x = np.zeros((1, 20, BANDS), np.float32)
    assert np.isfinite(jax.jit(lambda p, x: p.score(x, 0.3))(loaded.prior, x)).all()


def test_training_starts_where_another_prior_ended(folder, whole, programs):
    old = str(folder / "whole")
    train_ncsn.main(arguments(folder, "tuned", "--init", old, "--steps", "1", "--rate", "1e-9"))
    first, second = load_prior(old).header, load_prior(str(folder / "tuned")).header
    assert second["about"]["valid_loss"] == pytest.approx(first["about"]["valid_loss"], abs=1e-4)
    assert second["settings"] == first["settings"]
    with pytest.raises(UserError, match="prior whole has width 16; to start from it, ask for the"):
        train_ncsn.main(arguments(folder, "wide", "--init", old, "--width", "24"))
    assert not (folder / "wide").exists()


@pytest.fixture
def updates(monkeypatch):
    """Collect the updates that trainings compile."""
    made = []
    monkeypatch.setattr(
        updates_of_models,
        "make_update",
        lambda *given: made.append(make_update(*given)) or made[-1],
    )
    return made


def test_killed_and_resumed_ends_bit_for_bit_the_same(folder, whole, programs, updates):
    """SIGKILL at a random step, then a slice of a single step, then the rest."""
    moment = random.randint(8, STEPS - 6)
    argv = arguments(folder, "killed")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(moment), *argv],
        cwd=ROOT,
        env={**os.environ, **programs, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert done.returncode == -9, done.stderr.decode()
    before = [
        int(p.name) for p in (folder / "killed" / "checkpoints").iterdir() if p.name.isdigit()
    ]
    assert before
    assert 0 < max(before) < STEPS, moment
    kept = (folder / "killed" / "config.toml").read_text()
    train_ncsn.main([*argv, "--max_minutes", "1e-9"])  # a matter of this slice alone
    assert (folder / "killed" / "config.toml").read_text() == kept
    assert int(state_of(folder, "killed")["step"]) == max(before) + 1
    train_ncsn.main(argv)
    assert [update._cache_size() for update in updates] == [1, 1]  # as it would be unstopped
    state = state_of(folder, "killed")
    assert state.keys() == whole.keys()
    for path, leaf in whole.items():
        np.testing.assert_array_equal(state[path], leaf, err_msg=f"{path}, killed at {moment}")
    rows, expected = read_metrics(folder / "killed"), read_metrics(folder / "whole")
    assert rows == expected  # no step twice, none missing
    ours, theirs = (load_prior(str(folder / run)).prior for run in ("killed", "whole"))
    for path, leaf in by_path(theirs).items():
        np.testing.assert_array_equal(by_path(ours)[path], leaf, err_msg=path)


def test_a_changed_config_is_refused_naming_the_keys(folder, whole):
    with pytest.raises(UserError, match=r"started with another rate, seed; give") as caught:
        train_ncsn.main(arguments(folder, "whole", "--rate", "2e-3", "--seed", "3"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is no data set"):
        train_ncsn.main(["--data", str(folder), "--run", str(folder / "x")])
    assert not (folder / "x").exists()


# ---- the parts


def quadratic(model, key, batch):
    return ((model["w"] - 3) ** 2).sum() * batch


def test_updates_that_are_not_finite_are_skipped_and_counted():
    optimiser = optax.adam(0.1)
    update = make_update(quadratic, optimiser, 0.9)
    state = make_state({"w": jnp.array([1.0, 2.0])}, optimiser)
    state, row = update(jax.random.key(0), state, 1.0)
    assert float(row["loss"]) == 5.0
    before = jax.tree.map(np.array, state)
    for i, bad in enumerate((np.nan, np.inf, -np.inf)):
        state, row = update(jax.random.key(0), state, bad)
        assert not np.isfinite(row["loss"])
        assert int(state.skipped) == i + 1
        assert int(state.step) == i + 2
        np.testing.assert_array_equal(state.learner.model["w"], before.learner.model["w"])
        for a, b in zip(
            *map(jax.tree.leaves, (state.learner.optimiser, before.learner.optimiser)), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    state, _ = update(jax.random.key(0), state, 1.0)
    assert int(state.skipped) == 3
    assert (np.abs(state.learner.model["w"] - 3) < np.abs(before.learner.model["w"] - 3)).all()
    assert np.isfinite(state.learner.average["w"]).all()


def test_a_finite_loss_with_an_infinite_gradient_is_skipped_too():
    optimiser = optax.sgd(0.1)
    update = make_update(lambda model, key, batch: jnp.sqrt(model["w"]).sum(), optimiser, 0.9)
    state, row = update(jax.random.key(0), make_state({"w": jnp.zeros(2)}, optimiser), None)
    assert float(row["loss"]) == 0
    assert int(state.skipped) == 1
    np.testing.assert_array_equal(state.learner.model["w"], 0)


def test_the_average_warms_up_and_follows():
    optimiser = optax.sgd(0.5)
    update = make_update(quadratic, optimiser, 0.3)
    state, w, average = make_state({"w": jnp.zeros(1)}, optimiser), 0.0, 0.0
    for step in range(8):
        state, _ = update(jax.random.key(0), state, 0.5)
        w -= 0.5 * (w - 3)
        decay = min(0.3, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * w
        assert float(state.learner.model["w"][0]) == pytest.approx(w, rel=1e-5)
        assert float(state.learner.average["w"][0]) == pytest.approx(average, rel=1e-5)


def test_the_rate_warms_up_and_decays_and_gradients_are_clipped():
    optimiser = make_optimiser(1e-2, 100, 10, 1.0)
    state, gradient = optimiser.init(jnp.zeros(2)), jnp.array([300.0, 400.0])
    moves = []
    for _ in range(100):
        change, state = optimiser.update(gradient, state)
        moves.append(float(jnp.abs(change).max()))
    # Adam's steps are the rate when the gradient stays the same
    assert moves[0] == 0
    assert moves[5] == pytest.approx(5e-3, rel=0.01)
    assert max(moves) == pytest.approx(1e-2, rel=0.01)
    assert np.argmax(moves) == 10
    assert moves[-1] < 3e-4
    clip = optax.tree.norm(make_optimiser(1.0, 2, 0, 1.0).init(gradient))
    assert float(clip) == 0


def test_the_best_loss_is_carried_between_validations(folder, programs, updates, monkeypatch):
    seen = []

    def validate(self, state):
        seen.append(float(state.best))
        return Validation(0.5, {})

    monkeypatch.setattr(score_task.ScoreTask, "validate", validate)
    monkeypatch.setattr(score_task.ScoreTask, "finish", lambda self, run: None)
    train_ncsn.main(arguments(folder, "carried"))
    assert seen[0] == np.inf
    assert set(seen[1:]) == {0.5}
    assert updates[0]._cache_size() == 1  # nothing is compiled anew for it


def test_a_resumed_log_forgets_what_came_after(tmp_path):
    log = Log(tmp_path, 0)
    for step in range(1, 6):
        log.write(step, loss=step / 10)
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # cut by a kill
    log = Log(tmp_path, 3)
    log.write(4, loss=9.0)
    log.close()
    assert read_metrics(tmp_path) == [{"step": s, "loss": s / 10} for s in (1, 2, 3)] + [
        {"step": 4, "loss": 9.0}
    ]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    assert read_metrics(tmp_path / "none") == []


def test_checkpoints_keep_every_leaf(tmp_path):
    from flax import nnx

    from gensep.priors.score_networks import make_denoiser

    settings = {"n_mels": 3, "width": 4, "blocks": 2}
    model = make_denoiser(settings, 1)
    assert isinstance(model.net.blocks, nnx.List)  # which orbax alone saves but cannot restore
    state = make_state(model, make_optimiser(1e-3, 10, 2, 1.0))
    state = state._replace(step=jnp.asarray(7), best=jnp.asarray(0.5))
    checkpoints = Checkpoints(tmp_path / "c")
    other = make_state(make_denoiser(settings, 2), make_optimiser(1e-3, 10, 2, 1.0))
    assert checkpoints.restore(other) is None
    checkpoints.save(7, state)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path / "c")
    back = checkpoints.restore(other)
    checkpoints.close()
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for path, leaf in by_path(state).items():
        np.testing.assert_array_equal(by_path(back)[path], leaf, err_msg=path)
        assert by_path(back)[path].dtype == leaf.dtype


# ---- augmentation

PLAIN = Spread(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
FRAMES = 12


@jax.jit
def varied(key, windows, spread):
    return augment(key, windows, FRAMES, spread)


def windows(n=64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-40, 20, (n, FRAMES + 2 * PREROLL, BANDS)).astype(np.float32)


def change_db(**spread):
    """Return augmented over plain power in dB, `[example, frame, band]`."""
    w = windows()
    out = varied(jax.random.key(1), w, PLAIN._replace(**spread))
    return 10 * np.log10(np.asarray(out, np.float64) / np.asarray(crop(w, FRAMES), np.float64))


def test_no_spread_is_the_middle_of_the_window():
    w = windows()
    np.testing.assert_allclose(
        crop(w, FRAMES), 10 ** (w[:, PREROLL : PREROLL + FRAMES] / 10), rtol=1e-5
    )
    np.testing.assert_allclose(change_db(), 0, atol=1e-3)


def test_gain_is_one_factor_an_example():
    change = change_db(gain_low=-9.0, gain_high=-3.0)
    np.testing.assert_allclose(change, change[:, :1, :1] + 0 * change, atol=1e-3)
    gains = change[:, 0, 0]
    assert len(np.unique(gains.round(3))) > 60
    assert (gains > -9.01).all()
    assert (gains < -2.99).all()
    np.testing.assert_allclose(change_db(gain_low=4.0, gain_high=4.0), 4, atol=1e-3)


def test_equaliser_and_tilt_change_bands_and_not_frames():
    for spread in ({"equaliser": 4.0}, {"tilt": 9.0}):
        change = change_db(**spread)
        np.testing.assert_allclose(change, change[:, :1] + 0 * change, atol=1e-3)
        assert change[:, 0].std(1).max() > 0.3
        assert len(np.unique(change[:, 0, 0].round(4))) > 40
    slope = change_db(tilt=9.0)[:, 0]
    np.testing.assert_allclose(np.diff(slope, 2), 0, atol=1e-3)  # straight, and about its middle
    np.testing.assert_allclose(slope[:, 0] + slope[:, -1], 0, atol=1e-3)
    assert np.abs(slope[:, -1] - slope[:, 0]).max() < 2 * 9


def test_a_room_adds_what_came_before_and_only_that():
    click = np.full((64, FRAMES + 2 * PREROLL, BANDS), -120.0, np.float32)
    click[:, PREROLL + 3] = 0
    out = 10 * np.log10(np.asarray(varied(jax.random.key(0), click, PLAIN._replace(room=1.0))))
    assert out[:, :3].max() < -119
    tail = out[:, 4:].mean((0, 2))
    assert tail[0] > -60
    assert (np.diff(tail) < 0).all()
    assert (out[:, 3] <= 1e-3).all()  # what the tail has, the click lacks
    assert (np.diff(out[:, 5] - out[:, 4], axis=1) <= 1e-2).all()  # high bands die sooner
    # the pre-roll is heard too
    click = np.roll(click, -4, axis=1)
    out = 10 * np.log10(np.asarray(varied(jax.random.key(0), click, PLAIN._replace(room=1.0))))
    assert out[:, 0].mean() > -60
    # the energy stays about what it was: windows are neither louder nor softer by much
    steady = np.zeros((64, FRAMES + 2 * PREROLL, BANDS), np.float32)
    out = 10 * np.log10(np.asarray(varied(jax.random.key(0), steady, PLAIN._replace(room=1.0))))
    assert np.abs(out[:, -1]).max() < 2


def test_rooms_and_noise_come_to_their_share_of_the_examples():
    w = np.full((64, FRAMES + 2 * PREROLL, BANDS), -100.0, np.float32)
    w[:, ::5] = 0
    plain = np.asarray(crop(w, FRAMES))
    for name in ("room", "noise"):
        out = np.stack(
            [varied(jax.random.key(k), w, PLAIN._replace(**{name: 0.3})) for k in range(8)]
        )
        share = (np.abs(out - plain).max((2, 3)) > 1e-9).mean()
        assert share == pytest.approx(0.3, abs=0.08), name
    out = np.asarray(varied(jax.random.key(2), w, PLAIN._replace(noise=1.0)))
    added = 10 * np.log10((out - plain)[:, 2:6].mean((1, 2)))  # frames where the window is silent
    assert added.max() < 0
    assert added.min() > -75
    assert added.std() > 3


def test_tempo_stretches_about_the_middle():
    n = FRAMES + 2 * PREROLL
    ramp = np.broadcast_to(np.arange(n)[:, None], (64, n, BANDS)).astype(np.float32)
    out = 10 * np.log10(np.asarray(varied(jax.random.key(0), ramp, PLAIN._replace(stretch=0.25))))
    rates = np.diff(out[..., 0], axis=1)
    np.testing.assert_allclose(rates, rates[:, :1] + 0 * rates, atol=2e-3)
    assert rates.min() >= 1 / 1.25 - 2e-3
    assert rates.max() <= 1.25 + 2e-3
    assert rates[:, 0].std() > 0.05
    np.testing.assert_allclose(out[:, FRAMES // 2, 0], n / 2, atol=2e-2)


def test_variations_depend_on_the_key_and_differ_within_a_batch():
    spread = Spread(-18.0, 8.0, 4.0, 9.0, 0.4, 0.4, 0.15)
    same = np.broadcast_to(windows(1), (64, *windows(1).shape[1:]))
    first, again, other = (np.asarray(varied(jax.random.key(k), same, spread)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.log(first / other)).max() > 0.1
    assert len(np.unique(first[:, 0, 0])) == 64
    assert (first > 0).all()
