"""Samplers against closed forms: stationary laws, Gaussian posteriors, derivatives, contracts."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from basis import (
    Decibel,
    Gaussian,
    Linear,
    Problem,
    check_levels,
    gaussian_posterior,
    langevin,
    mmps,
    sample,
)
from basis.mixing import weights
from basis.mmps import moment_matching
from score import karras

GAINS = {1: [1.3], 2: [1.0, -0.6], 3: [1.0, 0.5, -1.5]}
LEVELS = jnp.asarray([1e3, 1e-3])


class WithoutSpread(NamedTuple):
    """A Gaussian without a spread, as other priors may be."""

    inner: Gaussian

    @property
    def sigmas(self):
        return self.inner.sigmas

    def score(self, x, sigma):
        return self.inner.score(x, sigma)


def gaussians(k, size, seed=0, low=0.2, high=1.5):
    """Return means and unequal diagonal variances `[k, size]`, and the priors."""
    rng = np.random.default_rng(seed)
    means = jnp.asarray(rng.normal(size=(k, size)), jnp.float32)
    variances = jnp.asarray(rng.uniform(low, high, (k, size)), jnp.float32)
    return (
        means,
        variances,
        tuple(Gaussian(m, v, LEVELS) for m, v in zip(means, variances, strict=True)),
    )


def moments(draws):
    """Return mean `[k, size]` and covariance `[k, k, size]` over chains of `[k, chain, size]`."""
    draws = np.asarray(draws, np.float64)
    centred = draws - draws.mean(1, keepdims=True)
    return draws.mean(1), np.einsum("ind,jnd->ijd", centred, centred) / draws.shape[1]


def stationary(means, variances, gains, mixture, sigma, variance, *, step, scale, at):
    """Return the exact law of the Langevin *chain* at one sigma, per element, in float64.

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


def posterior(means, variances, gains, mixture, tau):
    """Condition the joint Gaussian, per element: mean `[k, size]`, covariance `[k, k, size]`."""
    a, v = np.asarray(gains, np.float64), np.asarray(variances, np.float64)
    covariance = np.stack(
        [np.linalg.inv(np.diag(1 / v_d) + np.outer(a, a) / tau**2) for v_d in v.T], -1
    )
    pull = np.asarray(means) / v + a[:, None] * np.asarray(mixture, np.float64) / tau**2
    return np.einsum("ijd,jd->id", covariance, pull), covariance


def mmps_law(means, variances, gains, mixture, sigmas, tau, memory=1.0):
    """Return the exact law of the mmps *chain*: an affine map and fresh noise at every level.

    E[x0 | x, m] = M x + c at each level, from the closed form at a basis of x.
    """
    k, size = np.shape(means)
    means, variances = np.asarray(means, np.float64), np.asarray(variances, np.float64)
    mean = np.broadcast_to(np.asarray(mixture, np.float64), (k, size)).copy()
    law = np.repeat(np.eye(k)[..., None] * sigmas[0].astype(np.float64) ** 2, size, -1)
    for sigma, after in zip(
        sigmas.astype(np.float64), [*sigmas[1:].astype(np.float64), 0.0], strict=True
    ):
        total, kept = variances + sigma**2, memory * (after / sigma) ** 2

        def clean(x, sigma=sigma, total=total):
            return posterior(
                (sigma**2 * means + variances * x) / total,
                variances * sigma**2 / total,
                gains,
                mixture,
                tau,
            )[0]

        shift = clean(np.zeros((k, size)))
        unit = [np.where(np.arange(k)[:, None] == j, 1.0, 0.0) for j in range(k)]
        matrix = np.stack([clean(e + np.zeros((k, size))) - shift for e in unit], 1)
        step = (1 - kept) * matrix + kept * np.eye(k)[..., None]
        mean = np.einsum("ijd,jd->id", step, mean) + (1 - kept) * shift
        law = np.einsum("ijd,jld,mld->imd", step, law, step)
        law += np.eye(k)[..., None] * (after**2 - (kept * sigma) ** 2)
    return mean, law


