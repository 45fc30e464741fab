"""Images mixed, separated and scored: against closed forms, and the command on real digits."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from basis import (
    Gaussian,
    Prior,
    daps_pc,
    full_gaussian,
    implausibility,
    langevin,
    mmps_draws,
    sample,
    surprise,
)
from basis.rotated import Rotated, sum_and_differences
from gensep import basis, basis_images
from gensep.datasets.images import load_images
from gensep.images.mixtures import MIXES, Chosen, choose
from gensep.images.run import MixedImages, estimate_sources, measure, psnr_of
from gensep.images.separation import Separated, align, separate_images, weigh
from gensep.images.settings import IMAGE_PRESETS, ImageSettings, make_image_settings
from gensep.priors.files import save_prior
from gensep.priors.score_networks import make_denoiser
from gensep.representation.image import PIXEL_VALUES, ImageForm
from gensep.runtime.errors import UserError
from gensep.runtime.trees import by_path, from_paths
from gensep.separation.judges import JUDGES
from score import DenoiserPrior, karras

pytestmark = pytest.mark.usefixtures("hasty")

RNG = np.random.default_rng


def images(*shape, seed=0):
    return RNG(seed).uniform(0, 1, shape).astype(np.float32)


def flat(mean=0.4, variance=0.09):
    """Give a prior of independent pixels."""
    return Gaussian(jnp.asarray(mean), jnp.asarray(variance), jnp.asarray([10.0, 0.01]))


# --- colour: a map that mixes channels as one that hides coordinates


def test_axes_are_orthonormal_and_the_first_is_the_mean():
    for channels in (1, 3, 4):
        axes = np.asarray(sum_and_differences(channels))
        np.testing.assert_allclose(axes @ axes.T, np.eye(channels), atol=1e-6)
        np.testing.assert_allclose(axes[0], np.full(channels, channels**-0.5), rtol=1e-6)


def test_a_rotated_prior_is_the_prior_of_rotated_data():
    factor, rng = RNG(0).normal(size=(3, 3)), RNG(1)
    prior = full_gaussian(
        jnp.asarray(rng.normal(size=3)), jnp.asarray(factor @ factor.T), jnp.array([10.0, 0.01])
    )
    axes = sum_and_differences(3)
    same = full_gaussian(axes @ prior.mean(), axes @ prior.covariance() @ axes.T, prior.sigmas)
    rotated, y = Rotated(prior, axes), jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)
    np.testing.assert_allclose(rotated.score(y, 0.3), same.score(y, 0.3), rtol=1e-3, atol=1e-3)
    # errors of equal size in all channels are the same in all directions
    plain = Rotated(flat(), axes)
    np.testing.assert_allclose(plain.spread(0.3), flat().spread(0.3), rtol=1e-6)
    assert isinstance(rotated, Prior)


@pytest.mark.parametrize("kernel", [mmps_draws(4, 4), langevin(40, 0.1), daps_pc("tweedie", 2)])
def test_colours_have_the_posterior_given_their_mean(kernel):
    """For correlated channels all of x is Gaussian given its channels' mean."""
    covariance = np.array([[0.09, 0.05, 0.02], [0.05, 0.08, 0.03], [0.02, 0.03, 0.06]])
    mean, tau, ones = np.array([0.5, 0.4, 0.3]), 0.05, np.ones(3) / 3
    prior = full_gaussian(jnp.asarray(mean), jnp.asarray(covariance), jnp.array([10.0, 0.01]))
    grey, n = 0.7, 3000
    mixture = MIXES["grey"].observe(np.full((1, n, 1, 1, 3), grey, np.float32))
    problem = MIXES["grey"].problem((prior,), jnp.asarray(mixture[:, 0, 0]), tau)
    drawn, _ = jax.jit(lambda key, p: sample(kernel, key, p, jnp.asarray(karras(24, 0.02, 2.0))))(
        jax.random.key(0), problem
    )
    x = MIXES["grey"].images(np.asarray(drawn))[0]
    gain = covariance @ ones / (ones @ covariance @ ones + tau**2)
    np.testing.assert_allclose(x.mean(0), mean + gain * (grey - mean.mean()), atol=0.02)
    np.testing.assert_allclose(
        np.cov(x.T), covariance - np.outer(gain, ones @ covariance), atol=0.008
    )


# --- mixing and choosing


