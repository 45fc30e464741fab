"""Samplers against closed forms: stationary laws, Gaussian posteriors, derivatives, contracts."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from basis import (Decibel, Gaussian, Linear, Problem, check_levels, gaussian_posterior, langevin,
                   mmps, sample)
from basis.mixing import weights
from basis.mmps import condition
from score import karras

GAINS = {1: [1.3], 2: [1.0, -0.6], 3: [1.0, 0.5, -1.5]}
LEVELS = jnp.asarray([1e3, 1e-3])


class WithoutSpread(NamedTuple):
    """A Gaussian that does not tell its spread, as an unknown prior may."""

    inner: Gaussian

    @property
    def sigmas(self):
        return self.inner.sigmas

    def score(self, x, sigma):
        return self.inner.score(x, sigma)


def gaussians(k, size, seed=0, low=0.2, high=1.5):
    """Give means and unequal diagonal variances `[k, size]`, and the priors."""
    rng = np.random.default_rng(seed)
    means = jnp.asarray(rng.normal(size=(k, size)), jnp.float32)
    variances = jnp.asarray(rng.uniform(low, high, (k, size)), jnp.float32)
    return means, variances, tuple(Gaussian(m, v, LEVELS) for m, v in zip(means, variances,
                                                                          strict=True))


def moments(draws):
    """Give mean `[k, size]` and covariance `[k, k, size]` over chains of `[k, chain, size]`."""
    draws = np.asarray(draws, np.float64)
    centred = draws - draws.mean(1, keepdims=True)
    return draws.mean(1), np.einsum("ind,jnd->ijd", centred, centred) / draws.shape[1]


def stationary(means, variances, gains, mixture, sigma, variance, *, step, scale, at):
    """Give the exact law of the Langevin *chain* at one sigma, per element, in float64.

    The chain x' = x + eta (b - A x) + sqrt(2 eta) n has mean A^-1 b and the covariance S of
    S = M S M^T + 2 eta I, M = I - eta A. At `noisy`, A = diag(1 / (v + sigma^2)) + a a^T / gamma^2.
    """
    k, size = means.shape
    a, eta = np.asarray(gains, np.float64), step * sigma**2
    gamma2 = scale * sigma**2 + variance
    mean, covariance = np.zeros((k, size)), np.zeros((k, k, size))
    for d in range(size):
        mu, v = (np.asarray(x[:, d], np.float64) for x in (means, variances))
        total = v + sigma**2
        shrink, shift = (v / total, mu * sigma**2 / total) if at == "denoised" else (1 + 0 * v, 0)
        precision = np.diag(1 / total) + np.outer(a, a * shrink) / gamma2
        b = mu / total + a * (float(mixture[d]) - a @ (shift + 0 * mu)) / gamma2
        move = np.eye(k) - eta * precision
        lifted = np.eye(k * k) - np.kron(move, move)
        mean[:, d] = np.linalg.solve(precision, b)
        covariance[..., d] = np.linalg.solve(lifted, 2 * eta * np.eye(k).ravel()).reshape(k, k)
    return mean, covariance


@pytest.mark.parametrize("at", ["noisy", "denoised"])
@pytest.mark.parametrize(("k", "scale"), [(2, 1.0), (3, 2.5)])
def test_langevin_at_one_level_has_the_stationary_law(k, scale, at):
    size, chains, sigma, variance, step = 3, 40_000, 0.7, 0.09, 0.2
    means, variances, priors = gaussians(k, size)
    gains, mixture = GAINS[k], np.array([0.5, -1.0, 2.0], np.float32)
    problem = Problem(priors, Linear(jnp.asarray(gains)), jnp.broadcast_to(mixture, (chains, size)),
                      jnp.asarray(variance))
    kernel = langevin(150, step, scale, at)
    shape = (k, chains, size)

    @jax.jit
    def run(key):
        start, key = jax.random.split(key)
        return kernel(key, jax.random.normal(start, shape), problem, sigma, sigma,
                      lambda key: jax.random.normal(key, shape))[0]

    mean, covariance = moments(run(jax.random.key(1)))
    true_mean, true_covariance = stationary(means, variances, gains, mixture, sigma, variance,
                                            step=step, scale=scale, at=at)
    np.testing.assert_allclose(mean, true_mean, atol=0.025)  # five standard errors
    np.testing.assert_allclose(covariance, true_covariance, atol=0.035)


def test_small_langevin_steps_approach_the_law_itself():
    """As steps shrink the chain forgets its step: precision diag(1/(v+s^2)) + a a^T / gamma^2."""
    means, variances, _ = gaussians(2, 3)
    mixture, a, sigma = np.zeros(3), np.array(GAINS[2]), 0.7
    mean, covariance = stationary(means, variances, a, mixture, sigma, 0.09, step=1e-5, scale=1.0,
                                  at="noisy")
    for d in range(3):
        precision = np.diag(1 / (np.asarray(variances)[:, d] + sigma**2))
        precision = precision + np.outer(a, a) / (sigma**2 + 0.09)
        np.testing.assert_allclose(covariance[..., d], np.linalg.inv(precision), rtol=1e-4)
    posterior = gaussian_posterior(means, variances + sigma**2, jnp.asarray(a), jnp.zeros(3),
                                   float(np.sqrt(sigma**2 + 0.09)))
    np.testing.assert_allclose(mean, posterior[0], atol=1e-5)
    np.testing.assert_allclose(covariance, posterior[1], atol=1e-4)


def test_langevin_ends_on_the_conditioned_mean():
    """At the last level one step x + sigma^2 drift takes the noise off; otherwise nothing is."""
    means, variances, priors = gaussians(2, 4)
    sigma, mixture, gains = 0.1, jnp.ones((3, 4)), jnp.asarray(GAINS[2])
    problem = Problem(priors, Linear(gains), mixture, jnp.asarray(0.04))
    start = jax.random.normal(jax.random.key(0), (2, 3, 4))
    kernel, noise = langevin(5, at="noisy"), lambda key: jax.random.normal(key, start.shape)
    kept, last = (kernel(jax.random.key(1), start, problem, sigma, after, noise)[0]
                  for after in (0.05, 0.0))
    score = jnp.stack([p.score(x, sigma) for p, x in zip(priors, kept, strict=True)])
    error = (mixture - jnp.tensordot(gains, kept, 1)) / (sigma**2 + 0.04)
    expected = kept + sigma**2 * (score + gains[:, None, None] * error)
    np.testing.assert_allclose(last, expected, atol=1e-5)


def test_annealed_langevin_ends_in_the_posterior():
    k, size, chains, tau = 2, 3, 4000, 0.3
    means, variances, priors = gaussians(k, size)
    gains, mixture = jnp.asarray(GAINS[k]), jnp.array([0.5, -1.0, 2.0])
    problem = Problem(priors, Linear(gains), jnp.broadcast_to(mixture, (chains, size)),
                      jnp.asarray(tau**2))
    sigmas = jnp.asarray(karras(12, 0.1, 3.0))
    kernel = langevin(steps=150, step_size=0.3)
    draws, _ = jax.jit(lambda key: sample(kernel, key, problem, sigmas))(jax.random.key(0))
    mean, covariance = moments(draws)
    true_mean, true_covariance = gaussian_posterior(means, variances, gains, mixture, tau)
    np.testing.assert_allclose(mean, true_mean, atol=0.06)
    np.testing.assert_allclose(covariance, true_covariance, atol=0.06)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_mmps_draws_from_the_gaussian_posterior(k):
    size, chains, tau = 3, 20_000, 0.3
    means, variances, priors = gaussians(k, size)
    gains, mixture = jnp.asarray(GAINS[k]), jnp.array([0.5, -1.0, 2.0])
    problem = Problem(priors, Linear(gains), jnp.broadcast_to(mixture, (chains, size)),
                      jnp.asarray(tau**2))
    sigmas = jnp.asarray(karras(200, 0.01, 30.0))
    draws, info = jax.jit(lambda key: sample(mmps(), key, problem, sigmas))(jax.random.key(2))
    mean, covariance = moments(draws)
    true_mean, true_covariance = gaussian_posterior(means, variances, gains, mixture, tau)
    np.testing.assert_allclose(mean, true_mean, atol=0.03)
    np.testing.assert_allclose(covariance, true_covariance, atol=0.03)
    assert info.residual.shape == (200, chains)


def test_closed_form_posterior_is_the_joint_gaussian_conditioned():
    means, variances, _ = gaussians(3, 2)
    gains, mixture, tau = jnp.asarray(GAINS[3]), jnp.array([0.5, -1.0]), 0.3
    mean, covariance = gaussian_posterior(means, variances, gains, mixture, tau)
    for d in range(2):
        a, v = np.asarray(gains, np.float64), np.asarray(variances, np.float64)[:, d]
        inverse = np.linalg.inv(np.diag(1 / v) + np.outer(a, a) / tau**2)
        shifted = np.asarray(means)[:, d] / v + a * float(mixture[d]) / tau**2
        np.testing.assert_allclose(covariance[..., d], inverse, atol=1e-5)
        np.testing.assert_allclose(mean[:, d], inverse @ shifted, atol=1e-5)


def conditioned(means, variances, priors, gains, mixture, *, sigma, tau, iterations):
    """Give E[x0 | x, m] of `condition` and of the closed form at random x, `[k, 2, size]`."""
    k, size = means.shape
    x = 2 * jax.random.normal(jax.random.key(5), (k, 2, size))
    problem = Problem(priors, Linear(gains), jnp.broadcast_to(mixture, (2, size)),
                      jnp.asarray(tau**2))
    _, got = condition(x, problem, jnp.asarray(sigma), iterations, 5.0)
    # x0 given x is Gaussian in every element; the mixture then conditions these
    shrunk = (sigma**2 * means + variances * x.swapaxes(0, 1)) / (variances + sigma**2)
    left = variances * sigma**2 / (variances + sigma**2)
    exact = jnp.stack([gaussian_posterior(mu, left, gains, mixture, tau)[0] for mu in shrunk])
    return got, exact.swapaxes(0, 1)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_one_iteration_conditions_gaussians_exactly(k, sigma):
    """The spread makes the preconditioner V itself; a scalar variance needs not even that."""
    gains, mixture = jnp.asarray(GAINS[k]), jnp.array([0.5, -1.0, 2.0, 0.0])
    means, variances, priors = gaussians(k, 4)
    got, exact = conditioned(means, variances, priors, gains, mixture, sigma=sigma, tau=0.2,
                             iterations=1)
    np.testing.assert_allclose(got, exact, atol=2e-5)
    flat = jnp.full_like(variances, 0.6)
    blind = tuple(WithoutSpread(Gaussian(m, v, LEVELS)) for m, v in zip(means, flat, strict=True))
    got, exact = conditioned(means, flat, blind, gains, mixture, sigma=min(sigma, 1.0), tau=0.2,
                             iterations=1)
    np.testing.assert_allclose(got, exact, atol=2e-5)


def test_iterations_condition_unknown_unequal_variances():
    """Without a spread, as many iterations as there are different elements are exact."""
    gains, mixture = jnp.asarray(GAINS[2]), jnp.array([0.5, -1.0, 2.0, 0.0])
    means, variances, priors = gaussians(2, 4, low=0.1, high=4.0)
    blind = tuple(WithoutSpread(p) for p in priors)
    solve = partial(conditioned, means, variances, blind, gains, mixture, sigma=1.0, tau=0.2)
    errors = [float(jnp.abs(jnp.subtract(*solve(iterations=n))).max()) for n in (1, 2, 4)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2] or errors[2] < 1e-4 < errors[1] < errors[0]
    assert errors[2] < 1e-4


def test_unseen_elements_are_drawn_from_their_priors():
    means, variances, priors = gaussians(2, 2)
    chains = 10_000
    problem = Problem(priors, Linear(jnp.ones(2)), jnp.full((chains, 2), 3.0),
                      jnp.array([1e12, 0.01]))
    sigmas = jnp.asarray(karras(100, 0.01, 30.0))
    draws, info = jax.jit(lambda key: sample(mmps(), key, problem, sigmas))(jax.random.key(2))
    mean, covariance = moments(draws)
    np.testing.assert_allclose(mean[:, 0], means[:, 0], atol=0.06)
    np.testing.assert_allclose(covariance[..., 0], np.diag(variances[:, 0]), atol=0.06)
    # the residual is over what is seen: about the sd of the observation
    assert float(jnp.sqrt((info.residual[-1] ** 2).mean())) == pytest.approx(0.1, rel=0.1)


def test_decibel_map_shifts_and_doubles():
    beta = 5.0
    mix = Decibel(jnp.asarray(beta), jnp.zeros(3))
    z = jax.random.normal(jax.random.key(0), (3, 4, 5))
    np.testing.assert_allclose(mix(z + 2.5), mix(z) + 2.5, rtol=1e-5)
    for k in (1, 2, 5):
        equal = Decibel(jnp.asarray(beta), jnp.zeros(k))(jnp.broadcast_to(z[0], (k, 4, 5)))
        np.testing.assert_allclose(equal, z[0] + np.log(k) / beta, atol=1e-6)
    # a gain of g natural units lifts its source by g / beta, and powers add
    gains = jnp.array([0.3, -1.0, 2.0])
    lifted = Decibel(jnp.asarray(beta), gains)(z)
    powers = np.exp(beta * np.asarray(z, np.float64) + np.asarray(gains)[:, None, None]).sum(0)
    np.testing.assert_allclose(lifted, np.log(powers) / beta, atol=1e-5)
    # nothing overflows: the largest is taken out
    assert np.isfinite(mix(z + 1e4)).all()


def test_decibel_gradient_is_the_softmax_and_the_slope():
    beta, gains = 3.0, jnp.array([0.5, -0.5])
    mix = Decibel(jnp.asarray(beta), gains)
    z = 0.5 * jax.random.normal(jax.random.key(0), (2, 6))
    w = weights(mix, z)
    np.testing.assert_allclose(w, jax.nn.softmax(beta * z + gains[:, None], axis=0), atol=1e-6)
    np.testing.assert_allclose(w.sum(0), 1, atol=1e-6)
    h = 1e-2
    for k in range(2):
        bump = jnp.zeros((2, 1)).at[k].set(h)
        slope = (np.asarray(mix(z + bump), np.float64) - mix(z - bump)) / (2 * h)
        np.testing.assert_allclose(w[k], slope, atol=5e-4)
    np.testing.assert_allclose(weights(Linear(jnp.array([2.0, -3.0])), z)[1], -3.0)


@pytest.mark.parametrize("mixing", ["linear", "decibel"])
@pytest.mark.parametrize("make", [mmps, partial(langevin, 5)])
def test_sources_may_be_permuted(make, mixing):
    _, _, priors = gaussians(3, 4)
    gains, order = jnp.array([1.0, 0.5, -0.7]), np.array([2, 0, 1])
    mixture, sigmas = jnp.ones((2, 4)), jnp.asarray(karras(6, 0.1, 2.0))

    def run(order):
        mix = Linear(gains[order]) if mixing == "linear" else Decibel(jnp.asarray(3.0),
                                                                      gains[order])
        problem = Problem(tuple(priors[i] for i in order), mix, mixture, jnp.asarray(0.01))

        def normal(key):
            return jax.random.normal(key, (3, 2, 4))[order]

        return sample(make(), jax.random.key(3), problem, sigmas, normal)[0]

    np.testing.assert_allclose(run(order), run(np.arange(3))[order], atol=1e-4)


@pytest.mark.parametrize("make", [mmps, partial(mmps, 2), partial(langevin, 5)])
def test_keys_decide_and_weights_do_not_trace_again(make):
    _, _, priors = gaussians(2, 4)
    traced = []

    @jax.jit
    def run(key, problem, sigmas):
        traced.append(1)
        return sample(make(), key, problem, sigmas)

    mixture, sigmas = jnp.ones((3, 4)), jnp.asarray(karras(5, 0.1, 2.0))
    problem = Problem(priors, Linear(jnp.ones(2)), mixture, jnp.asarray(0.01))
    first, info = run(jax.random.key(0), problem, sigmas)
    again, _ = run(jax.random.key(0), problem, sigmas)
    other, _ = run(jax.random.key(1), problem, sigmas)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).min() > 0
    assert first.shape == (2, 3, 4)
    assert info.residual.shape == (5, 3)
    # every element has its own noise
    assert len(np.unique(np.asarray(first))) == first.size
    changed = jax.tree.map(lambda x: x * 1.1, problem)
    moved, _ = run(jax.random.key(0), changed, sigmas * 0.9)
    assert np.abs(first - moved).min() > 0
    assert len(traced) == 1
    assert run._cache_size() == 1


@pytest.mark.parametrize("mixing", [Linear(jnp.ones(1)), Decibel(jnp.asarray(4.0), jnp.zeros(1))])
def test_one_exactly_observed_source_is_the_mixture(mixing):
    _, _, priors = gaussians(1, 4)
    mixture = jnp.array([[0.3, -1.0, 0.5, 2.0]])
    problem = Problem(priors, mixing, mixture, jnp.asarray(1e-8))
    draws, info = sample(mmps(), jax.random.key(0), problem, jnp.asarray(karras(20, 0.01, 5.0)))
    np.testing.assert_allclose(draws[0], mixture, atol=1e-3)
    assert float(info.residual[-1, 0]) < 0.05


def test_levels_are_checked_with_a_remedy():
    narrow = Gaussian(jnp.zeros(1), jnp.ones(1), jnp.array([1.0, 0.1]))
    wide = narrow._replace(sigmas=jnp.array([10.0, 0.01]))
    check_levels([wide, narrow], [1.0, 0.5, 0.1])
    for bad in (0.01, 2.0):
        with pytest.raises(ValueError, match=(
                rf"prior 1 \(Gaussian\) .* sigma={bad:.4g}; .* from 1 to 0\.1: .*train it")):
            check_levels([wide, narrow], [0.5, bad])
    with pytest.raises(ValueError, match="at least one prior"):
        check_levels([], [1.0])


def test_a_wrong_number_of_sources_or_mode_is_refused():
    with pytest.raises(ValueError, match="'noisy' or 'denoised', not 'clean'"):
        langevin(at="clean")
