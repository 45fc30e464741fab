"""Log densities by the probability-flow ODE, against densities known in closed form."""

from functools import partial
from types import SimpleNamespace

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
from gensep import density
from gensep.errors import UserError
from gensep.priors import make_edm
from score import EDMPrior, karras

LOW, HIGH = 0.05, 5.0


def gaussian(size=8, seed=0):
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(size, size)))[0]
    covariance = axes * np.geomspace(0.02, 2, size) @ axes.T
    return full_gaussian(jnp.asarray(rng.normal(size=size)), jnp.asarray(covariance),
                         jnp.asarray([HIGH, LOW]))


def levels(steps, low=LOW, high=HIGH):
    return jnp.asarray(karras(steps + 1, low, high), float)


def test_gaussians_are_exact_and_the_error_is_of_second_order():
    """`terminal` is the prior itself, so that the ODE's own error is all that is left."""
    with jax.enable_x64():
        prior = gaussian()
        x = prior.sample(jax.random.key(1), 5)
        errors, told = [], []
        for steps in (32, 64):
            found = log_likelihood(prior, jax.random.key(0), x, levels(steps), exact=True,
                                   terminal=prior, block=2)
            true = prior.log_prob(x, levels(steps)[-1])
            errors.append(np.abs(found.nats - true))
            told.append(found.step_error)
            np.testing.assert_array_equal(found.probe_error, 0)
        assert (errors[1] < 2e-3 * np.abs(true)).all()
        assert 3.5 < errors[0].mean() / errors[1].mean() < 4.5
        assert 0.8 < told[1].mean() / errors[1].mean() < 1.2  # and it knows


def test_probes_are_unbiased_within_their_standard_error():
    prior = gaussian()
    x = prior.sample(jax.random.key(1), 3)
    run = partial(log_likelihood, prior, x=x, sigmas=levels(16))
    true = run(jax.random.key(0), exact=True).nats
    found = run(jax.random.key(3), probes=400)
    off = (found.nats - true) / found.probe_error
    assert (found.probe_error > 0).all()
    assert (np.abs(off) < 3.5).all()
    # the standard error is that of estimates with other probes
    few = [run(jax.random.key(i), probes=8) for i in range(24)]
    told = np.mean([one.probe_error for one in few], axis=0)
    np.testing.assert_allclose(np.std([one.nats for one in few], 0, ddof=1), told, rtol=0.5)


def test_a_mixture_integrates_to_one_and_has_its_own_density():
    prior = gaussian_mixture(jnp.array([0.3, 0.7]), jnp.array([[-1.0, 0.5], [0.8, -0.4]]),
                             jnp.array([[0.1, 0.3], [0.25, 0.05]]), jnp.array([5.0, 0.2]))
    edge = jnp.linspace(-3.6, 3.6, 49)
    grid = jnp.stack(jnp.meshgrid(edge, edge), -1).reshape(-1, 2)
    found = log_likelihood(prior, jax.random.key(0), grid, levels(48, low=0.2), exact=True,
                           block=800)
    assert abs(float(jnp.exp(found.nats).sum() * (edge[1] - edge[0]) ** 2) - 1) < 0.01
    true = prior.log_prob(grid, 0.2)
    seen = true > -5
    # the default start is the Gaussian of the mixture's moments, right but for its shape
    np.testing.assert_allclose(found.nats[seen], true[seen], atol=0.1)
    mean, variance = prior.moments()
    assert isinstance(terminal_of(prior), Gaussian)
    np.testing.assert_allclose(terminal_of(prior).variance, variance)
    np.testing.assert_allclose(mean, 0.3 * np.array([-1, 0.5]) + 0.7 * np.array([0.8, -0.4]),
                               rtol=1e-6)
    # a prior that tells nothing of itself starts from noise alone
    assert terminal_of(SimpleNamespace(sigmas=prior.sigmas)).variance == 0


def network():
    """Give an untrained network: zeros throughout, so its denoiser is that of a Gaussian."""
    mean = np.linspace(-0.5, 0.5, 5).astype(np.float32)
    net = make_edm({"n_mels": 5, "width": 8, "blocks": 1, "sigma_data": 0.6, "mean": mean})
    return EDMPrior(net, jnp.array([2.0, 0.1]), jnp.ones((2, 5))), Gaussian(mean, 0.36, None)


def test_networks_tell_where_they_start_from():
    prior, same = network()
    x = np.random.default_rng(0).normal(size=(3, 7, 5)).astype(np.float32)
    found = log_likelihood(prior, jax.random.key(0), x, levels(64, 0.1, 2.0), exact=True, block=3)
    np.testing.assert_allclose(found.nats, same.log_prob(x, 0.1), rtol=2e-3)


def test_the_bound_is_tight_for_true_scores_and_below_for_others():
    with jax.enable_x64():
        prior, rng = gaussian(), np.random.default_rng(0)
        x = prior.sample(jax.random.key(1), 4000)
        noisy = x + LOW * rng.normal(size=x.shape)
        bound = partial(denoising_bound, key=jax.random.key(0), x=x, low=LOW, high=HIGH,
                        levels=64, terminal=prior, block=1000)
        found, true = bound(prior), prior.log_prob(noisy, LOW)
        error = np.std(found - true) / np.sqrt(len(x))
        assert abs(np.mean(found - true)) < 4 * error
        wrong = prior._replace(variances=2 * prior.variances)
        worse = np.mean(bound(wrong)) - np.mean(wrong.log_prob(noisy, LOW))
        assert np.mean(bound(wrong)) < np.mean(found) - 10 * error
        assert worse < 3 * error


def test_fits_are_told_per_dimension_and_stay_above_the_floor():
    prior = gaussian()
    x = np.asarray(prior.sample(jax.random.key(1), 64))
    sigmas = density.make_levels(prior, 33)
    for noise in (True, False):
        found = density.fit(prior, x, sigmas, noise=noise, probes=8, terminal=prior)
        true = -prior.log_prob(x, LOW).mean() / 8
        assert abs(found.nll.mean() - true) < (0.2 if noise else 0.02)
        assert found.nll.mean() > density.floor_of(LOW, noise=noise)
        assert 0 < found.probe_error < 0.05
        assert 0 < found.step_error < 0.02
    # a point mass, seen with the noise of the density, is at the floor itself
    point = full_gaussian(jnp.zeros(8), jnp.zeros((8, 8)), prior.sigmas)
    found = density.fit(point, 0 * x, sigmas, noise=True, probes=8, terminal=point)
    assert abs(found.nll.mean() - density.floor_of(LOW, noise=True)) < 0.1
    assert np.isnan(density.fit(prior, x, sigmas, noise=True, ode=False).nll).all()


@pytest.mark.parametrize(("count", "sigma"), [(2, None), (9, 0.01), (9, 6.0)])
def test_levels_that_the_prior_does_not_know_are_refused(count, sigma):
    with pytest.raises(UserError, match="expected"):
        density.make_levels(gaussian(), count, sigma)
