"""Networks of images: convolution, shapes, published parameter counts, what each layer computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gensep.priors.files import load_prior, save_prior
from gensep.priors.score_networks import make_denoiser
from gensep.representation.mel import Representation
from gensep.runtime.trees import by_path
from gensep.train_ncsn import Config
from gensep.training.score_task import ScoreTask
from score import DenoiserPrior, NCSNv1, NCSNv2, denoising_loss
from score.conv2d import convolve2d
from score.instance_norm import InstanceNormPlus
from score.refinenet import (
    NoNorm,
    RefineBlock,
    ResidualBlock,
    ResidualUnits,
    halve,
    max_pool,
    mean_pool,
)

pytestmark = pytest.mark.usefixtures("hasty")

RNG = np.random.default_rng(0)


class Keys:
    """A substitute for nnx.Rngs where only shapes matter; it is ten times faster to trace."""

    def params(self):
        return jax.random.key(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


# ---- convolution


@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (3, 1), (3, 4), (5, 2)])
def test_convolution_and_its_gradients_are_those_of_lax(size, dilation):
    """Also for kernels larger than the image, and inside a loop."""
    x, kernel, g = normal(2, 6, 9, 3), normal(size, size, 3, 4), normal(2, 6, 9, 4)

    def reference(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "SAME",
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    ours, pull = jax.vjp(lambda x, k: convolve2d(x, k, dilation), x, kernel)
    theirs, pull_reference = jax.vjp(reference, x, kernel)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    looped = jax.jit(lambda g: jax.lax.map(pull, g[None]))(g)
    for a, b, c in zip(pull(g), pull_reference(g), looped, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
        np.testing.assert_allclose(a, c[0], atol=2e-4)


# ---- layers


def filled(make, scale=0.3):
    """Return a module with random parameters, without compiling its start."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda p: jnp.asarray(scale * rng.normal(size=p.shape), p.dtype), jax.eval_shape(make)
    )


@pytest.mark.parametrize("compat", [False, True])
def test_instance_norm_keeps_means_and_obeys_the_level(compat):
    layer = filled(lambda: InstanceNormPlus(3, 4, compat=compat, rngs=Keys()))
    x, level = np.asarray(normal(2, 5, 6, 3) * 2 + 1, np.float64), np.array([3, 1])
    got = layer(jnp.asarray(x, jnp.float32), jnp.asarray(level))
    mu = x.mean((1, 2), keepdims=True)
    h = (x - mu) / x.std((1, 2), keepdims=True)
    m = (mu - mu.mean(-1, keepdims=True)) / mu.std(-1, keepdims=True)
    gamma, alpha, beta = (
        np.asarray(p[...])[level][:, None, None] for p in (layer.gamma, layer.alpha, layer.beta)
    )
    if compat:
        expected = gamma * (np.asarray(layer.scale) * h + np.asarray(layer.shift)) + alpha * m
    else:
        expected = gamma * (h + alpha * m)
    np.testing.assert_allclose(got, expected + beta, atol=1e-4)


def test_instance_norm_starts_around_one_or_as_the_ancestor_around_zero():
    for compat, start in ((False, 1), (True, 0)):
        layer = InstanceNormPlus(500, 2, compat=compat, rngs=nnx.Rngs(0))
        for gain in (layer.gamma, layer.alpha):
            assert gain[...].mean() == pytest.approx(start, abs=0.003)
            assert gain[...].std() == pytest.approx(0.02, rel=0.1)
        assert (layer.beta[...] == 0).all()


def test_pools_see_five_by_five_places_inside_the_image():
    from scipy.ndimage import maximum_filter, uniform_filter

    x = normal(2, 7, 6, 3)
    size = (1, 5, 5, 1)
    np.testing.assert_allclose(max_pool(x), maximum_filter(x, size, mode="nearest"))
    ones = uniform_filter(np.ones(x.shape), size, mode="constant")
    np.testing.assert_allclose(
        mean_pool(x), uniform_filter(x, size, mode="constant") / ones, atol=1e-5
    )