@pytest.mark.parametrize(
    ("k", "scale", "at"), [(2, 1.0, "noisy"), (3, 2.5, "noisy"), (3, 2.5, "denoised")]
)
def test_langevin_at_one_level_has_the_stationary_law(k, scale, at):
    size, chains, sigma, variance, step = 3, 40_000, 0.7, 0.09, 0.2
    means, variances, priors = gaussians(k, size)
    gains, mixture = GAINS[k], np.array([0.5, -1.0, 2.0], np.float32)
    problem = Problem(
        priors,
        Linear(jnp.asarray(gains)),
        jnp.broadcast_to(mixture, (chains, size)),
        jnp.asarray(variance),
    )
    kernel = langevin(150, step, scale, at).step
    shape = (k, chains, size)

    @jax.jit
    def run(key):
        start, key = jax.random.split(key)
        return kernel(
            key,
            jax.random.normal(start, shape),
            problem,
            sigma,
            sigma,
            lambda key: jax.random.normal(key, shape),
        )[0]

    mean, covariance = moments(run(jax.random.key(1)))
    true_mean, true_covariance = stationary(
        means, variances, gains, mixture, sigma, variance, step=step, scale=scale, at=at
    )
    np.testing.assert_allclose(mean, true_mean, atol=0.025)  # five standard errors
    np.testing.assert_allclose(covariance, true_covariance, atol=0.035)


def test_small_langevin_steps_approach_the_law_itself():
    """Small steps have no bias: the precision is diag(1/(v+s^2)) + a a^T / gamma^2."""
    means, variances, _ = gaussians(2, 3)
    mixture, a, sigma = np.zeros(3), np.array(GAINS[2]), 0.7
    mean, covariance = stationary(
        means, variances, a, mixture, sigma, 0.09, step=1e-5, scale=1.0, at="noisy"
    )
    for d in range(3):
        precision = np.diag(1 / (np.asarray(variances)[:, d] + sigma**2))
        precision = precision + np.outer(a, a) / (sigma**2 + 0.09)
        np.testing.assert_allclose(covariance[..., d], np.linalg.inv(precision), rtol=1e-4)
    exact = posterior(means, variances + sigma**2, a, mixture, float(np.sqrt(sigma**2 + 0.09)))
    np.testing.assert_allclose(mean, exact[0], atol=1e-5)
    np.testing.assert_allclose(covariance, exact[1], atol=1e-4)


def test_langevin_ends_on_the_conditioned_mean():
    """At the last level only, a step x + sigma^2 drift removes the noise."""
    means, variances, priors = gaussians(2, 4)
    sigma, mixture, gains = 0.1, jnp.ones((3, 4)), jnp.asarray(GAINS[2])
    problem = Problem(priors, Linear(gains), mixture, jnp.asarray(0.04))
    start = jax.random.normal(jax.random.key(0), (2, 3, 4))
    kernel = jax.jit(
        partial(
            langevin(5, at="noisy").step,
            jax.random.key(1),
            start,
            problem,
            sigma,
            normal=lambda key: jax.random.normal(key, start.shape),
        )
    )
    kept, last = (kernel(sigma_next=after)[0] for after in (0.05, 0.0))
    kept, a = np.asarray(kept, np.float64), np.array(GAINS[2])
    means, variances = np.asarray(means)[:, None], np.asarray(variances)[:, None]
    score = (means - kept) / (variances + sigma**2)
    error = (1 - np.tensordot(a, kept, 1)) / (sigma**2 + 0.04)
    expected = kept + sigma**2 * (score + a[:, None, None] * error)
    np.testing.assert_allclose(last, expected, atol=1e-5)


def test_annealed_langevin_ends_in_the_posterior():
    k, size, chains, tau = 2, 3, 4000, 0.3
    means, variances, priors = gaussians(k, size)
    gains, mixture = jnp.asarray(GAINS[k]), jnp.array([0.5, -1.0, 2.0])
    problem = Problem(
        priors, Linear(gains), jnp.broadcast_to(mixture, (chains, size)), jnp.asarray(tau**2)
    )
    sigmas = jnp.asarray(karras(12, 0.1, 3.0))
    kernel = langevin(steps=150, step_size=0.3)
    draws, _ = jax.jit(partial(sample, kernel))(jax.random.key(0), problem, sigmas)
    mean, covariance = moments(draws)
    true_mean, true_covariance = posterior(means, variances, gains, mixture, tau)
    np.testing.assert_allclose(mean, true_mean, atol=0.06)
    np.testing.assert_allclose(covariance, true_covariance, atol=0.06)