@pytest.mark.parametrize("name", MIXES)
def test_what_is_observed_is_the_problem_of_the_true_sources(name):
    mix = MIXES[name]
    true = images(mix.sources, 4, 2, 2, 3)
    mixture = mix.observe(true)
    problem = mix.problem((flat(),) * mix.sources, jnp.asarray(mixture), 0.1)
    axes = np.asarray(sum_and_differences(3))
    inner = true @ axes.T if name == "grey" else true
    np.testing.assert_allclose(mix.images(inner), true, atol=1e-6)
    seen = np.broadcast_to(np.asarray(problem.variance) < 1e6, mixture.shape)
    np.testing.assert_allclose(problem.mixing(jnp.asarray(inner))[seen], mixture[seen], atol=1e-6)
    assert seen.mean() == pytest.approx(1 / 3 if name == "grey" else 1)
    expected = {"average": true.mean(0), "sum": true.sum(0), "grey": true[0]}[name]
    if name == "grey":
        expected = np.repeat(expected.mean(-1, keepdims=True), 3, -1)
    np.testing.assert_allclose(mix.unprocessed(mixture)[0], expected, atol=1e-6)
    assert len(mix.unprocessed(mixture)) == mix.sources
    assert 0 <= mix.picture(mixture).min() <= mix.picture(mixture).max() <= 1
    # noise of tau on the grey value is noise of tau on what the problem observes
    if name == "grey":
        np.testing.assert_allclose(problem.variance[0], 3 * 0.1**2, rtol=1e-6)


def test_images_are_chosen_by_class_and_never_meet_themselves():
    pictures = np.arange(11, dtype=np.uint8)[:, None, None, None]
    labels = np.arange(11) % 10
    free = choose(pictures, labels, 2, 5, 0, split=False)
    assert len(set(free.places.ravel())) == 10
    np.testing.assert_array_equal(free.labels, labels[free.places])
    np.testing.assert_allclose(free.truth[..., 0, 0, 0], (free.places + 0.5) / PIXEL_VALUES)
    np.testing.assert_array_equal(
        choose(pictures, labels, 2, 3, 0, split=False).places, free.places[:, :3]
    )
    many = choose(pictures, labels, 2, 40, 0, split=False)
    assert (many.places[0] != many.places[1]).all()
    assert len(set(many.places.ravel())) == 11
    apart = choose(pictures, labels, 2, 40, 1, split=True)
    assert apart.labels[0].max() == 4
    assert apart.labels[1].min() == 5
    assert len(set(apart.labels[0])) == len(set(apart.labels[1])) == 5
    assert not np.array_equal(
        apart.places[:, :5], choose(pictures, labels, 2, 5, 2, split=True).places
    )
    with pytest.raises(UserError, match="too few"):
        choose(pictures[:1], labels[:1], 2, 1, 0, split=False)


# --- scores


def mixed(n=6, names=("p", "p"), mix="average"):
    true = 0.2 + 0.6 * images(len(names), n, 8, 8, 1)
    places = np.zeros((len(names), n), int)
    return MixedImages(
        MIXES[mix],
        Chosen(true, places, places),
        MIXES[mix].observe(true),
        names,
        (flat(),) * len(names),
    )


def test_psnr_counts_the_best_order_only_where_sources_share_a_prior():
    one, other = mixed(), mixed(names=("p", "q"))
    wrong = one.chosen.truth + 10 / PIXEL_VALUES
    np.testing.assert_allclose(psnr_of(one, wrong), 20 * np.log10(25.5), rtol=1e-4)
    np.testing.assert_allclose(psnr_of(one, wrong[::-1]), psnr_of(one, wrong), rtol=1e-6)
    turned = psnr_of(other, other.chosen.truth[::-1])
    assert (turned < 20).all()
    assert np.isinf(psnr_of(one, one.chosen.truth[::-1])).all()
    # what no pixel can be is not held against an estimate
    black = one._replace(chosen=one.chosen._replace(truth=0 * wrong + 0.5 / PIXEL_VALUES))
    assert np.isinf(psnr_of(black, 0 * wrong - 3)).all()


def test_samples_are_put_in_one_order_before_they_are_averaged():
    one = mixed(n=5)
    true = one.chosen.truth
    samples = true + 0.05 * RNG(1).normal(size=(8, *true.shape)).astype(np.float32)
    for i, draw in enumerate(samples):
        draw[:, i % 5] = draw[::-1, i % 5]
    aligned = align(samples)
    np.testing.assert_array_equal(aligned[0], samples[0])
    assert np.abs(aligned - aligned[0]).max() < 0.5
    found = Separated(samples, np.full((8, 5), 1 / 8), np.zeros((8, 5)), 0, 0, 0.0, 0.0)
    scores = measure(one, estimate_sources(one, found))
    # eight independent errors: 9 dB less
    assert abs((scores.mean - scores.sample).mean() - 9) < 1.5
    other = one._replace(names=("p", "q"))
    unordered = measure(other, estimate_sources(other, found))
    assert unordered.mean[1:].mean() < scores.mean[1:].mean() - 5
    np.testing.assert_allclose(scores.mixture, psnr_of(one, np.stack([one.mixture] * 2)))


