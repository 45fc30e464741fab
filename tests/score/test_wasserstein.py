"""Critics of Wasserstein GANs: published size, penalty against gradients by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from score.wasserstein import SpectrogramCritic, gradient_penalty, wasserstein

pytestmark = pytest.mark.usefixtures("hasty")


def test_published_number_of_parameters():
    shapes = nnx.eval_shape(lambda: SpectrogramCritic(rngs=nnx.Rngs(0)))
    assert sum(x.size for x in jax.tree.leaves(nnx.state(shapes, nnx.Param))) == 1_869_344


def test_the_critic_gives_a_number_per_example():
    critic = jax.jit(lambda: SpectrogramCritic(8, 12, 4, rngs=nnx.Rngs(0)))()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 12)), jnp.float32)
    out = jax.jit(lambda c, x: c(x))(critic, x)
    assert out.shape == (3,)
    np.testing.assert_allclose(critic(x[1:2])[0], out[1], rtol=1e-4)


@pytest.mark.parametrize("one_sided", [True, False])
def test_penalty_of_a_quadratic_critic_by_hand(one_sided):
    # The gradient of a |x|^2 / 2 at z is a z.
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 6, 2, 3))
    share, a = rng.uniform(size=6), 0.55
    lengths = []
    for r, f, s in zip(real, fake, share, strict=True):
        lengths.append(a * np.sqrt(((s * r + (1 - s) * f) ** 2).sum()))
    lengths = np.array(lengths)
    assert lengths.min() < 1 < lengths.max()  # both sides are tried
    excess = np.maximum(lengths - 1, 0) if one_sided else lengths - 1
    found = gradient_penalty(
        lambda x: a / 2 * (x**2).sum((1, 2)),
        *map(jnp.asarray, (real, fake, share)),
        one_sided=one_sided,
    )
    np.testing.assert_allclose(found, (excess**2).mean(), rtol=1e-5)


def test_distance_of_a_linear_critic_is_that_of_the_means():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 50, 4)) + np.array([1.0, 0.0])[:, None, None]
    found = wasserstein(lambda x: x.sum(1), jnp.asarray(real), jnp.asarray(fake))
    np.testing.assert_allclose(found, (real.mean(0) - fake.mean(0)).sum(), rtol=1e-5)


def test_a_flat_critic_has_finite_gradients():
    x = jnp.ones((2, 3))
    gradient = jax.grad(lambda w: gradient_penalty(lambda y: (w * y).sum(1), x, x, jnp.ones(2)))
    assert np.isfinite(gradient(0.0))