@pytest.mark.parametrize("memory", [0.0, 0.5])
def test_mmps_with_fresh_noise_has_the_law_of_its_chain(memory):
    """The mean is near the posterior mean; the variance is smaller than that of the posterior."""
    size, tau, chains = 3, 0.3, 60_000
    means, variances, priors = gaussians(2, size)
    mixture = np.array([0.5, -1.0, 2.0], np.float32)
    sigmas = karras(12, 0.1, 20.0)
    problem = Problem(
        priors,
        Linear(jnp.asarray(GAINS[2])),
        jnp.broadcast_to(mixture, (chains, size)),
        jnp.asarray(tau**2),
    )
    draws, _ = jax.jit(partial(sample, mmps(memory=memory)))(
        jax.random.key(3), problem, jnp.asarray(sigmas)
    )
    law = mmps_law(means, variances, GAINS[2], mixture, sigmas, tau, memory)
    mean, covariance = moments(draws)
    largest = law[1].max()
    np.testing.assert_allclose(mean, law[0], atol=0.02 * np.sqrt(largest))
    np.testing.assert_allclose(covariance, law[1], atol=0.03 * largest)
    exact = posterior(means, variances, GAINS[2], mixture, tau)
    np.testing.assert_allclose(mean, exact[0], atol=0.15)
    if memory == 0:
        assert np.all(law[1].trace() < exact[1].trace())


def test_closed_form_posterior_is_the_joint_gaussian_conditioned():
    means, variances, _ = gaussians(3, 3)
    mixture = np.array([0.5, -1.0, 2.0])
    got = gaussian_posterior(means, variances, jnp.asarray(GAINS[3]), jnp.asarray(mixture), 0.3)
    for mine, exact in zip(got, posterior(means, variances, GAINS[3], mixture, 0.3), strict=True):
        np.testing.assert_allclose(mine, exact, atol=1e-5)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_mmps_draws_from_the_gaussian_posterior(k):
    """Few steps have exactly the law of the chain; many steps, nearly the posterior."""
    size, tau = 3, 0.3
    means, variances, priors = gaussians(k, size)
    gains, mixture = GAINS[k], np.array([0.5, -1.0, 2.0], np.float32)
    exact = posterior(means, variances, gains, mixture, tau)
    for steps, chains in ((12, 60_000), (400, 10_000))[: 1 if k == 2 else 2]:
        sigmas = karras(steps, 0.02, 20.0)
        problem = Problem(
            priors,
            Linear(jnp.asarray(gains)),
            jnp.broadcast_to(mixture, (chains, size)),
            jnp.asarray(tau**2),
        )
        draws, info = jax.jit(partial(sample, mmps()))(
            jax.random.key(2), problem, jnp.asarray(sigmas)
        )
        mean, covariance = moments(draws)
        assert info.residual.shape == (steps, chains)
        if steps == 12:
            law = mmps_law(means, variances, gains, mixture, sigmas, tau)
            largest = law[1].max()  # tolerances are five standard errors
            np.testing.assert_allclose(mean, law[0], atol=0.02 * np.sqrt(largest))
            np.testing.assert_allclose(covariance, law[1], atol=0.03 * largest)
            assert np.abs(law[1] - exact[1]).max() > 0.3 * largest  # still far from the posterior
        else:
            np.testing.assert_allclose(mean, exact[0], atol=0.05)
            np.testing.assert_allclose(covariance, exact[1], atol=0.08)


@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_mmps_with_less_memory_has_the_law_of_its_chain(memory):
    """The variance of the samples is smaller than that of the posterior by a known amount."""
    means, variances, priors = gaussians(2, 3)
    mixture, sigmas = np.array([0.5, -1.0, 2.0], np.float32), karras(12, 0.2, 5.0)
    problem = Problem(
        priors,
        Linear(jnp.asarray(GAINS[2])),
        jnp.broadcast_to(mixture, (40_000, 3)),
        jnp.asarray(0.3**2),
    )
    draws, _ = jax.jit(partial(sample, mmps(memory=memory)))(
        jax.random.key(2), problem, jnp.asarray(sigmas)
    )
    mean, covariance = moments(draws)
    law = mmps_law(means, variances, GAINS[2], mixture, sigmas, 0.3, memory)
    full = mmps_law(means, variances, GAINS[2], mixture, sigmas, 0.3)
    np.testing.assert_allclose(mean, law[0], atol=0.025 * np.sqrt(law[1].max()))
    np.testing.assert_allclose(covariance, law[1], atol=0.04 * law[1].max())
    assert np.trace(law[1][..., 0]) < 0.9 * np.trace(full[1][..., 0])


