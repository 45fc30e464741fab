"""Flows trained by their commands: resumed bit for bit, likelihoods, prior files, separation."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from basis import Prior, check_levels
from flows import (
    FlowPrior,
    StackedFlowPrior,
    likelihood_and_denoising,
    negative_log_likelihood,
)
from gensep import separate, train_flowpp, train_glow, train_noisy_glow, train_realnvp
from gensep.datasets.kinds import open_examples
from gensep.datasets.spectrograms import write_dataset
from gensep.priors.files import FILE, LoadedPrior, load_prior, save_prior
from gensep.priors.flow_networks import make_flow
from gensep.priors.score_networks import make_denoiser
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.runtime.trees import by_path
from gensep.training.contract import Validation
from gensep.training.flow_pictures import nearest
from gensep.training.flow_task import FlowTask
from gensep.training.noisy_flows import LevelTask
from gensep.training.run_folder import read_metrics
from score import EDM, DenoiserPrior

pytestmark = pytest.mark.usefixtures("hasty", "programs")
BANDS, FRAMES, STEPS = 4, 16, 100
SMALL = Representation(sample_rate=8000, n_fft=256, hop_length=128, n_mels=BANDS, fmax=4000.0)
COMMON = [
    "--batch",
    "8",
    "--levels",
    "3",
    "--valid_windows",
    "16",
    "--validate_every",
    "50",
    "--save_every",
    "50",
    "--warmup",
    "10",
    "--ema",
    "0.9",
    "--width",
    "8",
    "--embedding",
    "8",
    "--denoising",
    "0",
]
IMAGES = ["--data", "digits", *COMMON, "--steps", "4", "--schedule", "none"]
GLOW = [*COMMON, "--frames", str(FRAMES), "--scales", "1", "--depth", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("flows"), np.random.default_rng(0)

    def tracks(n):
        for i in range(n):
            walk = rng.normal(size=(200, BANDS)).cumsum(0) * 80 - 1000
            yield f"track{i}", walk.clip(-6000, 2000).astype(np.int16)

    write_dataset(folder / "data", {"train": tracks(4), "valid": tracks(2)}, SMALL)
    return folder


def arguments(folder, run, *more, steps=STEPS):
    return [
        "--data",
        str(folder / "data"),
        "--run",
        str(folder / run),
        "--steps",
        str(steps),
        *more,
    ]


def state_of(folder, run):
    """Read the last state of a run as it lies on disk, by path."""
    with ocp.CheckpointManager(folder / run / "checkpoints") as manager:
        saved = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())
    return {path: np.asarray(leaf) for path, leaf in saved.items()}


@pytest.fixture(scope="module")
def whole(folder):
    """Train a sigma-conditioned Glow without interruption."""
    train_glow.main(arguments(folder, "whole", *GLOW))
    return state_of(folder, "whole")


def test_a_run_leaves_all_it_should(folder, whole):
    run = folder / "whole"
    assert {p.name for p in run.iterdir()} == {
        "best",
        "checkpoints",
        "config.toml",
        "latents.png",
        "likelihood.json",
        "metrics.jsonl",
        "prior.npz",
        "run.json",
        "samples.png",
        "tensorboard",
        "training.png",
    }
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == [50, 100, 100]
    valid = [row["valid_loss"] for row in rows if "valid_loss" in row]
    assert valid[-1] < valid[0]
    logged = next(row for row in rows if "loss" in row)
    assert logged["gradient_norm"] > 0
    assert logged["log_det_min"] < logged["log_det_max"]
    assert all(row["skipped"] == 0 for row in rows if "skipped" in row)


def test_likelihoods_are_told_in_the_units_of_the_data(folder, whole):
    told = json.loads((folder / "whole" / "likelihood.json").read_text())
    assert told["dequantisation"] == "none: continuous data"
    assert [float(s) for s in told["sigma"]] == pytest.approx([2.5, 0.407, 0.02], rel=0.1)
    for sigma, row in told["sigma"].items():
        assert row["nats_per_dim"] > row["least"]
        assert row["least"] == pytest.approx(0.5 * np.log(2 * np.pi * np.e * float(sigma) ** 2))
        assert row["nats_per_dim_db"] == pytest.approx(row["nats_per_dim"] + np.log(25))


def test_the_prior_file_holds_the_average_and_is_a_prior(folder, whole):
    loaded = load_prior(str(folder / "whole"))
    assert loaded.form == SMALL
    assert isinstance(loaded.prior, Prior)
    check_levels([loaded.prior], [2.5, 0.3, 0.02])
    if loaded.header["about"]["step"] == STEPS:
        for path, leaf in by_path(loaded.prior.density).items():
            np.testing.assert_array_equal(
                leaf, whole[f"learner.average.density.{path}"], err_msg=path
            )
    x = np.random.default_rng(1).normal(size=(2, 32, BANDS)).astype(np.float32)

    @jax.jit
    def run(prior, x):
        return prior.score(x, 0.3), jax.grad(lambda x: prior.log_prob(x, 0.3).sum())(x)

    score, gradient = run(loaded.prior, x)  # also of windows of another length
    low, high = (np.array(loaded.header["settings"][name]) for name in ("low", "high"))
    clean, room = x + 0.09 * np.asarray(gradient), (high - low) / 2
    near = (clean > low - room) & (clean < high + room)  # elsewhere the score leads back
    assert near.mean() > 0.9
    np.testing.assert_allclose(score[near], gradient[near], rtol=1e-3, atol=1e-3)
    assert (loaded.prior.errors > 0).all()
    # the denoiser is better than none where there is much noise
    assert (loaded.prior.errors[0] < 2.5).all()


def test_stopped_and_resumed_ends_bit_for_bit_the_same(folder, whole, monkeypatch):
    monkeypatch.setattr(FlowTask, "finish", lambda self, run: None)
    argv = arguments(folder, "stopped", *GLOW)
    train_glow.main([*argv, "--max_minutes", "1e-9"])
    assert int(state_of(folder, "stopped")["step"]) == 1
    train_glow.main(argv)
    state = state_of(folder, "stopped")
    assert state.keys() == whole.keys()
    for path, leaf in whole.items():
        np.testing.assert_array_equal(state[path], leaf, err_msg=path)
    assert read_metrics(folder / "stopped") == read_metrics(folder / "whole")
    with pytest.raises(UserError, match="started with another layout"):
        train_glow.main([*argv, "--layout", "image"])


def test_a_flow_and_a_network_separate_together(folder, whole):
    """One compiled call, whatever the kinds of the priors."""
    flow = load_prior(str(folder / "whole"))
    net = make_denoiser({"features": BANDS, "width": 8, "blocks": 1})
    table = jnp.full((2, BANDS), 0.3)
    network = LoadedPrior("net", DenoiserPrior(net, jnp.array([2.5, 0.02]), table), SMALL, {})
    rng = np.random.default_rng(0)
    audio = 0.1 * rng.normal(size=(1, 6000)).astype(np.float32)
    settings = {"steps": 2, "samples": 1, "window": 16, "block": 32}
    stems = separate(audio, 8000, priors=[flow, network], **settings)
    assert list(stems) == ["whole", "net"]
    np.testing.assert_allclose(sum(stems.values()), audio, atol=1e-5)
    assert all(np.isfinite(s).all() and np.abs(s).max() > 1e-3 for s in stems.values())


def test_images_plain_and_variational(folder, monkeypatch):
    """RealNVP with a logit and learnt noise between integers: bits per dimension of digits."""
    monkeypatch.setattr(FlowTask, "finish", lambda self, run: None)
    train_realnvp.main(
        [
            *IMAGES,
            "--run",
            str(folder / "realnvp"),
            "--scales",
            "1",
            "--blocks",
            "1",
            "--logit",
            "0.05",
            "--dequantise",
            "variational",
        ]
    )
    rows = read_metrics(folder / "realnvp")
    told = json.loads((folder / "realnvp" / "likelihood.json").read_text())
    assert told["sigma"]["0"]["bits_per_dim"] == rows[-1]["valid_bits_per_dim"]
    assert told["dequantisation"] == "variational"
    # uniform noise over all 256 values has 8
    assert 2 < rows[-1]["valid_bits_per_dim"] < 12
    prior = load_prior(str(folder / "realnvp")).prior
    assert prior.dequantiser is not None
    with pytest.raises(ValueError, match="no level near"):  # it knows of no noise
        check_levels([prior], [0.1])


def test_flowpp_is_trained(folder, monkeypatch):
    monkeypatch.setattr(FlowTask, "finish", lambda self, run: None)
    monkeypatch.setattr(FlowTask, "validate", lambda self, state: Validation(0.0, {}))
    train_flowpp.main(
        [
            *IMAGES,
            "--run",
            str(folder / "flowpp"),
            "--blocks",
            "1",
            "--components",
            "2",
            "--squeeze",
            "4",
        ]
    )
    state = state_of(folder, "flowpp")
    assert int(state["step"]) == 4
    assert int(state["skipped"]) == 0
    moments = [np.abs(leaf).max() for path, leaf in state.items() if ".mu." in path]
    # layers that start at zero hide what lies before them from the first gradients
    moved = sum(m > 0 for m in moments)
    assert moved >= 0.75 * len(moments), (moved, len(moments))
    # four places a side become one: 16 channels, which the 1x1 convolutions mix
    assert {
        leaf.shape[-1]
        for path, leaf in state.items()
        if path.startswith("learner.model.") and path.endswith(".packed")
    } == {1, 16}


def test_noisy_flows_are_fine_tuned_from_small_to_large(folder, monkeypatch):
    monkeypatch.setattr(FlowTask, "finish", lambda self, run: None)
    sizes = {"scales": 1, "depth": 2, "width": 8}
    c = train_glow.Config(
        data=str(folder / "data"), run="", frames=FRAMES, schedule="none", **sizes
    )
    task = FlowTask(c, open_examples(c), "glow")
    density = make_flow(task.settings).density
    (folder / "plain").mkdir()
    save_prior(
        folder / "plain" / FILE,
        "flow",
        FlowPrior(density, jnp.zeros(1), jnp.ones((1, 4))),
        task.settings,
        SMALL,
        config=dataclasses.asdict(c),
    )
    level = LevelTask(c, open_examples(c), load_prior(str(folder / "plain")), 0.3)
    model = level.make_model(jax.random.key(0))
    noise_levels = level._sample(model, jax.random.key(0), level.batch(0, slice(None)))[2]
    np.testing.assert_allclose(noise_levels, np.full(len(noise_levels), 0.3), rtol=1e-6)
    few = ["--run", str(folder / "noisy"), "--steps", "2", "--batch", "8", "--valid_windows", "8"]
    command = [str(folder / "plain"), *few, "--noise_levels", "2", "--sigma_min", "0.05"]
    train_noisy_glow.main(command)
    loaded = load_prior(str(folder / "noisy"))
    assert isinstance(loaded.prior, StackedFlowPrior)
    np.testing.assert_allclose(loaded.prior.sigmas, [1.0, 0.05], rtol=1e-5)
    small, large = (load_prior(str(folder / "noisy" / f"level_{i:02d}")).prior for i in (0, 1))
    for path, leaf in by_path(loaded.prior.densities).items():
        np.testing.assert_array_equal(leaf[1], by_path(small.density)[path])
        np.testing.assert_array_equal(leaf[0], by_path(large.density)[path])

    def apart(a, b):
        pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        return sum(float(((x - y) ** 2).sum()) for x, y in pairs)

    assert 0 < apart(large.density, small.density) < apart(large.density, density)
    with pytest.raises(UserError, match="is not a flow of plain data"):
        train_noisy_glow.main([str(folder / "noisy"), *few])
    with pytest.raises(UserError, match="another sigma_min"):
        train_noisy_glow.main([*command[:-1], "0.1"])


def test_noise_levels_are_each_examples_own(folder):
    c = train_glow.Config(data=str(folder / "data"), run="", frames=FRAMES, plain=0.25)
    task = FlowTask(c, open_examples(c), "glow")
    sigma = np.asarray(task._levels(jax.random.key(0), 4000))
    assert (sigma == 0).mean() == pytest.approx(0.25, abs=0.03)
    noisy = np.log(sigma[sigma > 0])
    assert len(np.unique(noisy)) == len(noisy)
    assert noisy.min() == pytest.approx(np.log(0.02), abs=0.01)
    assert noisy.max() == pytest.approx(np.log(2.5), abs=0.01)
    assert noisy.mean() == pytest.approx(np.log(0.02 * 2.5) / 2, abs=0.1)


def test_the_denoising_loss_is_that_of_the_score(folder, whole):
    """It is the error of x + sigma^2 score, weighted; the likelihood beside it is the same."""
    density = load_prior(str(folder / "whole")).prior.density
    rng = np.random.default_rng(2)
    x, noise = rng.normal(size=(2, 3, FRAMES, BANDS)).astype(np.float32)
    sigma = jnp.array([0.05, 0.5, 2.0])

    @jax.jit
    def run(density):
        nll, logdet, error = likelihood_and_denoising(density, x, noise, sigma)
        s = sigma[:, None, None]
        noisy = x + s * noise
        score = jax.grad(lambda y: density.log_prob(y, sigma).sum())(noisy)
        right = ((noisy + s**2 * score - x) ** 2).mean((1, 2))
        alone = negative_log_likelihood(density, x, noise, sigma)
        return nll, logdet, error, right, alone

    nll, logdet, error, right, alone = run(density)
    np.testing.assert_allclose(
        error, EDM(None, 0.0, density.sd[...]).weight(sigma) * right, rtol=1e-3
    )
    np.testing.assert_allclose((nll, logdet), alone, rtol=1e-4, atol=1e-5)


def test_bad_options_are_refused_in_one_line(folder):
    for words, more in (
        ("plain data: give --schedule none", ["--logit", "0.1"]),
        ("schedule must be one of uniform, lognormal, none", ["--schedule", "x"]),
        ("denoising must be at least 0", ["--denoising", "-1"]),
        ("latents must be one of conv, free", ["--latents", "x"]),
        ("depth must be at least 1", ["--depth", "0"]),
    ):
        with pytest.raises(UserError, match=words) as caught:
            train_glow.main(arguments(folder, "bad", *more))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="multiple of 4"):
        train_flowpp.main(arguments(folder, "bad", "--width", "6"))
    assert not (folder / "bad").exists()


def test_neighbours_are_the_nearest():
    rng = np.random.default_rng(0)
    among = rng.normal(size=(50, 3, 2))
    np.testing.assert_array_equal(nearest(among[[7, 3]] + 0.01, among), among[[7, 3]])
