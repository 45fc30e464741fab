"""The U-Net of images: shapes, noise levels, gradients, and that it learns a picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gensep.networks import make_denoiser
from score import UNet
from score.unet import squeeze, unsqueeze


def awake(net, scale=0.05):
    """Replace the zeros that a network starts with by noise, so that every path is open."""
    graph, state = nnx.split(net)
    leaves, tree = jax.tree.flatten(state)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    noisy = [a + scale * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return nnx.merge(graph, jax.tree.unflatten(tree, noisy))


@pytest.fixture(scope="module")
def net():
    return nnx.jit(lambda: awake(UNet(2, 16, 1, embedding=16, rngs=nnx.Rngs(0))))()


def test_squeeze_keeps_neighbours_together():
    x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    y = squeeze(x)
    assert y.shape == (2, 2, 3, 12)
    assert set(np.asarray(y[0, 1, 2]).tolist()) == set(np.asarray(x[0, 2:4, 4:6]).ravel().tolist())
    np.testing.assert_array_equal(unsqueeze(y), x)


def test_it_starts_as_zero():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    fresh = UNet(1, 16, 1, embedding=16, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(jax.jit(fresh)(x, jnp.zeros(2)), 0 * x)


@pytest.mark.parametrize("shape", [(8, 8), (12, 4)])
def test_examples_are_their_own(net, shape):
    """Each is answered under its own noise level, whatever else is in the batch."""
    x = jax.random.normal(jax.random.key(1), (3, *shape, 2))
    levels = jnp.array([-3.0, 0.0, 1.0])
    apply = nnx.jit(lambda n, x, s: n(x, s))
    y = apply(net, x, levels)
    assert y.shape == x.shape
    for i in range(3):
        alone = apply(net, x[i : i + 1], levels[i : i + 1])
        np.testing.assert_allclose(y[i], alone[0], rtol=2e-4, atol=2e-5)
    other = apply(net, x, levels + 0.5)
    assert all(jnp.abs(y - other).max((1, 2, 3)) > 1e-3)


def test_every_pixel_sees_every_other(net):
    """By attention; convolutions alone would reach 16 pixels here."""
    x = jnp.zeros((1, 64, 8, 2))

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
    settings = {"network": "unet", "features": 3, "width": 16, "blocks": 1, "sigma_data": 0.3,
                "mean": [0.5, 0.4, 0.3]}
    denoiser = make_denoiser(settings)
    x = 0.5 + jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    clean = jax.jit(lambda x: denoiser(x, jnp.asarray(50.0)))(x)
    # much noise says nothing, and the mean of each channel is all that is known
    np.testing.assert_allclose(clean, np.broadcast_to([0.5, 0.4, 0.3], x.shape), atol=1e-3)
