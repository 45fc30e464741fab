"""`python -m gensep.sample`: once for each kind of prior, by seed, and true where that is known."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from basis import full_gaussian
from gensep import sample
from gensep.cli.options import options_of
from gensep.priors import files, score_networks, unconditional
from gensep.representation.image import ImageForm
from gensep.representation.mel import Representation
from gensep.runtime import errors
from score import DenoiserPrior, karras

pytestmark = pytest.mark.usefixtures("hasty")

REP = Representation(n_fft=512, hop_length=256, n_mels=8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a folder with priors of images and of spectrograms: networks that learnt nothing."""
    folder = tmp_path_factory.mktemp("runs")
    for name, form, network, size in (
        ("pictures", ImageForm("digits", 8, 8, 1), "unet", 1),
        ("sounds", REP, "conv1d", 8),
    ):
        settings = {
            "network": network,
            "features": size,
            "width": 8,
            "blocks": 1,
            "levels": 2,
            "sigma_data": 0.3,
            "mean": [0.5] * size,
        }
        like = jax.eval_shape(lambda settings=settings: score_networks.make_denoiser(settings))
        net = jax.tree.map(lambda a: jnp.full(a.shape, 0.01, a.dtype), like)
        net.mean[...], net.sigma_data[...] = jnp.full(size, 0.5), jnp.asarray(0.3)
        prior = DenoiserPrior(net, jnp.array([2.5, 0.02]), jnp.full((2, size), 0.3))
        (folder / name).mkdir()
        files.save_prior(
            folder / name / "prior.npz", "edm", prior, settings, form, config={"frames": 12}
        )
    return folder


@pytest.fixture
def run(runs, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def command(prior, *argv):
        monkeypatch.setattr(sys, "argv", ["sample", str(runs / prior), *map(str, argv)])
        capfd.readouterr()
        code = 0
        try:
            errors.run(sample.main)
        except SystemExit as done:
            code = done.code or 0
        return code, capfd.readouterr().err

    return command


def arrays(folder):
    with np.load(Path(folder) / "samples.npz") as file:
        return file["samples"]


def test_images_are_sampled_again_by_the_same_seed(run):
    quick = ["--n", 5, "--batch", 2, "--steps", 3, "--sampler", "sde"]
    code, said = run("pictures", *quick)
    assert code == 0
    assert "5 samples of pictures in samples/pictures" in said
    first = arrays("samples/pictures")
    assert first.shape == (5, 8, 8, 1)
    assert len({x.tobytes() for x in first}) == 5
    assert sorted(p.name for p in Path("samples/pictures").iterdir()) == [
        "sample.json",
        "samples.npz",
        "samples.png",
    ]
    about = json.loads(record())
    assert about["sigmas"] == pytest.approx(karras(3, 0.02, 2.5, 5.0).tolist(), rel=1e-4)
    assert about["command"].endswith("--n 5 --sampler sde --steps 3 --batch 2")
    assert run("pictures", *quick, "--output", "again/{name}")[0] == 0
    np.testing.assert_array_equal(arrays("again/pictures"), first)
    assert run("pictures", *quick, "--seed", 1, "--output", "other")[0] == 0
    assert (arrays("other") != first).mean() > 0.99


def record():
    return Path("samples/pictures/sample.json").read_text()


def test_spectrograms_are_written_as_waves(run):
    assert run("sounds", "--n", 2, "--steps", 4, "--frames", 20)[0] == 0
    drawn = arrays("samples/sounds")
    assert drawn.shape == (2, 20, 8)
    for i in (1, 2):
        wave, rate = soundfile.read(f"samples/sounds/sample_0{i}.wav")
        assert rate == REP.sample_rate
        assert len(wave) == 19 * 256
        heard = REP.encode(REP.mel_power(jnp.asarray(wave, jnp.float32)))
        assert np.corrcoef(heard.ravel(), drawn[i - 1].ravel())[0, 1] > 0.8
    assert run("sounds", "--n", 1, "--steps", 2, "--audio", "false", "--output", "o")[0] == 0
    assert arrays("o").shape == (1, 12, 8)  # as long as in training
    assert not list(Path("o").glob("*.wav"))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["sounds", "--quality"], "sounds is a prior of spectrograms"),
        (["pictures", "--frames", 8], "pictures is a prior of images"),
        (
            ["sounds", "--corrections", 3],
            "heun has no Langevin steps",
        ),
        (["sounds", "--n", 0], "n must be at least 1, not 0"),
        (["nothing"], "no prior"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(run, argv, words):
    code, said = run(*argv)
    assert code == 2
    assert words in said
    assert said.count("\n") == 1
    assert not list(Path.cwd().iterdir())


def test_the_table_of_samplers_is_what_the_command_offers():
    assert options_of(sample.Config)["sampler"].words == tuple(unconditional.KERNELS)
    assert set(unconditional.CORRECTIONS) < set(unconditional.KERNELS)


def test_a_network_of_fixed_levels_is_asked_there():
    prior = dataclasses.make_dataclass("Prior", ["sigmas"])(np.array([4.0, 0.5]))
    own = [4.0, 2.0, 1.0, 0.5]
    loaded = files.LoadedPrior("x", prior, None, {"settings": {"sigmas": own}})
    assert unconditional.noise_levels(loaded).tolist() == own
    assert unconditional.noise_levels(loaded, 2).tolist() == [4.0, 0.5]
    with pytest.raises(errors.UserError, match="knows 4 noise levels, so --steps must be at most"):
        unconditional.noise_levels(loaded, 5)
    free = loaded._replace(header={"settings": {}})
    assert len(unconditional.noise_levels(free)) == unconditional.NOISE_LEVELS
    assert unconditional.noise_levels(free, 3)[[0, -1]].tolist() == [4.0, 0.5]


# sde takes the mean of x0 for a draw: the shorter its steps, the less is missing
@pytest.mark.parametrize(
    ("name", "levels", "corrections"),
    [("heun", 64, 0), ("predictor-corrector", 64, 2), ("sde", 200, 0), ("langevin", 30, 100)],
)
def test_samples_have_the_moments_of_the_prior(name, levels, corrections):
    """Of a Gaussian everything is known: mean and covariance."""
    sigmas = karras(levels, 0.01, 40.0, 5.0)
    mean, covariance = jnp.array([1.0, -0.5]), jnp.array([[1.0, 0.6], [0.6, 0.5]])
    prior = full_gaussian(mean, covariance, sigmas)
    kernel = unconditional.make_kernel(name, corrections)
    x = np.asarray(unconditional.sample_batch(prior, jax.random.key(0), (4000, 2), sigmas, kernel))
    np.testing.assert_allclose(x.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(x, rowvar=False), covariance, rtol=0.08)