def conditioning(priors, gains, x, *, sigma, tau, iterations):
    """Return E[x0 | x, m] of moment matching at sources x `[k, batch, size]`."""
    problem = Problem(
        priors,
        Linear(jnp.asarray(gains)),
        jnp.broadcast_to(MIXTURE, x.shape[1:]).astype(jnp.float32),
        jnp.asarray(tau**2),
    )
    guidance = moment_matching(iterations)
    return np.asarray(jax.jit(lambda x: guidance(None, x, problem, sigma, None).conditioned)(x))


def exactly(means, variances, gains, x, *, sigma, tau):
    """Return E[x0 | x, m] in closed form: x0 given x is Gaussian, which the mixture conditions."""
    means, variances = np.asarray(means, np.float64), np.asarray(variances, np.float64)
    left = variances * sigma**2 / (variances + sigma**2)
    out = [
        posterior(
            (sigma**2 * means + variances * x[:, b]) / (variances + sigma**2),
            left,
            gains,
            MIXTURE,
            tau,
        )[0]
        for b in range(x.shape[1])
    ]
    return np.stack(out, 1)


MIXTURE = np.array([0.5, -1.0, 2.0, 0.0])


@pytest.mark.parametrize("k", [1, 3])
def test_one_iteration_conditions_gaussians_exactly(k):
    """The preconditioner with the spread is V itself; a scalar variance needs no spread."""
    means, variances, priors = gaussians(k, 4)
    flat = np.full((k, 4), 0.6, np.float32)
    blind = tuple(WithoutSpread(Gaussian(m, v, LEVELS)) for m, v in zip(means, flat, strict=True))
    x = 2 * np.random.default_rng(5).normal(size=(k, 2, 4)).astype(np.float32)
    for sigma in (0.1, 1.0, 10.0):
        got = conditioning(priors, GAINS[k], x, sigma=sigma, tau=0.2, iterations=1)
        exact = exactly(means, variances, GAINS[k], x, sigma=sigma, tau=0.2)
        np.testing.assert_allclose(got, exact, atol=2e-5)
    got = conditioning(blind, GAINS[k], x, sigma=1.0, tau=0.2, iterations=1)
    np.testing.assert_allclose(
        got, exactly(means, flat, GAINS[k], x, sigma=1.0, tau=0.2), atol=2e-5
    )


def test_iterations_condition_unknown_unequal_variances():
    """Without a spread, as many iterations as there are different elements are exact."""
    means, variances, priors = gaussians(2, 4, low=0.1, high=4.0)
    blind = tuple(WithoutSpread(p) for p in priors)
    x = 2 * np.random.default_rng(5).normal(size=(2, 2, 4)).astype(np.float32)
    exact = exactly(means, variances, GAINS[2], x, sigma=1.0, tau=0.2)
    errors = [
        np.abs(conditioning(blind, GAINS[2], x, sigma=1.0, tau=0.2, iterations=n) - exact).max()
        for n in (1, 2, 4)
    ]
    assert errors[0] > 0.02
    assert errors[0] > 2 * errors[1]
    assert errors[2] < 1e-4


def test_unseen_elements_are_drawn_from_their_priors():
    means, variances, priors = gaussians(2, 2)
    chains, sigmas = 10_000, karras(100, 0.01, 30.0)
    problem = Problem(
        priors, Linear(jnp.ones(2)), jnp.full((chains, 2), 3.0), jnp.array([1e12, 0.01])
    )
    draws, info = jax.jit(partial(sample, mmps()))(jax.random.key(2), problem, jnp.asarray(sigmas))
    mean, covariance = moments(draws)
    np.testing.assert_allclose(mean[:, 0], means[:, 0], atol=0.06)
    law = mmps_law(means[:, :1], variances[:, :1], [1, 1], [3.0], sigmas, 1e6)
    np.testing.assert_allclose(covariance[..., 0], law[1][..., 0], atol=0.06)
    np.testing.assert_allclose(covariance[..., 0], np.diag(variances[:, 0]), atol=0.15)
    # the residual over observed elements is about the sd of the observation
    assert float(jnp.sqrt((info.residual[-1] ** 2).mean())) == pytest.approx(0.1, rel=0.1)


