"""The U-Net: its published size, its padding arithmetic, and what it sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gensep.separators.networks import make_separator, settings_of
from gensep.separators.unet import UNet, padded_size

pytestmark = pytest.mark.usefixtures("hasty")


def parameters(module):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def test_published_number_of_parameters():
    shapes = nnx.eval_shape(lambda: make_separator(settings_of("unet")))
    assert parameters(shapes) == 958_596


def test_padding_arithmetic():
    assert padded_size(256) == (350, 258)
    assert padded_size(64) == (158, 66)
    for levels in (1, 2, 3):
        for wanted in range(1, 40):
            entering, leaving = padded_size(wanted, levels)
            size, skipped = entering, []
            for _ in range(levels):
                size -= 2
                assert size % 2 == 0  # or pooling would drop a value
                skipped.append(size)
                size //= 2
            size -= 2
            for _ in range(levels):
                size *= 2
                assert size <= skipped.pop()
                size -= 2
            assert size == leaving >= wanted


@pytest.fixture(scope="module")
def small():
    return jax.jit(lambda: UNet(2, 4, 2, rngs=nnx.Rngs(0)))()


def test_frames_see_a_limited_neighbourhood(small):
    rng = np.random.default_rng(0)
    mixture = jnp.asarray(rng.uniform(size=(1, 1, 60, 33)), jnp.float32)
    whole = small(mixture)
    changed = small(mixture.at[:, :, 0].add(1.0))
    assert whole.shape == (1, 2, 1, 60, 33)
    assert (whole >= 0).all()
    moved = np.flatnonzero(np.abs(whole - changed).max((0, 1, 2, 4)))
    lost = (padded_size(60, 2)[0] - padded_size(60, 2)[1]) // 2
    assert 0 < len(moved) <= moved[-1] + 1 <= 2 * lost


def test_silence_around_the_input_is_what_the_network_pads_with(small):
    # The heads see the input at its own place: a network whose heads copy the input gives it back.
    small = nnx.clone(small)
    kernel = jnp.zeros_like(small.heads.kernel[...]).at[0, 0, 0].set(1.0)
    small.heads.kernel[...] = kernel
    mixture = jnp.asarray(np.random.default_rng(1).uniform(size=(2, 1, 21, 18)), jnp.float32)
    out = small(mixture)
    np.testing.assert_allclose(out[:, 0, 0, :, :-1], mixture[:, 0, :, :-1], rtol=1e-5)
    np.testing.assert_array_equal(out[..., -1], 0)


def test_masks_share_the_mixture():
    network = jax.jit(lambda: UNet(3, 4, 2, masks=True, rngs=nnx.Rngs(0)))()
    mixture = jnp.asarray(np.random.default_rng(1).uniform(size=(2, 1, 21, 18)), jnp.float32)
    np.testing.assert_allclose(network(mixture).sum(1), mixture, rtol=1e-5)