def test_halving_takes_every_place_once():
    x = np.asarray(normal(2, 5, 4, 3))
    got = np.asarray(halve(jnp.asarray(x)))
    assert got.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(got[:, 1, 1], x[:, 2:4, 2:4].mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(got[:, 2, 0], x[:, 4, :2].mean(1), atol=1e-6)  # the odd row


def test_residual_units_bend_and_the_ancestors_do_not():
    """Without the ELU before every conv a unit is linear, and so is a chain of them."""
    x = normal(1, 4, 4, 3)
    for compat in (False, True):
        units = filled(
            lambda compat=compat: ResidualUnits(
                3, 2, norm=lambda channels: NoNorm(), activate=not compat, rngs=Keys()
            )
        )
        one, two, both = (units(y, jnp.zeros(1, int)) for y in (x, 2 * x, 3 * x))
        bend = float(jnp.abs(one + two - both).max() / jnp.abs(both).max())
        assert (bend < 1e-5) if compat else (bend > 0.01)


# ---- networks

SIGMAS = np.geomspace(1, 0.01, 10)


def v1(channels, width, **options):
    return lambda: NCSNv1(channels, width, SIGMAS, rngs=Keys(), **options)


def v2(channels, width, **options):
    return lambda: NCSNv2(channels, width, rngs=Keys(), **options)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (v1(1, 192, compat=True), 67_464_769),  # AudioSourceSep's NCSN of spectrograms
        (v1(1, 128, compat=True), 30_140_801),
        (v1(1, 96, compat=True), 17_042_209),
        (v1(1, 64, compat=True), 7_652_545),
        (v2(1, 128, compat=True), 29_695_233),  # and its NCSNv2
        (v1(1, 64), 7_638_657),  # BASIS's NCSN of digits
        (v1(3, 128), 30_117_635),  # and of CIFAR-10
        (v1(1, 192), 67_423_105),
        (v2(1, 128), 29_689_473),
    ],
)
def test_networks_have_the_published_numbers_of_parameters(make, count):
    net = jax.eval_shape(make).net
    assert sum(leaf.size for leaf in jax.tree.leaves(net)) == count


@pytest.mark.parametrize("make", [v1(1, 4), v2(1, 4)])
def test_networks_take_images_and_spectrograms_of_any_size(make):
    model = jax.eval_shape(make)
    for shape in ((1, 8, 8, 1), (1, 28, 28, 1), (1, 32, 32, 1), (1, 9, 7, 1), (1, 64, 96)):
        x, sigma = jax.ShapeDtypeStruct(shape, "float32"), jax.ShapeDtypeStruct((), "float32")
        assert jax.eval_shape(lambda model, x, s: model(x, s), model, x, sigma).shape == shape


class Stub(nnx.Module):
    """A substitute for a network that returns a constant and records its arguments."""

    def __call__(self, x, level):
        self.seen = nnx.data((x, level))
        return jnp.full_like(x, 2.0)


@pytest.mark.parametrize("make", [v1, v2])
def test_denoisers_follow_tweedie(make):
    """E[x0 | x] = x + sigma^2 s: v1 has s of the nearest level, v2 has s = net / sigma."""
    model, sigma = filled(make(1, 1)), jnp.asarray([1.0, 0.4, 0.022, 0.01, 0.001])
    model.net = Stub()
    if make is v1:
        model.sigmas = nnx.Variable(jnp.asarray(SIGMAS, jnp.float32))
    for shape, rescale in (((5, 3, 4), False), ((5, 3, 4, 2), True)):
        x, square = normal(*shape), sigma.reshape(-1, *[1] * (len(shape) - 1))
        model.rescale = rescale
        change = 2 * square**2 if make is v1 else 2 * square
        np.testing.assert_allclose(model(x, sigma), x + change, rtol=1e-6)
        seen = (2 * x - 1 if rescale else x).reshape(*shape[:3], -1)
        np.testing.assert_allclose(model.net.seen[0], seen, rtol=1e-6)
        assert model.net.seen[1].tolist() == ([0, 2, 7, 9, 9] if make is v1 else [0] * 5)
        np.testing.assert_allclose(model(x, jnp.asarray(0.4))[1], model(x, sigma)[1], rtol=1e-6)
        # sigma^2 |s - target|^2, the published loss, from the error of the denoised
        loss = denoising_loss(model, normal(*shape), jnp.ones(shape), sigma)
        score = 2.0 if make is v1 else 2 / sigma
        np.testing.assert_allclose(loss, sigma**2 * (score + 1 / sigma) ** 2, rtol=1e-3)