# --- sampling


def test_images_of_independent_pixels_are_sampled_exactly():
    """x_k given their average: mean m and, less the noise of m, half the variance of x."""
    settings = ImageSettings(
        sampler="mmps-draws",
        steps=12,
        samples=40,
        sigma_max=3.0,
        sigma_min=0.01,
        rho=7.0,
        tau=0.02,
        judges=(),
    )
    mixture = images(3, 4, 4, 1)
    seen = []
    found = separate_images(
        MIXES["average"], (flat(), flat()), mixture, settings, seen.append, batch=50
    )
    assert found.samples.shape == (40, 2, 3, 4, 4, 1)
    assert sum(seen) == 120
    assert (found.forwards, found.vjps) == (12 * 40, 12 * 8 * 40)
    gain = 0.5 * 0.09 / (0.5 * 0.09 + 0.02**2)
    expected = 0.4 + gain * (mixture - 0.4)
    error = np.sqrt(0.09 / 2 / 40)
    assert np.abs(found.samples.mean(0) - expected).max() < 4.5 * error
    assert found.samples.std(0).mean() == pytest.approx(np.sqrt(0.09 / 2), rel=0.05)
    assert np.sqrt((found.residual**2).mean()) < 0.03
    # a mixture's samples depend on nothing that stands beside it
    alone = separate_images(
        MIXES["average"],
        (flat(), flat()),
        mixture[:2],
        dataclasses.replace(settings, samples=25),
        batch=50,
    )
    assert alone.compile_seconds < 0.1 < found.compile_seconds  # the program is there already
    np.testing.assert_allclose(alone.samples, found.samples[:25, :, :2], atol=1e-4)


def test_samples_are_judged_where_they_were_sampled():
    """The weights are those of `implausibility` and `surprise` of the samples of every mixture."""
    mixture = images(3, 4, 4, 1)
    shown = dict(steps=3, sampler="mmps", sigma_min=0.2, samples=4, seed=1)
    for judge, measured in (("evidence", implausibility), ("likelihood", surprise)):
        settings = ImageSettings(judge=judge, judges=(0.5, 0.3), **shown)
        found = separate_images(MIXES["sum"], (flat(), flat(0.3)), mixture, settings)
        key, levels = jax.random.key(1), jnp.array([0.5, 0.3])
        expected = jnp.stack(
            [measured((flat(), flat(0.3)), key, jnp.asarray(x), levels) for x in found.samples]
        )
        np.testing.assert_allclose(found.weights, weigh(expected, settings), atol=1e-4)
        assert found.weights.std() > 0.01
        assert found.forwards == 4 * (3 + 2)
    for same in (dict(judge="none"), dict(temperature=np.inf), dict(judges=())):
        equal = separate_images(
            MIXES["sum"], (flat(), flat(0.3)), mixture, ImageSettings(**shown, **same)
        )
        np.testing.assert_array_equal(equal.weights, np.full((4, 3), 0.25))
        np.testing.assert_allclose(equal.samples, found.samples, atol=1e-6)
        assert equal.forwards == 4 * 3


def test_judges_of_images():
    own = ImageSettings(judge="likelihood", samples=2)  # without levels it takes those of the row
    assert own.weighting == JUDGES["likelihood"].images != ImageSettings().weighting
    assert ImageSettings().weighed
    assert not ImageSettings(judge="likelihood", judges=(), samples=2).weighed
    assert not ImageSettings(samples=1).weighed
    with pytest.raises(UserError, match="^judge must be one of evidence, likelihood, none "):
        ImageSettings(judge="denoising")
    with pytest.raises(UserError, match="^expected a temperature >= 0 and judges at"):
        ImageSettings(judges=(0.0,))
    with pytest.raises(UserError, match="needs priors that know their density"):
        separate_images(MIXES["average"], (object(),) * 2, images(2, 4, 4, 1), own)


def test_levels_beyond_the_prior_are_refused():
    with pytest.raises(UserError, match="no level near sigma=20"):
        separate_images(
            MIXES["sum"], (flat(), flat()), images(1, 2, 2, 1), ImageSettings(sigma_max=20.0)
        )
    with pytest.raises(UserError, match="sigma_min <= sigma_max"):
        ImageSettings(sigma_max=0.001)