def test_decibel_map_shifts_doubles_and_adds_powers():
    beta, rng = 5.0, np.random.default_rng(0)
    z, gains = rng.normal(size=(3, 4, 5)).astype(np.float32), np.array([0.3, -1.0, 2.0], np.float32)

    @jax.jit
    def mix(z, gains):
        return Decibel(jnp.asarray(beta), gains)(z)

    np.testing.assert_allclose(mix(z + 2.5, gains), mix(z, gains) + np.float32(2.5), atol=1e-5)
    for k in (1, 2, 5):
        equal = mix(np.repeat(z[:1], k, 0), np.zeros(k, np.float32))
        np.testing.assert_allclose(equal, z[0] + np.log(k) / beta, atol=1e-6)
    powers = np.exp(beta * z.astype(np.float64) + gains[:, None, None]).sum(0)
    np.testing.assert_allclose(mix(z, gains), np.log(powers) / beta, atol=1e-5)
    assert np.isfinite(mix(z + np.float32(1e4), gains)).all()  # the largest is taken out


def test_decibel_gradient_is_the_softmax_and_the_slope():
    beta, gains = 3.0, np.array([0.5, -0.5], np.float32)
    mix = Decibel(jnp.asarray(beta), jnp.asarray(gains))
    z = 0.5 * np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    w = np.asarray(jax.jit(partial(weights, mix))(z))
    powers = np.exp(beta * z + gains[:, None])
    np.testing.assert_allclose(w, powers / powers.sum(0), atol=1e-6)
    h, mix = np.float32(1e-2), jax.jit(lambda z, mix=mix: mix(z))
    for k in range(2):
        bump = h * np.eye(2, dtype=np.float32)[:, k : k + 1]
        slope = (np.asarray(mix(z + bump), np.float64) - mix(z - bump)) / (2 * h)
        np.testing.assert_allclose(w[k], slope, atol=5e-4)
    np.testing.assert_allclose(weights(Linear(jnp.array([2.0, -3.0])), z)[1], -3.0)


@pytest.mark.parametrize(
    ("make", "mixing"),
    [(partial(langevin, 5), Linear), (mmps, lambda gains: Decibel(jnp.asarray(3.0), gains))],
)
def test_sources_may_be_permuted(make, mixing):
    _, _, priors = gaussians(3, 4)
    gains, order = jnp.array([1.0, 0.5, -0.7]), np.array([2, 0, 1])
    sigmas = jnp.asarray(karras(6, 0.1, 2.0))

    @jax.jit
    def run(priors, gains, order):
        problem = Problem(priors, mixing(gains), jnp.ones((2, 4)), jnp.asarray(0.01))
        return sample(
            make(),
            jax.random.key(3),
            problem,
            sigmas,
            lambda key: jax.random.normal(key, (3, 2, 4))[order],
        )[0]

    straight = run(priors, gains, np.arange(3))
    turned = run(tuple(priors[i] for i in order), gains[order], order)
    np.testing.assert_allclose(turned, straight[order], atol=1e-4)
    assert np.abs(turned - straight).max() > 0.1


@pytest.mark.parametrize("make", [partial(mmps, 2), partial(langevin, 5)])
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


def test_one_exactly_observed_source_is_the_mixture():
    _, _, priors = gaussians(1, 4)
    mixture = jnp.array([[0.3, -1.0, 0.5, 2.0]])
    mixing = Decibel(jnp.asarray(4.0), jnp.zeros(1))
    problem = Problem(priors, mixing, mixture, jnp.asarray(1e-8))
    draws, info = jax.jit(partial(sample, mmps()))(
        jax.random.key(0), problem, jnp.asarray(karras(20, 0.01, 5.0))
    )
    np.testing.assert_allclose(draws[0], mixture, atol=1e-3)
    assert float(info.residual[-1, 0]) < 0.05


def test_levels_are_checked_with_a_remedy():
    narrow = Gaussian(jnp.zeros(1), jnp.ones(1), jnp.array([1.0, 0.1]))
    wide = narrow._replace(sigmas=jnp.array([10.0, 0.01]))
    check_levels([wide, narrow], [1.0, 0.5, 0.1])
    for bad in (0.01, 2.0):
        with pytest.raises(
            ValueError,
            match=(rf"prior 1 \(Gaussian\) .* sigma={bad:.4g}; .* from 1 to 0\.1: .*train it"),
        ):
            check_levels([wide, narrow], [0.5, bad])
    with pytest.raises(ValueError, match="at least one prior"):
        check_levels([], [1.0])


def test_an_unknown_place_of_the_mixing_map_is_refused():
    with pytest.raises(ValueError, match="'noisy' or 'denoised', not 'clean'"):
        langevin(at="clean")
