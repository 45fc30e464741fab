"""Log densities by the probability-flow ODE, against densities known in closed form."""

import json
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from basis import (
    Gaussian,
    denoising_bound,
    full_gaussian,
    gaussian_mixture,
    log_likelihood,
    terminal_of,
)
from gensep import likelihood
from gensep.datasets.examples import Request
from gensep.datasets.images import load_images
from gensep.datasets.spectrograms import write_dataset
from gensep.datasets.windows import open_windows
from gensep.priors.files import LoadedPrior, load_prior, save_prior, shipped_names
from gensep.priors.likelihood import fit, floor_of, make_levels, measure
from gensep.priors.score_networks import make_denoiser
from gensep.representation.image import ImageForm
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from helpers import ROOT
from score import DenoiserPrior, karras

pytestmark = pytest.mark.usefixtures("hasty")

LOW, HIGH = 0.05, 5.0


def gaussian(size=8, seed=0):
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(size, size)))[0]
    covariance = axes * np.geomspace(0.02, 2, size) @ axes.T
    return full_gaussian(
        jnp.asarray(rng.normal(size=size)), jnp.asarray(covariance), jnp.asarray([HIGH, LOW])
    )


def levels(steps, low=LOW, high=HIGH):
    return jnp.asarray(karras(steps + 1, low, high), float)


def test_gaussians_are_exact_and_the_error_is_of_second_order():
    """`terminal` is the prior itself, so that the ODE's own error is all that is left."""
    with jax.enable_x64():
        prior = gaussian()
        x = prior.sample(jax.random.key(1), 5)
        errors, told = [], []
        for steps in (32, 64):
            found = log_likelihood(
                prior, jax.random.key(0), x, levels(steps), exact=True, terminal=prior, block=2
            )
            true = prior.log_prob(x, levels(steps)[-1])
            errors.append(np.abs(found.nats - true))
            told.append(found.step_error)
            np.testing.assert_array_equal(found.probe_error, 0)
        assert (errors[1] < 2e-3 * np.abs(true)).all()
        assert 3.5 < errors[0].mean() / errors[1].mean() < 4.5
        assert 0.8 < told[1].mean() / errors[1].mean() < 1.2  # and it knows


def test_probes_are_unbiased_within_their_standard_error():
    prior = gaussian()
    x = prior.sample(jax.random.key(1), 16)
    run = partial(log_likelihood, prior, x=x, sigmas=levels(16))
    found = run(jax.random.key(3), probes=60)
    off = (found.nats - run(jax.random.key(0), exact=True).nats) / found.probe_error
    assert (found.probe_error > 0).all()
    # probes of different examples are independent: 16 draws of a standard normal
    assert abs(off.mean()) < 3 / np.sqrt(16)
    assert 0.4 < (off**2).mean() < 2.2


def test_a_mixture_integrates_to_one_and_has_its_own_density():
    prior = gaussian_mixture(
        jnp.array([0.3, 0.7]),
        jnp.array([[-1.0, 0.5], [0.8, -0.4]]),
        jnp.array([[0.1, 0.3], [0.25, 0.05]]),
        jnp.array([5.0, 0.2]),
    )
    edge = jnp.linspace(-3.6, 3.6, 49)
    grid = jnp.stack(jnp.meshgrid(edge, edge), -1).reshape(-1, 2)
    found = log_likelihood(
        prior, jax.random.key(0), grid, levels(48, low=0.2), exact=True, block=800
    )
    assert abs(float(jnp.exp(found.nats).sum() * (edge[1] - edge[0]) ** 2) - 1) < 0.01
    true = prior.log_prob(grid, 0.2)
    seen = true > -5
    # the default start is the Gaussian of the mixture's moments, right but for its shape
    np.testing.assert_allclose(found.nats[seen], true[seen], atol=0.1)
    mean, variance = prior.moments()
    assert isinstance(terminal_of(prior), Gaussian)
    np.testing.assert_allclose(terminal_of(prior).variance, variance)
    np.testing.assert_allclose(
        mean, 0.3 * np.array([-1, 0.5]) + 0.7 * np.array([0.8, -0.4]), rtol=1e-6
    )
    # a prior that tells nothing of itself starts from noise alone
    assert terminal_of(SimpleNamespace(sigmas=prior.sigmas)).variance == 0


@cache
def network():
    """Return an untrained network: zeros throughout, so its denoiser is that of a Gaussian."""
    mean = np.linspace(-0.5, 0.5, 5).astype(np.float32)
    net = make_denoiser({"features": 5, "width": 8, "blocks": 1, "sigma_data": 0.6, "mean": mean})
    return DenoiserPrior(net, jnp.array([2.0, 0.1]), jnp.ones((2, 5))), Gaussian(mean, 0.36, None)