def test_levels_must_fall():
    for bad in ([0.1, 1.0], [1.0, 0.0], [[1.0]]):
        with pytest.raises(ValueError, match="falling"):
            NCSNv1(1, 4, bad, rngs=nnx.Rngs(0))


def test_examples_of_a_batch_do_not_mix_and_levels_count():
    model = filled(v1(1, 4), 0.2)
    model.sigmas = nnx.Variable(jnp.asarray(SIGMAS, jnp.float32))
    run = jax.jit(lambda model, x, sigma: model(x, sigma))
    x, sigma = normal(3, 8, 10), jnp.asarray([1.0, 0.3, 0.1])
    first, second = run(model, x, sigma), run(model, x.at[1].add(1), sigma)
    np.testing.assert_allclose(first[::2], second[::2], atol=1e-5)
    assert jnp.abs(first[1] - second[1]).max() > 0.01
    scores = [(run(model, x, s * jnp.ones(3)) - x) / s**2 for s in (0.3, 0.1)]
    assert jnp.abs(scores[0] - scores[1]).max() > 0.01


def test_every_parameter_is_learnt_from():
    """Gradients of both kinds of blocks reach all their parameters, the norms' by their level."""
    level = jnp.asarray([1, 1])

    def make():
        rngs = Keys()
        parts = {"norm": lambda c: InstanceNormPlus(c, 3, rngs=rngs), "rngs": rngs}
        return (
            ResidualBlock(2, 4, dilation=1, biased=True, halve=True, reshape=True, **parts),
            RefineBlock([2, 4], 2, pool=mean_pool, activate=True, **parts),
        )

    def loss(blocks, x):
        down, up = blocks
        return (up([x, down(x, level)], level) ** 2).sum()

    gradient = jax.jit(jax.grad(loss))(filled(make), normal(2, 6, 6, 2))
    for path, g in by_path(gradient).items():
        g = np.asarray(g)
        if path.split(".")[-1] in ("gamma", "alpha", "beta"):
            assert (g[[0, 2]] == 0).all(), path
            g = g[1]
        assert np.isfinite(g).all(), path
        assert (g != 0).mean() > 0.9, path


class Examples:
    """Stands for a set of spectrograms of six bands."""

    form, features = Representation(n_mels=6), 6

    def batch(self, seed, step, size):
        return np.zeros((size, 8, 6), np.float32)

    def inputs(self, key, raw):
        return raw + jax.random.normal(key, raw.shape)


def test_a_trained_network_comes_back_from_its_file(tmp_path, monkeypatch):
    """From the config to the settings of the file, and back with every weight and level."""
    monkeypatch.setattr(nnx, "Rngs", lambda seed: Keys())
    c = Config(
        data="",
        run="",
        network="ncsnv1",
        width=2,
        schedule="geometric",
        noise_levels=5,
        levels=3,
        sigma_min=0.1,
        sigma_max=2.0,
        compat=True,
    )
    task = ScoreTask(c, Examples())
    settings = task.settings
    denoiser = filled(lambda: make_denoiser(settings))
    prior = DenoiserPrior(denoiser, jnp.asarray(task.grid), jnp.ones((3, 6)))
    save_prior(tmp_path / "prior.npz", "edm", prior, settings, Examples.form)
    loaded = load_prior(str(tmp_path)).prior
    saved, back = by_path(prior), by_path(loaded)
    assert saved.keys() == back.keys()
    assert all((saved[path] == back[path]).all() for path in saved)
    assert isinstance(loaded.denoiser, NCSNv1)
    assert loaded.denoiser.net.norm.compat
    assert not loaded.denoiser.rescale
    assert loaded.denoiser.net.norm.gamma.shape == (5, 2)
    np.testing.assert_allclose(loaded.sigmas, [2.0, 2.0 * 20**-0.5, 0.1], rtol=1e-5)