# --- the command


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    """Give the file of an untrained network of 8 x 8 pixels: a Gaussian of independent pixels."""
    path = tmp_path_factory.mktemp("prior") / "prior.npz"
    settings = {
        "network": "unet",
        "features": 1,
        "width": 8,
        "blocks": 1,
        "levels": 2,
        "mean": [0.3],
        "sigma_data": 0.4,
    }
    like = jax.eval_shape(
        lambda: DenoiserPrior(make_denoiser(settings), jnp.zeros(2), jnp.zeros((2, 1)))
    )
    leaves = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in by_path(like).items()}
    known = {"mean": [0.3], "sigma_data": 0.4, "sigmas": [10.0, 0.01], "errors": [[0.3], [0.01]]}
    for name in leaves:
        if (end := name.split(".")[-1]) in known:
            leaves[name] = np.asarray(known[end], np.float32)
    save_prior(path, "edm", from_paths(like, leaves), settings, ImageForm("digits", 8, 8, 1))
    return str(path)


def test_command(prior, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = [
        "digits",
        "--priors",
        prior,
        "--pairs",
        "5",
        "--sampler",
        "pigdm-free",
        "--steps",
        "3",
        "--samples",
        "2",
        "--split",
    ]
    basis_images.main(argv)
    folder = tmp_path / "separated" / "digits"
    shown = capsys.readouterr().out
    assert "unprocessed mixture" in shown
    record = json.loads((folder / "images.json").read_text())
    assert (record["forwards"], record["vjps"]) == (2 * (3 + 3), 0)  # three levels, three judges
    assert len(record["mixtures"]) == 5
    assert record["settings"]["steps"] == 3
    assert (folder / "images.png").stat().st_size > 1000
    pictures, labels = load_images("digits", "test")
    for row in record["mixtures"]:
        first, second = row["places"]
        assert labels[first] < 5 <= labels[second]
        assert row["labels"] == [labels[first], labels[second]]
        mixed = pictures[first] / 2.0 + pictures[second] / 2.0
        errors = [np.mean((mixed - pictures[i]) ** 2) for i in (first, second)]
        expected = np.mean([10 * np.log10(255**2 / e) for e in errors])
        assert row["mixture"] == pytest.approx(expected, abs=0.01)
    with np.load(folder / "images.npz") as file:
        assert file["mean"].shape == (2, 5, 8, 8, 1)
        assert file["mean"].dtype == np.uint8
        # independent pixels with one prior: both estimates are the mixture, and what noise is left
        both = file["mean"].astype(float).mean(0)
        mixed = pictures[file["places"]].astype(float).mean(0)
        assert np.abs(both - mixed).mean() < 12
    means = [np.mean([row[name] for row in record["mixtures"]]) for name in ("sample", "mean")]
    assert record["psnr"]["mean"]["value"] == pytest.approx(means[1], abs=0.01)
    assert f"{means[0]:.2f}" in shown


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["digits", "--priors", "piano"], "prior piano is of spectrograms"),
        (["digits"], "--priors is missing"),
        (["--priors", "PRIOR"], "SET is missing"),
        (["mnis", "--priors", "PRIOR"], "set must be one of mnist"),
        (["mnist", "--priors", "PRIOR"], "no complete mnist"),
        (["digits", "--priors", "PRIOR", "PRIOR", "PRIOR"], "one prior for all 2 sources"),
        (["digits", "--priors", "PRIOR", "--mix", "grey", "--split"], "--mix grey has one"),
        (["digits", "--priors", "PRIOR", "--mix", "blend"], "mix must be one of average"),
        (["digits", "--priors", "PRIOR", "--pairs", "0"], "pairs must be at least 1"),
        (["digits", "--priors", "PRIOR", "--sampler", "no"], "sampler must be one of"),
        (["digits", "--priors", "PRIOR", "--start", "3"], "unknown option --start"),
    ],
)
def test_bad_input(prior, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        basis_images.main([prior if word == "PRIOR" else word for word in argv])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "separated").exists()


@pytest.mark.parametrize("argv", [["--images", "digits"], ["--images=mnist", "--pairs", "5"]])
def test_the_audio_command_says_where_images_are_separated(argv):
    with pytest.raises(UserError, match=r"by 'python -m gensep.basis_images SET'$"):
        basis.main(argv)
    with pytest.raises(UserError, match="unknown option --split"):
        basis.main(["x.wav", "--split"])


def test_presets_are_settings():
    for name in IMAGE_PRESETS:
        assert make_image_settings(name, {}).kernel()