def test_networks_tell_where_they_start_from():
    prior, same = network()
    start = terminal_of(prior)
    np.testing.assert_allclose(start.mean, same.mean)
    np.testing.assert_allclose(start.variance, 0.36, rtol=1e-6)
    # where a denoiser holds neither, there is noise alone
    assert terminal_of(prior._replace(denoiser=lambda x, sigma: x)).variance == 0


def test_the_bound_is_tight_for_true_scores_and_below_for_others():
    with jax.enable_x64():
        prior, rng = gaussian(), np.random.default_rng(0)
        x = prior.sample(jax.random.key(1), 4000)
        noisy = x + LOW * rng.normal(size=x.shape)
        bound = partial(
            denoising_bound,
            key=jax.random.key(0),
            x=x,
            low=LOW,
            high=HIGH,
            levels=64,
            terminal=prior,
            block=1000,
        )
        found, true = bound(prior), prior.log_prob(noisy, LOW)
        error = np.std(found - true) / np.sqrt(len(x))
        assert abs(np.mean(found - true)) < 4 * error
        wrong = prior._replace(variances=2 * prior.variances)
        worse = np.mean(bound(wrong)) - np.mean(wrong.log_prob(noisy, LOW))
        assert np.mean(bound(wrong)) < np.mean(found) - 10 * error
        assert worse < 3 * error


class Silent(NamedTuple):
    """A prior that keeps its density to itself, as networks do."""

    prior: Any

    @property
    def sigmas(self):
        return self.prior.sigmas

    def score(self, x, sigma):
        return self.prior.score(x, sigma)


def test_fits_are_told_per_dimension_and_stay_above_the_floor():
    prior = gaussian()
    x = np.asarray(prior.sample(jax.random.key(1), 16))
    fitted = partial(fit, levels=make_levels(prior, 17), probes=60)
    for noise in (True, False):
        found = fitted(Silent(prior), x, noise=noise, bound=False)
        true = -prior.log_prob(jnp.asarray(x), LOW).mean() / 8
        assert abs(found.nll.mean() - true) < (0.25 if noise else 0.05)
        assert found.nll.mean() > floor_of(LOW, noise=noise)
        assert 0 < found.probe_error < 0.02
        assert 0 < found.step_error < 0.05
        assert np.isnan(found.bound).all()
    # a point mass, seen with the noise of the density, is at the floor itself
    point = full_gaussian(jnp.zeros(8), jnp.zeros((8, 8)), prior.sigmas)
    found = fitted(Silent(point), 0 * x, noise=True, bound=False)
    assert abs(found.nll.mean() - floor_of(LOW, noise=True)) < 0.2
    assert np.isnan(fitted(prior, x, noise=True, ode=False).nll).all()
    # priors that know their density are asked for it
    own = fitted(prior, x, noise=False, bound=False, block=5)
    np.testing.assert_allclose(own.nll, -prior.log_prob(jnp.asarray(x), LOW) / 8, rtol=1e-5)
    assert own.probe_error == own.step_error == 0


@pytest.mark.parametrize(("count", "sigma"), [(2, None), (9, 0.01), (9, 6.0)])
def test_levels_that_the_prior_does_not_know_are_refused(count, sigma):
    with pytest.raises(UserError, match="expected"):
        make_levels(gaussian(), count, sigma)


