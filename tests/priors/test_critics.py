"""Critics as prior files, their training on data sets, and guides of other priors."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from basis import Gaussian, Linear, Problem, mmps, sample
from basis.likelihood import Likelihood
from gensep.priors import likelihood
from gensep.priors.files import load_guide, load_prior, save_prior
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.runtime.trees import by_path
from gensep.separation.separate import assemble
from gensep.train_critic import Config
from gensep.training.critic_task import CriticTask
from score import CriticPrior, GuidedPrior

pytestmark = pytest.mark.usefixtures("hasty")

BANDS, FRAMES = 6, 8
FORM = Representation(n_mels=BANDS)
MIX = np.linalg.qr(np.random.default_rng(0).normal(size=(BANDS, BANDS)))[0] * np.sqrt(
    [2.0, 1, 0.5, 0.2, 0.1, 0.05]
)


class Examples:
    """Stands for a set of spectrograms: Gaussian frames with correlated bands."""

    form, features = FORM, BANDS

    def batch(self, seed, step, size):
        return np.random.default_rng((seed, step)).normal(size=(size, FRAMES, BANDS))

    def inputs(self, key, raw):
        return jnp.asarray(raw, jnp.float32) @ jnp.asarray(MIX.T, jnp.float32) + 0.5

    def held_out(self):
        return np.asarray(self.inputs(None, self.batch(1, 2, 64)))


SMALL = {"data": "d", "run": "r", "width": 8, "blocks": 1, "levels": 3, "batch": 8}
SMALL |= {"sigma_min": 0.1, "sigma_max": 2.0, "steps": 30, "rate": 1e-2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train a critic for some updates and write its file; return task, state, folder."""
    task = CriticTask(Config(**SMALL, contrast=0.1), Examples())
    state = task.start(jax.random.key(0))
    before = task.validate(state).score
    for step in range(30):
        state, row = task.update(jax.random.key(step), state, task.batch(step, slice(None)))
        assert np.isfinite(row["loss"])
    folder = tmp_path_factory.mktemp("critic")
    found = task.validate(state)
    found.model.write(folder, step=30)
    return task, before, found, folder


def test_training_lowers_the_denoising_loss_and_writes_a_prior(trained):
    task, before, found, folder = trained
    assert before < 1  # that of a Gaussian of the same variances
    assert found.score < before - 0.02
    loaded = load_prior(str(folder))
    assert loaded.header["kind"] == "critic"
    assert isinstance(loaded.prior, CriticPrior)
    x = task.examples.inputs(None, task.examples.batch(0, 0, 4096))
    for name, expected in (("mean", x.mean((0, 1))), ("variance", x.var((0, 1)))):
        np.testing.assert_allclose(task.settings[name], expected, rtol=0.1, atol=0.06)
    saved, back = by_path(found.model.prior), by_path(loaded.prior)
    assert saved.keys() == back.keys()
    assert all((np.asarray(saved[path]) == back[path]).all() for path in saved)
    assert loaded.prior.errors.shape == (3, BANDS)
    np.testing.assert_allclose(
        np.sqrt((np.asarray(loaded.prior.errors)[-1] ** 2).mean()), 0.1, rtol=0.2
    )


def test_critics_are_sampled_beside_other_priors_in_one_compiled_call(trained):
    """With a guided prior and a closed form; windows of any length."""
    prior = load_prior(str(trained[3])).prior
    other = Gaussian(jnp.zeros(BANDS), jnp.ones(BANDS), prior.sigmas)
    priors = (prior, GuidedPrior(prior, prior.critic, jnp.asarray(0.0)), other)
    mixture = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, BANDS)), jnp.float32)
    problem = Problem(priors, Linear(jnp.ones(3)), mixture, jnp.asarray(0.01))
    sources, info = jax.jit(partial(sample, mmps(2)))(
        jax.random.key(0), problem, jnp.asarray([2.0, 0.5, 0.1])
    )
    assert sources.shape == (3, 2, 5, BANDS)
    assert np.isfinite(sources).all()
    assert (info.residual[-1] < 0.5).all()
    x, sigma = mixture, jnp.asarray(0.5)
    np.testing.assert_allclose(priors[1].score(x, sigma), prior.score(x, sigma), rtol=1e-4)


