"""Score networks: preconditioning, noise levels, and that training finds a known score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gensep.datasets.spectrogram_examples import SpectrogramExamples
from gensep.representation.mel import Representation
from gensep.runtime.trees import by_path
from gensep.train_ncsn import Config
from gensep.training import score_task
from gensep.training.updates import make_optimiser, make_state, make_update
from score import EDM, Conv1dDenoiser, DenoiserPrior, denoising_loss, karras, lognormal

FRAMES, BANDS = 8, 6
SIGMAS = (0.1, 0.3, 1.0, 2.0)


class Stub(nnx.Module):
    """A network that returns `slope` times its input plus `shift`, and notes its arguments."""

    def __init__(self, slope=0.0, shift=0.0):
        self.slope, self.shift = slope, shift

    def __call__(self, x, log_sigma):
        self.seen = nnx.data((x, log_sigma))
        return self.slope * x + self.shift


def test_preconditioning_is_karras():
    """D = mean + c_skip (x - mean) + c_out F(c_in (x - mean), ln sigma), sigma per example."""
    sd, mean = 0.7, np.array([0.5, -1.0], np.float32)
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    sigma = np.array([0.1, 0.7, 3.0], np.float32)
    s = sigma[:, None, None]
    skip, out, into = (
        sd**2 / (s**2 + sd**2),
        s * sd / np.sqrt(s**2 + sd**2),
        1 / np.sqrt(s**2 + sd**2),
    )
    for slope, shift in ((0, 0), (0, 1), (2, 0)):
        net = Stub(slope, shift)
        got = EDM(net, mean, sd)(x, sigma)
        expected = mean + skip * (x - mean) + out * (slope * into * (x - mean) + shift)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(net.seen[0], into * (x - mean), rtol=1e-5)
        np.testing.assert_allclose(net.seen[1], np.log(sigma), rtol=1e-5)
    # a scalar sigma serves the whole batch, and no noise leaves x as it is
    whole = EDM(Stub(2, 1), mean, sd)
    np.testing.assert_allclose(
        whole(x, jnp.asarray(0.7))[1], whole(x, jnp.asarray(sigma))[1], rtol=1e-6
    )
    np.testing.assert_allclose(whole(x, jnp.asarray(1e-5)), x, atol=1e-4)


def test_input_and_target_of_the_network_have_unit_variance():
    sd, rng = 0.7, np.random.default_rng(0)
    clean = sd * rng.normal(size=(3, 100_000, 1)).astype(np.float32)
    sigma = np.array([0.05, 0.7, 5.0], np.float32)
    noisy = clean + sigma[:, None, None] * rng.normal(size=clean.shape).astype(np.float32)
    zero, one = Stub(), Stub(0.0, 1.0)
    linear = EDM(zero, np.zeros(1), sd)(noisy, sigma)
    scale = EDM(one, np.zeros(1), sd)(noisy, sigma) - linear  # c_out
    np.testing.assert_allclose(zero.seen[0].std((1, 2)), 1, rtol=0.01)
    np.testing.assert_allclose(((clean - linear) / scale).std((1, 2)), 1, rtol=0.01)


def network(seed=0, width=32, blocks=2):
    return Conv1dDenoiser(BANDS, width, blocks, rngs=nnx.Rngs(seed))


def test_loss_of_an_untrained_network_on_white_data_is_one():
    """It starts as the best linear denoiser: a loss of 1 at every level, whatever the scale."""
    rng, mean = np.random.default_rng(0), np.linspace(-1, 1, BANDS).astype(np.float32)
    x = (mean + 0.4 * rng.normal(size=(256, FRAMES, BANDS))).astype(np.float32)
    noise = rng.normal(size=x.shape).astype(np.float32)
    sigma = np.repeat(np.array([0.05, 0.4, 1.0, 3.0], np.float32), 64)
    model = EDM(network(width=8, blocks=1), mean, 0.4)
    loss = np.asarray(jax.jit(denoising_loss)(model, x, noise, sigma))
    assert loss.shape == (256,)
    np.testing.assert_allclose(loss.reshape(4, 64).mean(1), 1, atol=0.06)
    # the noise and level of one example do not touch another's loss
    other = sigma.copy()
    other[1:] *= 2
    again = jax.jit(denoising_loss)(model, x, noise, other)
    np.testing.assert_allclose(again[0], loss[0], rtol=1e-5)
    assert np.abs(again[1:] - loss[1:]).min() > 0


def test_the_network_reaches_as_far_as_its_dilations():
    """Convolutional in time: shifting the input shifts the output, at any number of frames."""
    rng = np.random.default_rng(1)
    net = jax.tree.map(
        lambda x: x + 0.2 * rng.normal(size=x.shape).astype(np.float32), network(width=8)
    )
    run = jax.jit(lambda net, x: net(x, jnp.zeros(len(x))))
    x = np.random.default_rng(0).normal(size=(1, 40, BANDS)).astype(np.float32)
    whole, part = run(net, x), run(net, x[:, 10:])
    change = np.abs(part - whole[:, 10:]).max((0, 2))
    reach = 1 + 1 + 2 + 1  # of enter, two dilated blocks and leave
    assert (change[reach:] < 1e-4).all()
    assert (change[:reach] > 1e-4).all()


# ---- learning


def covariance():
    """Return a covariance over frames and bands that no diagonal explains."""
    t, b = np.arange(FRAMES), np.arange(BANDS)
    sd = np.linspace(0.3, 1, BANDS)
    bands = np.exp(-np.abs(b[:, None] - b) / 2) * sd[:, None] * sd
    return np.kron(np.exp(-np.abs(t[:, None] - t) / 3), bands)


C = covariance()
ROOT = np.linalg.cholesky(C).T.astype(np.float32)
MEAN = np.linspace(-0.5, 0.5, BANDS).astype(np.float32)
STEPS, BATCH = 800, 128


def sample(key, n):
    return MEAN[None, None] + (jax.random.normal(key, (n, FRAMES * BANDS)) @ ROOT).reshape(
        n, FRAMES, BANDS
    )


def toy_loss(model, key, batch):
    data_key, sigma_key, noise_key = jax.random.split(key, 3)
    x = sample(data_key, BATCH)
    sigma = lognormal(sigma_key, BATCH, -0.7, 1.0, 0.05, 3.0)
    return denoising_loss(model, x, jax.random.normal(noise_key, x.shape), sigma).mean()


@pytest.fixture(scope="module")
def learning():
    """Return the update of the toy and a new state."""
    optimiser = make_optimiser(5e-3, STEPS, 50, 1.0)
    update = make_update(toy_loss, optimiser, 0.99)

    def start(model):
        return make_state(model, optimiser)

    return update, start


def untrained():
    return EDM(network(), MEAN, float(np.sqrt(np.diag(C).mean())))


def test_updates_move_every_parameter_and_stay_finite(learning):
    update, start = learning
    state = start(untrained())
    before = {path: np.array(x) for path, x in by_path(state.learner.model).items()}
    for i in range(8):  # the first has rate 0; zeros then wake layer by layer, from the output in
        state, row = update(jax.random.key(i), state, None)
    assert np.isfinite(row["loss"])
    assert int(state.step) == 8
    assert int(state.skipped) == 0
    for path, leaf in by_path(state.learner.model).items():
        assert np.isfinite(leaf).all(), path
        moved = (leaf != before[path]).mean()
        if path in ("mean", "sigma_data"):  # measured, not trained
            assert moved == 0, path
        else:
            assert moved > 0.9, path
    for path, leaf in by_path(state.learner.average).items():
        between = np.abs(leaf - by_path(state.learner.model)[path]).sum()
        assert (between == 0) == (path in ("mean", "sigma_data")), path


def test_training_finds_the_score_of_a_gaussian(learning):
    update, start = learning
    state = start(untrained())
    for i in range(STEPS):
        state, _ = update(jax.random.fold_in(jax.random.key(1), i), state, None)
    priors = [
        DenoiserPrior(model, jnp.array([3.0, 0.05]), jnp.ones((2, BANDS)))
        for model in (state.learner.average, untrained())
    ]
    score = jax.jit(lambda prior, x, sigma: prior.score(x, sigma))
    clean = np.asarray(sample(jax.random.key(77), 1000), np.float64)
    noise = np.random.default_rng(0).normal(size=clean.shape)
    for sigma, most in zip(SIGMAS, (0.22, 0.15, 0.1, 0.06), strict=True):
        x = clean + sigma * noise
        flat = (x - MEAN).reshape(len(x), -1)
        true = -np.linalg.solve(C + sigma**2 * np.eye(len(C)), flat.T).T
        trained, linear = (
            np.asarray(score(p, x.astype(np.float32), sigma)).reshape(len(x), -1) for p in priors
        )
        size = np.sqrt((true**2).mean())
        error, base = (np.sqrt(((s - true) ** 2).mean()) / size for s in (trained, linear))
        assert error < most, sigma
        assert base > 2.5 * most, sigma


# ---- noise levels and what an update of train_ncsn sees


def test_karras_levels_fall_between_their_ends():
    levels = karras(9, 0.02, 2.5)
    assert levels.dtype == np.float32
    assert levels[[0, -1]] == pytest.approx([2.5, 0.02], rel=1e-5)
    assert (np.diff(levels) < 0).all()
    roots = levels.astype(np.float64) ** (1 / 7)
    np.testing.assert_allclose(np.diff(roots), np.diff(roots).mean(), rtol=1e-4)
    np.testing.assert_allclose(np.diff(np.diff(karras(5, 1, 3, 1.0))), 0, atol=1e-6)
    assert karras(1, 0.02, 2.5).tolist() == [2.5]
    for bad in ((0, 0.1, 1.0), (3, 0.0, 1.0), (3, 2.0, 1.0)):
        with pytest.raises(ValueError, match="0 < sigma_min <= sigma_max"):
            karras(*bad)


def test_training_levels_are_lognormal_stratified_and_bounded():
    drawn = jax.jit(lognormal, static_argnums=1)
    wide = np.log(drawn(jax.random.key(0), 4000, -1.2, 0.8, 1e-6, 1e6))
    assert wide.mean() == pytest.approx(-1.2, abs=0.01)
    assert wide.std() == pytest.approx(0.8, rel=0.01)
    assert abs(np.corrcoef(wide[1:], wide[:-1])[0, 1]) < 0.06  # strata are shuffled
    kept = np.asarray(drawn(jax.random.key(0), 4000, -1.2, 0.8, 0.1, 1.0))
    assert kept.min() == pytest.approx(0.1)
    assert kept.max() == pytest.approx(1.0)
    # one level in each of n strata of equal probability
    from scipy.stats import norm

    few = np.asarray(drawn(jax.random.key(2), 16, 0.0, 1.0, 1e-6, 1e6))
    assert sorted(np.floor(16 * norm.cdf(np.log(few)))) == list(range(16))
    assert list(few) != sorted(few)


class Windows:
    """A stand-in for a data set: the same window over and over."""

    representation = {"n_fft": 512, "hop_length": 256, "n_mels": BANDS}

    def batch(self, seed, step, size):
        return np.broadcast_to(np.linspace(-2000, 3000, 56)[:, None], (size, 56, BANDS))


def test_every_example_of_a_batch_is_perturbed_on_its_own(monkeypatch):
    """The ancestor drew one noise level and one noise for a whole batch."""

    class Arguments(dict):
        mean = dict.copy  # the loss is averaged; here its arguments come out of jit instead

    def spy(model, x, noise, sigma):
        return Arguments(x=x, noise=noise, sigma=sigma)

    monkeypatch.setattr(score_task, "denoising_loss", spy)
    c = Config(data="", run="", frames=8, room=1.0, noise=1.0)
    task = score_task.ScoreTask(c, SpectrogramExamples(c, Windows(), Windows()))
    assert task.examples.form == Representation(n_fft=512, hop_length=256, n_mels=BANDS)
    windows = Windows().batch(0, 0, 16)
    seen = jax.jit(lambda key: task.loss(None, key, windows))(jax.random.key(0))
    seen = {name: np.asarray(x) for name, x in seen.items()}
    assert seen["x"].shape == seen["noise"].shape == (16, 8, BANDS)
    assert seen["sigma"].shape == (16,)
    assert len(np.unique(seen["sigma"])) == 16
    assert len(np.unique(seen["noise"])) == seen["noise"].size
    assert len(np.unique(seen["x"][:, 0, 0])) == 16
    assert seen["noise"].std() == pytest.approx(1, abs=0.1)
