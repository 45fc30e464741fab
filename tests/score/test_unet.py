"""The U-Net of images: shapes, noise levels, gradients, and that it learns a picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gensep.priors.score_networks import make_denoiser
from score import UNet
from score.unet import squeeze, unsqueeze

pytestmark = pytest.mark.usefixtures("hasty")


def filled(make, scale):
    """Build a network with random weights quickly; the initial ones are zero in many layers."""
    rng = np.random.default_rng(0)
    like = jax.eval_shape(make)
    return jax.tree.map(lambda a: jnp.asarray(scale * rng.normal(size=a.shape), a.dtype), like)


@pytest.fixture(scope="module")
def net():
    return filled(lambda: UNet(2, 16, 1, embedding=16, rngs=nnx.Rngs(0)), 0.1)


def test_squeeze_keeps_neighbours_together():
    x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    y = squeeze(x)
    assert y.shape == (2, 2, 3, 12)
    assert set(np.asarray(y[0, 1, 2]).tolist()) == set(np.asarray(x[0, 2:4, 4:6]).ravel().tolist())
    np.testing.assert_array_equal(unsqueeze(y), x)


def test_examples_are_their_own(net):
    """Each is denoised at its own noise level, independently of the rest of the batch."""
    x = jax.random.normal(jax.random.key(1), (2, 12, 8, 2))
    levels = jnp.array([-3.0, 0.5])
    apply = nnx.jit(lambda n, x, s: n(x, s))
    y = apply(net, x, levels)
    assert y.shape == x.shape
    swapped = apply(net, x[::-1], levels[::-1])
    np.testing.assert_allclose(y, swapped[::-1], rtol=2e-4, atol=2e-5)
    other = apply(net, x.at[0].add(1), levels.at[1].add(0.5))
    assert (jnp.abs(y - other).max((1, 2, 3)) > 1e-3).all()
    mixed = apply(net, x.at[0].add(1), levels)
    assert jnp.abs(y - mixed)[0].max() > 1e-3
    np.testing.assert_allclose(y[1], mixed[1], rtol=2e-4, atol=2e-5)


def test_every_pixel_sees_every_other(net):
    """By attention; convolutions alone would reach 28 pixels here."""
    x = jnp.zeros((1, 64, 4, 2))

    def corner(x):
        return net(x, jnp.zeros(1))[0, 0, 0, 0]

    seen = jnp.abs(jax.jit(jax.grad(corner))(x))
    assert (seen[0].max((1, 2)) > 0).all()


def test_gradients_agree_with_finite_differences(net):
    x, v = jax.random.normal(jax.random.key(2), (2, 1, 8, 8, 2))
    run = jax.jit(lambda x: net(x, jnp.full(1, -1.0)))
    step = 1e-2
    slope = (run(x + step * v) - run(x - step * v)) / (2 * step)
    weight = jax.random.normal(jax.random.key(3), slope.shape)
    pulled = jax.jit(lambda x: jax.vjp(run, x)[1](weight)[0])(x)
    assert jnp.isfinite(pulled).all()
    assert (pulled * v).sum() == pytest.approx(float((weight * slope).sum()), rel=2e-2)


def test_it_is_a_row_of_the_table():
    settings = {"network": "unet", "features": 3, "width": 16, "blocks": 1}
    denoiser = filled(lambda: make_denoiser(settings), 0.0)
    denoiser.mean[...] = mean = jnp.array([0.5, 0.4, 0.3])
    denoiser.sigma_data[...] = jnp.asarray(0.3)
    x = 0.5 + jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    clean = jax.jit(lambda d, x: d(x, jnp.asarray(0.4)))(denoiser, x)
    mean = mean[None, None, None]
    # where the network is zero, this is the best denoiser of independent pixels
    np.testing.assert_allclose(clean, mean + 0.3**2 / 0.5**2 * (x - mean), atol=1e-5)