def test_the_likelihood_of_a_critic_is_that_of_its_score(trained, monkeypatch):
    """Its own log density has an uncertain constant, so that it is not reported."""
    prior = load_prior(str(trained[3])).prior
    assert hasattr(prior, "log_prob")
    one = Likelihood(*(jnp.full(2, value) for value in (-96.0, 0.0, 0.0)))
    monkeypatch.setattr(likelihood, "log_likelihood", lambda *args, **options: one)
    found = likelihood.fit(
        prior, trained[0].held_out[:2], np.array([2.0, 0.1], np.float32), noise=True, bound=False
    )
    np.testing.assert_allclose(found.nll, 96 / (FRAMES * BANDS))


def test_a_guide_learns_from_samples_of_a_prior_and_corrects_it(trained, tmp_path):
    """The prior is an untrained critic, with a mean that is wrong by 1."""
    task = trained[0]
    settings = task.settings | {"mean": [m + 1 for m in task.settings["mean"]]}
    wrong = CriticTask(Config(**SMALL), Examples())
    wrong.settings = settings
    file = wrong.validate(wrong.start(jax.random.key(0))).model
    for name in ("wrong", "guide"):
        (tmp_path / name).mkdir()
    file._replace(settings=settings | {"levels": 3}).write(tmp_path / "wrong", step=0)
    own = {"against": str(tmp_path / "wrong"), "samples": 64, "sampling_steps": 6, "steps": 120}
    against = Config(**SMALL | own)
    guide = CriticTask(against, Examples())
    assert guide.pool.shape == (64, FRAMES, BANDS)
    assert (guide.pool.mean((0, 1)) > 0.9).all()  # samples of the prior, whose mean is 1.5
    np.testing.assert_array_equal(
        guide.batch(3, slice(2, 5)).others, guide.batch(3, slice(None)).others[2:5]
    )
    state = guide.start(jax.random.key(0))
    first = guide.validate(state)
    assert first.score == pytest.approx(first.row["valid_loss_uncorrected"], rel=1e-4)
    for step in range(60):
        state, _ = guide.update(jax.random.key(step), state, guide.batch(step, slice(None)))
    found = guide.validate(state)
    assert found.score < first.score - 0.3 * (first.score - 1)
    found.model.write(tmp_path / "guide", step=60)
    _check_guides(tmp_path)


def _check_guides(folder):
    """Guides correct the prior that they name, and are no priors."""
    wrong, guide = str(folder / "wrong"), str(folder / "guide")
    sources = assemble([wrong, wrong], [f"wrong2={guide}"], 0.5)
    plain, guided = sources.priors
    assert isinstance(plain, CriticPrior)
    assert isinstance(guided, GuidedPrior)
    assert guided.any_length
    x, sigma = jnp.zeros((1, 4, BANDS)), jnp.asarray(0.5)
    slope = load_guide(guide).prior.critic.slope(x, sigma)
    np.testing.assert_allclose(
        guided.score(x, sigma), plain.score(x, sigma) + 0.5 * slope, rtol=1e-3, atol=1e-5
    )
    assert np.abs(slope).max() > 0.01
    with pytest.raises(UserError, match="after --guide"):
        load_prior(guide)
    with pytest.raises(UserError, match="prior of kind critic.*--against"):
        load_guide(wrong)
    for bad in ("violin=x", guide):
        with pytest.raises(UserError, match="SOURCE=RUN"):
            assemble([wrong, wrong], [bad])
    (folder / "wrong").rename(folder / "right")
    with pytest.raises(UserError, match="against the prior wrong, not right"):
        assemble([str(folder / "right")], [f"right={guide}"])


def test_critics_of_wasserstein_distances_are_refused_with_the_way_out(trained, tmp_path):
    prior = load_prior(str(trained[3])).prior
    save_prior(tmp_path / "prior.npz", "wgan_critic", prior, trained[0].settings, FORM)
    with pytest.raises(UserError, match=r"no score.*gensep\.train_critic") as refusal:
        load_prior(str(tmp_path))
    assert "\n" not in str(refusal.value)


def test_wrong_options_are_refused(trained):
    with pytest.raises(ValueError, match="leave it out"):
        Config(**SMALL, against="piano", contrast=0.1)
    with pytest.raises(UserError, match="data that it was trained on"):
        CriticTask(Config(**SMALL, against="piano"), Examples())
    assert dataclasses.asdict(Config(**SMALL))["network"] == "conv1d"