def test_shipped_priors_know_their_own_source_best():
    """Of the five priors the source's own fits best, for every source.

    `shipped_windows.npz` holds open_windows(DATA/SOURCE, "valid", 64).batch(0, 0, 4) of the data
    sets that docs/shipped_priors.md tells of, in whole decibels, -30 at the least.
    """
    with np.load(ROOT / "tests/helpers/shipped_windows.npz") as file:
        windows = dict(file)
    assert sorted(windows) == shipped_names()
    loaded = [load_prior(name) for name in windows]
    form = loaded[0].form
    power = 10 ** (np.concatenate(list(windows.values())) / 10.0)
    x = form.encode(jnp.asarray(power, jnp.float32))
    bounds = (
        np.stack(
            [
                denoising_bound(
                    p.prior, jax.random.key(0), x, 0.04, p.prior.sigmas[0], 5, block=len(x)
                )
                for p in loaded
            ]
        )
        .reshape(len(loaded), len(windows), 4)
        .mean(-1)
        / x[0].size
    )
    assert (bounds.argmax(0) == np.arange(len(loaded))).all()
    own = np.diag(bounds).copy()
    np.fill_diagonal(bounds, -np.inf)
    # priors of sounds that are far apart are told apart by far
    assert (own - bounds.max(0))[list(windows).index("piano")] > 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a data set and an untrained prior of 5 bands."""
    path, rng = tmp_path_factory.mktemp("likelihood"), np.random.default_rng(0)
    form = Representation(n_fft=512, hop_length=256, n_mels=5)
    tracks = [("a", rng.integers(-3000, 2000, (40, 5)).astype(np.int16))]
    write_dataset(path / "data", {"valid": tracks, "train": tracks}, form)
    save_prior(
        path / "prior.npz",
        "edm",
        network()[0],
        {"features": 5, "width": 8, "blocks": 1, "levels": 2},
        form,
    )
    return path


def test_command(folder, capsys):
    argv = [
        str(folder / "prior.npz"),
        "--data",
        str(folder / "data"),
        "--examples",
        "6",
        "--frames",
        "8",
        "--levels",
        "17",
        "--probes",
        "16",
        "--output",
        str(folder / "out"),
    ]
    likelihood.main(argv)
    page = (folder / "out" / "likelihood.md").read_text()
    assert capsys.readouterr().out in page
    assert "python -m gensep.likelihood" in page
    (row,) = json.loads((folder / "out" / "likelihood.json").read_text())["rows"]
    assert row["noise"] == "2.50 dB"
    assert row["n"] == 6
    assert row["dimensions"] == 40
    # the untrained network is a Gaussian: its density is known, here in decibels
    windows = open_windows(folder / "data", "valid", 8).batch(0, 0, 6) / 100
    x = (10 * np.log10(10 ** (windows / 10) + 0.01) - 5) / 25
    true = -network()[1].log_prob(x, 0.1).mean() / 40 + np.log(25)
    assert abs(row["nll"]["value"] - true) < 0.1
    assert abs(row["bound"]["value"] - true) < 0.2
    assert np.mean(row["examples"]["nll"]) == pytest.approx(row["nll"]["value"], abs=1e-3)
    np.testing.assert_allclose(row["floor"], np.log(0.1 * 25 * np.sqrt(2 * np.pi * np.e)))
    assert not row["impossible"]


def test_bits_of_integer_pixels():
    """Against the density of dequantised pixels, whose steps are 1 / 256."""
    same = Gaussian(jnp.asarray(0.3), jnp.asarray(0.1), jnp.array([3.0, 0.01]))
    loaded = LoadedPrior("g", same, ImageForm("digits", 8, 8, 1), {"settings": {}})
    measured = partial(measure, data="digits", request=Request(20), levels=65, probes=2)
    row = likelihood.make_row("g", "digits", loaded.form, measured(loaded))
    images, _ = load_images("digits", "test")
    x = jnp.asarray((images + 0.5) / 256, jnp.float32)
    true = -same.log_prob(x, 0.01).mean() / 64 / np.log(2) + 8
    assert row["unit"] == "bits/dim"
    assert row["nll"]["low"] - 0.1 < true < row["nll"]["high"] + 0.1
    assert row["noise"] == "2.56 of 255"
    np.testing.assert_allclose(row["floor"], 8 + 0.5 * np.log2(2 * np.pi * 1e-4))
    # a network of fixed levels is asked at them alone
    known = {"settings": {"sigmas": np.geomspace(3, 0.01, 65).tolist()}}
    fixed = measured(loaded._replace(header=known))
    assert np.isnan(fixed.bound).all()
    assert likelihood.make_row("g", "d", loaded.form, fixed)["bound"]["value"] is None
    assert abs(fixed.nll.mean() - row["nll"]["value"]) < 0.03
    for other in (ImageForm("x", 9, 9, 1), Representation(n_mels=8)):
        with pytest.raises(UserError, match="give the set that it was trained on"):
            measured(loaded._replace(form=other))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected priors and data sets"),
        (["x"], "expected priors and data sets"),
        (["x", "--data", "d"], "no prior 'x'"),
        (["prior.npz", "--data", "d"], "d is no data set"),
        (
            ["prior.npz", "--data", "data", "--split", "test"],
            "no split 'test'; it has valid, train",
        ),
        (["prior.npz", "--data", "data", "--sigma", "9"], "--sigma between 0.1 and 2"),
        (["prior.npz", "--data", "data", "--frames", "0"], "frames must be at least 1"),
    ],
)
def test_bad_input_of_the_command(folder, monkeypatch, argv, message):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=message):
        likelihood.main(argv)


def test_what_cannot_be_is_said():
    row = {
        "prior": "p",
        "data": "d",
        "n": 1,
        "noise": "0.50 dB",
        "unit": "nats",
        "floor": 0.7258,
        "nll": {"value": 0.5, "low": 0.4, "high": 0.6},
        "bound": {"value": None},
        "probe_error": None,
        "step_error": 0.001,
        "impossible": True,
    }
    assert "p on d: less than 0.73 nats is impossible" in likelihood.table([row])
    assert "impossible" not in likelihood.table([row | {"impossible": False}])
