"""Judges of posterior samples, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from basis import ElementMixture, Gaussian, evidence_weights, implausibility, surprise

LEVELS = jnp.geomspace(40.0, 0.01, 128)


def flat(mean=0.4, variance=0.09):
    """Give a prior of independent elements."""
    return Gaussian(jnp.asarray(mean), jnp.asarray(variance), jnp.asarray([10.0, 0.01]))


def two_modes(weight, low=-1.0, high=1.0, sd=0.15):
    """Give a prior of independent elements that lie near one of two values."""
    weights, means = jnp.array([weight, 1 - weight]), jnp.array([low, high])
    return ElementMixture(weights, means, jnp.full(2, sd**2), LEVELS)


def test_weights_are_the_posterior_probabilities_of_the_modes():
    """Sources of two values each, whose sum is one of two: each mode of the sum has two, (a, b) or
    (b, a). Samples at the centres of the modes get the exact probabilities of the modes as the
    draws of noise and their levels grow.
    """
    # the mixture is 0: the modes are (low, high) and (high, low); many frames are many draws
    sources = jnp.array([[-1.0, 1.0], [1.0, -1.0]])[
        ..., None, None
    ]  # [source, sample, frame, band]
    sources = jnp.broadcast_to(sources, (2, 2, 4000, 1))
    for p, q in ((0.7, 0.4), (0.5, 0.8), (0.3, 0.1)):
        joint = np.array([p * (1 - q), (1 - p) * q])
        priors = two_modes(p), two_modes(q)
        nats = implausibility(priors, jax.random.key(3), sources, LEVELS, keep=1)
        found = evidence_weights(nats.mean(1), 1.0)
        np.testing.assert_allclose(found, joint / joint.sum(), atol=0.01)


def test_implausibility_of_a_gaussian():
    """D - x = (1 - c) (mean - x) + c sigma n, c = v / (v + sigma^2), n the same for all samples."""
    near = jax.random.uniform(jax.random.key(0), (2, 1, 5, 400))  # [source, batch, frame, band]
    sources, levels = jnp.concatenate([near, near + 0.9], 1), jnp.array([0.5, 0.2])
    whole, local = (
        np.asarray(implausibility((flat(), flat()), jax.random.key(0), sources, levels, keep))
        for keep in (0, 1)
    )
    squares = np.square(np.asarray(sources) - 0.4).sum((0, 3))
    change = np.mean([(s / (0.09 + s**2)) ** 2 for s in (0.5, 0.2)]) * np.log(0.5 / 0.2)
    np.testing.assert_allclose(local[1] - local[0], change * (squares[1] - squares[0]), rtol=0.1)
    np.testing.assert_allclose(local.sum(1), whole, rtol=1e-5)
    assert local.shape == (2, 5)
    # one level counts as a range of one
    one = implausibility((flat(), flat()), jax.random.key(0), sources, levels[:1].repeat(2))
    change = (0.5 / (0.09 + 0.25)) ** 2 * (squares[1] - squares[0]).sum()
    np.testing.assert_allclose(one[1] - one[0], change, rtol=0.1)


def test_surprise_of_a_gaussian():
    near = jax.random.uniform(jax.random.key(0), (2, 1, 32, 32))
    sources = jnp.concatenate([near, near + 0.9], 1)
    squares = np.square(np.asarray(sources) - 0.4).sum((0, 2, 3))

    def error(*levels):
        """Return the relative error of the difference of two samples."""
        found = surprise((flat(), flat()), jax.random.key(0), sources, jnp.array(levels))
        # -ln N(x + sigma n; mean, v + sigma^2)
        exact = np.mean([1 / (0.09 + s**2) for s in levels]) / 2 * (squares[1] - squares[0])
        return abs((found[1] - found[0]) / exact - 1)

    assert error(0.5, 0.2) < 0.1
    assert error(*[0.2] * 64) < error(0.2) / 3  # a level named often has as many draws


def test_weights_are_those_of_boltzmann():
    found = jnp.array([[1.0, 2.0], [4.0, 2.0]])
    weights = np.asarray(evidence_weights(found, 3.0))
    np.testing.assert_allclose(weights[0] / weights[1], [np.e, 1], rtol=1e-5)
    np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-6)
    np.testing.assert_array_equal(evidence_weights(found[:, :1], 0.0), [[1], [0]])


@pytest.mark.parametrize("axis", [1, 2])
def test_stretches_are_judged_by_themselves(axis):
    """One of two samples is right in the first half of the axis, the other one in the second."""
    nats = np.random.default_rng(0).normal(size=(2, 3, 200)).astype(np.float32)
    nats[0, :, 100:] += 4
    nats[1, :, :100] += 4
    turned = jnp.asarray(nats if axis == 2 else nats.swapaxes(1, 2))
    weights = np.asarray(evidence_weights(turned, 10.0, stretch=6.0, axis=axis))
    weights = weights if axis == 2 else weights.swapaxes(1, 2)
    np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-5)
    assert (weights[0, :, :90] > 0.95).all()  # up to both ends
    assert (weights[1, :, 110:] > 0.95).all()
    # far from the ends the window is a Gaussian with a peak of one
    sums = gaussian_filter1d(nats, 6, axis=2, truncate=8) * 6 * np.sqrt(2 * np.pi)
    plain = np.exp(-sums / 10) / np.exp(-sums / 10).sum(0)
    smooth = gaussian_filter1d(plain, 6 * 0.375, axis=2, truncate=8)
    np.testing.assert_allclose(weights[:, :, 60:140], smooth[:, :, 60:140], atol=1e-4)
