"""Exact priors, posteriors and diagnostics against integration, and samplers against them."""

import importlib.util
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from basis import Decibel, Gaussian, Linear, Problem, langevin, mmps, sample
from basis.closed_form import gaussian_posterior, mixture_posterior
from basis.diagnostics import (
    averaging_law,
    check_langevin,
    coverage,
    mse_of_mean,
    rank_uniformity,
    sbc_ranks,
    sliced_wasserstein,
    stability,
)
from basis.gmm import ElementMixture, full_gaussian, gaussian_mixture
from basis.mixing import elementwise
from basis.mmps import solve
from basis.quadrature import bin_posterior, split
from basis.toys import CASES, random_mixture
from helpers import ROOT
from score import karras

SIGMAS = jnp.asarray([1e4, 1e-4])
pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture(autouse=True)
def double():
    """Compute in float64, because comparisons need more digits than float32 has."""
    with jax.enable_x64():
        yield


def mixture_of(seed, components, size):
    """Return weights, means and full covariances, and the prior."""
    rng = np.random.default_rng(seed)
    weights, means = rng.dirichlet([3.0] * components), rng.normal(size=(components, size))
    roots = rng.normal(size=(components, size, size)) * 0.4
    covariances = roots @ roots.swapaxes(1, 2) + 0.05 * np.eye(size)
    return weights, means, covariances, gaussian_mixture(weights, means, covariances, SIGMAS)


# compiled as a whole, because compiling operations one by one takes longer
score = jax.jit(lambda prior, x, sigma: prior.score(x, sigma))
log_prob = jax.jit(lambda prior, x, sigma: prior.log_prob(x, sigma))
slope_of = jax.jit(jax.grad(lambda x, prior, sigma: prior.log_prob(x, sigma).sum()))


@jax.jit
def posterior(priors, gains, mixture, tau):
    """Return the posterior, its mean and its covariance."""
    exact = mixture_posterior(priors, gains, mixture, tau)
    return exact, exact.mean(), exact.covariance()


def normal_pdf(x, mean, variance):
    return np.exp(-0.5 * (x - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)


def pdf(x, weights, means, variances):
    """Return a one-dimensional mixture's density."""
    return sum(w * normal_pdf(x, m, v) for w, m, v in zip(weights, means, variances, strict=True))


# priors


def test_a_mixture_is_its_density_with_noise_and_its_score_the_gradient():
    weights, means, covariances, prior = mixture_of(0, 3, 4)
    x = np.random.default_rng(1).normal(size=(5, 4))
    for sigma in (0.0, 0.3, 4.0):
        exact = sum(
            w * scipy.stats.multivariate_normal(m, c + sigma**2 * np.eye(4)).pdf(x)
            for w, m, c in zip(weights, means, covariances, strict=True)
        )
        np.testing.assert_allclose(log_prob(prior, x, sigma), np.log(exact), rtol=1e-10)
        np.testing.assert_allclose(score(prior, x, sigma), slope_of(x, prior, sigma), atol=1e-9)


def test_noise_is_a_convolution():
    """Compare the noisy density of one mixture per element with the trapezoidal rule."""
    weights, means, variances = np.array([[0.3, 0.7], [-1.0, 0.5], [0.02, 0.2]])
    prior = ElementMixture(weights, means, variances, SIGMAS)
    x, sigma = np.array([[-1.5, 0.1, 2.0]]), 0.4
    grid = np.linspace(-8, 8, 20_001)
    blurred = [
        np.trapezoid(pdf(grid, weights, means, variances) * normal_pdf(grid, at, sigma**2), grid)
        for at in x[0]
    ]
    np.testing.assert_allclose(prior.log_density(x, sigma)[0], np.log(blurred), rtol=1e-9)
    np.testing.assert_allclose(log_prob(prior, x, sigma), [np.log(blurred).sum()], rtol=1e-9)
    np.testing.assert_allclose(score(prior, x, sigma), slope_of(x, prior, sigma), rtol=1e-9)
    one = gaussian_mixture(weights, means[:, None], variances[:, None], SIGMAS)
    np.testing.assert_allclose(score(prior, x.T, sigma), score(one, x.T, sigma), rtol=1e-9)


def test_a_mixture_for_every_band_is_one_for_each():
    rng = np.random.default_rng(0)
    weights, means = rng.dirichlet([2.0, 2.0], 3).T, rng.normal(size=(2, 3))
    variances, x = rng.uniform(0.1, 1, (2, 3)), rng.normal(size=(4, 5, 3))
    prior = ElementMixture(*map(jnp.asarray, (weights, means, variances)), SIGMAS)
    got = score(prior, x, 0.3)
    drawn = jax.jit(lambda prior, key: prior.sample(key, (4000, 5, 3)))(prior, jax.random.key(0))
    for band in range(3):
        one = ElementMixture(weights[:, band], means[:, band], variances[:, band], SIGMAS)
        np.testing.assert_allclose(got[..., band], score(one, x[..., band], 0.3), rtol=1e-12)
        np.testing.assert_allclose(prior.spread(0.3)[band], one.spread(0.3))
        law = scipy.stats.kstest(
            np.ravel(drawn[..., band]),
            lambda z, b=band: sum(
                w * scipy.stats.norm.cdf(z, m, np.sqrt(v))
                for w, m, v in zip(weights[:, b], means[:, b], variances[:, b], strict=True)
            ),
        )
        assert law.pvalue > 1e-3


def test_diagonal_and_full_covariances_agree_and_shapes_are_checked():
    weights, means = np.ones(2), np.array([[0.0, 1], [2, 3]])
    variances = np.array([[1.0, 2], [3, 4]])
    diagonal = gaussian_mixture(weights, means, variances, SIGMAS)
    full = gaussian_mixture(weights, means, np.stack([np.diag(v) for v in variances]), SIGMAS)
    x = np.array([[0.3, -0.4], [5, 2.0]])
    np.testing.assert_allclose(score(diagonal, x, 0.5), score(full, x, 0.5), rtol=1e-12)
    one = full_gaussian(means[1], np.diag(variances[1]), SIGMAS)
    simple = Gaussian(means[1], variances[1], SIGMAS)
    np.testing.assert_allclose(score(one, x, 0.5), score(simple, x, 0.5), rtol=1e-12)
    np.testing.assert_allclose(one.spread(0.5), simple.spread(0.5), rtol=1e-12)
    with pytest.raises(ValueError, match=r"weights \(2,\), not \(3,\)"):
        gaussian_mixture(np.ones(3), means, variances, SIGMAS)


def test_spread_bounds_the_denoisers_error():
    prior, sigma = mixture_of(3, 3, 2)[3], 0.6
    keys = jax.random.split(jax.random.key(0))
    x = jax.jit(lambda prior, key: prior.sample(key, 40_000))(prior, keys[0])
    np.testing.assert_allclose(np.cov(x.T), prior.covariance(), atol=0.02)
    np.testing.assert_allclose(x.mean(0), prior.mean(), atol=0.02)
    noisy = x + sigma * jax.random.normal(keys[1], x.shape)
    error = jnp.sqrt(((noisy + sigma**2 * score(prior, noisy, sigma) - x) ** 2).mean(0))
    assert (error < 1.01 * prior.spread(sigma)).all()
    assert (error > 0.7 * prior.spread(sigma)).all()


# posteriors


def test_posterior_of_mixtures_is_that_of_integration():
    gains, tau, mixture = np.array([0.8, -1.2]), 0.3, np.array([[-1.0], [0.7]])
    tables = [
        (np.array([0.3, 0.7]), np.array([-1.0, 0.6]), np.array([0.1, 0.3])),
        (np.array([0.5, 0.2, 0.3]), np.array([-0.5, 0.0, 1.5]), np.array([0.05, 0.3, 0.2])),
    ]
    priors = [gaussian_mixture(w, m[:, None], v[:, None], SIGMAS) for w, m, v in tables]
    got, means, covariances = posterior(priors, jnp.asarray(gains), jnp.asarray(mixture), tau)
    grid = np.linspace(-5, 5, 601)
    one, two = np.meshgrid(grid, grid, indexing="ij")
    cell = (grid[1] - grid[0]) ** 2
    for n, m in enumerate(mixture[:, 0]):
        likelihood = normal_pdf(m, gains[0] * one + gains[1] * two, tau**2)
        parts = [
            w * normal_pdf(one, a, v) * x * normal_pdf(two, b, u) * likelihood
            for w, a, v in zip(*tables[0], strict=True)
            for x, b, u in zip(*tables[1], strict=True)
        ]
        masses = np.array([p.sum() for p in parts]) * cell
        np.testing.assert_allclose(got.log_evidence[n], np.log(masses.sum()), rtol=1e-9)
        np.testing.assert_allclose(np.exp(got.log_weights[n]), masses / masses.sum(), atol=1e-9)
        for t, part in enumerate(parts):
            mean = [(part * z).sum() / part.sum() for z in (one, two)]
            np.testing.assert_allclose(got.means[n, t, :, 0], mean, atol=1e-9)
        weight = sum(parts) / sum(parts).sum()
        mean = np.array([(weight * z).sum() for z in (one, two)])
        np.testing.assert_allclose(means[:, n, 0], mean, atol=1e-9)
        off = np.stack([one - mean[0], two - mean[1]])
        np.testing.assert_allclose(
            covariances[n, :, 0, :, 0], np.einsum("ixy,jxy,xy->ij", off, off, weight), atol=1e-9
        )


def conditioned(means, covariances, gains, mixture, tau):
    """Condition one joint Gaussian by its precision: mean `[K D]`, covariance `[K D, K D]`."""
    size = len(mixture)
    link = np.kron(gains, np.eye(size))  # [D, K D]
    prior = scipy.linalg.block_diag(*[np.linalg.inv(c) for c in covariances])
    covariance = np.linalg.inv(prior + link.T @ link / tau**2)
    return covariance @ (prior @ np.ravel(means) + link.T @ mixture / tau**2), covariance


def test_posterior_of_full_gaussians_is_the_joint_gaussian_conditioned():
    sources = [mixture_of(seed, 1, 3) for seed in range(3)]
    gains, mixture = jnp.array([1.0, 0.5, -1.5]), jnp.array([0.4, -1.0, 2.0])
    got = posterior([s[3] for s in sources], gains, mixture[None], 0.2)
    mean, covariance = conditioned(
        [s[1][0] for s in sources],
        [s[2][0] for s in sources],
        np.asarray(gains),
        np.asarray(mixture),
        0.2,
    )
    np.testing.assert_allclose(got[1][:, 0].reshape(-1), mean, rtol=1e-8)
    np.testing.assert_allclose(got[2][0].reshape(9, 9), covariance, atol=1e-9)
    variances = jnp.stack([jnp.diagonal(s[3].covariance()) for s in sources])
    each = [
        full_gaussian(s[3].mean(), jnp.diag(v), SIGMAS)
        for s, v in zip(sources, variances, strict=True)
    ]
    means = jnp.stack([s[3].mean() for s in sources])
    simple = gaussian_posterior(means, variances, gains, mixture, 0.2)[0]
    np.testing.assert_allclose(
        posterior(each, gains, mixture[None], 0.2)[1][:, 0], simple, rtol=1e-8
    )


def test_draws_of_the_posterior_have_its_moments():
    priors = [mixture_of(seed, 3, 2)[3] for seed in (0, 1)]
    mixture = jnp.array([[0.3, -0.5], [1.0, 1.0]])
    exact, mean, covariance = posterior(priors, jnp.ones(2), mixture, 0.1)
    draw = jax.jit(lambda exact, key: exact.sample(key, 20_000))
    draws = np.asarray(draw(exact, jax.random.key(0)))
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.03)
    for n in range(2):
        np.testing.assert_allclose(
            np.cov(draws[:, :, n].reshape(-1, 4).T), covariance[n].reshape(4, 4), atol=0.03
        )


TWO = (np.array([0.6, 0.4]), np.array([0.55, 0.2]), np.array([0.08, 0.06]) ** 2)
ONE = (np.array([0.5, 0.5]), np.array([0.45, 0.15]), np.array([0.1, 0.05]) ** 2)


def log_density(table):
    return partial(ElementMixture(*map(jnp.asarray, table), SIGMAS).log_density, sigma=0.0)


@partial(jax.jit, static_argnums=0, static_argnames="levels")
def bins(log_densities, mixing, mixture, tau, differences, levels=49):
    """Return the posterior, its means, its sds and draws."""
    exact = bin_posterior(log_densities, mixing, mixture, tau, differences, levels)
    return exact, exact.mean(), exact.sd(), exact.sample(jax.random.key(0), 10_000)


def test_posterior_of_a_bin_is_that_of_integration():
    tau, mixture = 0.05, np.array([0.2, 0.5])
    mixing = Decibel(jnp.asarray(20.0), jnp.array([0.7, -0.4]))
    differences = (jnp.arange(1500) + 0.5) / 500 - 1.5
    got, means, sds, draws = bins(
        (log_density(TWO), log_density(ONE)), mixing, jnp.asarray(mixture), tau, differences
    )
    grid = (np.arange(600) + 0.5) / 400 - 0.4
    z = np.stack(np.meshgrid(grid, grid, indexing="ij"))
    prior = pdf(z[0], *TWO) * pdf(z[1], *ONE) / 400**2
    draws = np.asarray(draws)
    for n, m in enumerate(mixture):
        density = prior * normal_pdf(m, np.asarray(mixing(jnp.asarray(z))), tau**2)
        total = density.sum()
        mean = (density * z).sum((1, 2)) / total
        sd = np.sqrt((density * (z - mean[:, None, None]) ** 2).sum((1, 2)) / total)
        np.testing.assert_allclose(got.log_evidence[n], np.log(total), atol=1e-4)
        np.testing.assert_allclose(means[:, n], mean, atol=1e-5)
        np.testing.assert_allclose(sds[:, n], sd, atol=1e-5)
        np.testing.assert_allclose(draws[:, :, n].mean(0), mean, atol=5 * sd.max() / 100)
        np.testing.assert_allclose(draws[:, :, n].std(0), sd, rtol=0.03)
    off = mixing(jnp.moveaxis(draws, 1, 0)) - mixture[None]
    # the residual's law: its mean square is what the grid says
    expected = (got.probabilities.sum(1) * (got.levels - mixture[:, None]) ** 2).sum(-1)
    np.testing.assert_allclose((off**2).mean(0), expected, rtol=0.05)


def test_levels_and_differences_are_a_change_of_variables():
    mixing = Decibel(jnp.asarray(5.0), jnp.array([0.3, -1.0]))
    u, d = jnp.array([0.2, 1.0, -3.0]), jnp.array([0.1, -2.0, 90.0])
    y = split(mixing, u, d)
    np.testing.assert_allclose(mixing(y), u, atol=1e-12)
    np.testing.assert_allclose(y[0] - y[1] + 1.3 / 5, d, rtol=1e-9)
    jacobian = jax.jacobian(lambda v: split(mixing, v[0], v[1]))(jnp.array([0.2, 0.1]))
    assert abs(float(jnp.linalg.det(jacobian))) == pytest.approx(1)


def test_a_source_alone_in_its_bin_is_the_conjugate_normal():
    """A source far below the other has no effect: the posterior of the other is a Wiener filter."""
    first, second, tau = (1.0, 0.3), (-9.0, 0.2), 0.4
    logs = [lambda z, m=m, s=s: jax.scipy.stats.norm.logpdf(z, m, s) for m, s in (first, second)]
    mixture = jnp.array([0.5, 1.4])
    differences = (jnp.arange(1200) + 0.5) / 200 + 7
    got, means, sds, _ = bins(
        tuple(logs), Decibel(jnp.asarray(10.0), jnp.zeros(2)), mixture, tau, differences, levels=120
    )
    mean, covariance = gaussian_posterior(
        jnp.array([[first[0]]]), jnp.array([[first[1] ** 2]]), jnp.ones(1), mixture, tau
    )
    np.testing.assert_allclose(means[0], mean[0], atol=1e-5)
    np.testing.assert_allclose(sds[0], np.sqrt(covariance[0, 0, 0]), atol=1e-5)
    np.testing.assert_allclose(means[1], second[0], atol=1e-5)
    np.testing.assert_allclose(sds[1], second[1], atol=1e-5)
    evidence = jax.scipy.stats.norm.logpdf(mixture, first[0], np.hypot(first[1], tau))
    np.testing.assert_allclose(got.log_evidence, evidence, atol=1e-5)
    with pytest.raises(ValueError, match="expected two sources, not 3"):
        bin_posterior(
            [*logs, logs[0]], Decibel(jnp.asarray(1.0), jnp.zeros(3)), mixture, tau, differences
        )


# diagnostics


def test_sliced_wasserstein_in_closed_form():
    key, rng = jax.random.key(0), np.random.default_rng(0)
    line = rng.normal(size=(50, 1))
    assert sliced_wasserstein(key, line, line) == 0
    np.testing.assert_allclose(sliced_wasserstein(key, line, line[::-1] - 0.7), 0.7)
    rms = float(np.sqrt((line**2).mean()))
    np.testing.assert_allclose(sliced_wasserstein(key, line, 3 * line), 2 * rms)
    # unequal sizes: repeated samples are the same law, and a case by hand
    assert sliced_wasserstein(key, line, np.repeat(line, 3, 0)) < 1e-12
    by_hand = sliced_wasserstein(key, np.array([[0.0], [1], [2]]), np.array([[0.0], [2]]))
    np.testing.assert_allclose(by_hand, np.sqrt((1 / 6) * (1 + 1)))
    # a shift by s is seen as s . direction: |s| / sqrt(D) on average
    cloud, shift = rng.normal(size=(40, 6)), rng.normal(size=6)
    many = sliced_wasserstein(key, cloud, cloud + shift, directions=20_000)
    np.testing.assert_allclose(many, np.linalg.norm(shift) / np.sqrt(6), rtol=0.02)


def test_coverage_is_the_level_for_exact_samples_only():
    keys = jax.random.split(jax.random.key(0))
    truth, samples = jax.random.normal(keys[0], (20_000,)), jax.random.normal(keys[1], (39, 20_000))
    for n, level in ((4, 0.6), (9, 0.4), (39, 0.8), (39, 0.83)):
        assert float(coverage(samples[:n], truth, level)) == pytest.approx(level, abs=0.015)
        assert float(coverage(0.5 * samples[:n], truth, level)) < level - 0.15


def test_ranks_are_uniform_for_exact_samples_only():
    """Draw truth and mixture from the model, then the posterior: calibration by simulation."""
    sigma, tau, n = 0.8, 0.5, 19
    keys = jax.random.split(jax.random.key(1), 3)
    truth = sigma * jax.random.normal(keys[0], (4000,))
    mixture = truth + tau * jax.random.normal(keys[1], truth.shape)
    mean, covariance = gaussian_posterior(
        jnp.zeros((1, 1)), jnp.full((1, 1), sigma**2), jnp.ones(1), mixture, tau
    )
    noise = jnp.sqrt(covariance[0, 0, 0]) * jax.random.normal(keys[2], (n, 4000))
    exact = sbc_ranks(mean + noise, truth)
    assert int(exact.min()) == 0
    assert int(exact.max()) == n
    test = rank_uniformity(exact, n, bins=10)
    counts = np.bincount(np.asarray(exact) // 2, minlength=10)
    np.testing.assert_allclose(test, scipy.stats.chisquare(counts), rtol=1e-9)
    assert test.p_value > 0.001
    for wrong in (mean + 0.7 * noise, mean + 1.4 * noise, mean + 0.1 + noise):
        assert rank_uniformity(sbc_ranks(wrong, truth), n).p_value < 1e-4
    # bins of unequal size have unequal expectations
    even = rank_uniformity(jnp.tile(jnp.arange(20), 30), n, bins=8)
    assert float(even.statistic) == pytest.approx(0)


def test_means_of_exact_samples_obey_the_averaging_law():
    keys = jax.random.split(jax.random.key(0))
    truth, samples = jax.random.normal(keys[0], (20_000,)), jax.random.normal(keys[1], (16, 20_000))
    np.testing.assert_allclose(mse_of_mean(samples, truth), averaging_law(1.0), rtol=0.04)
    np.testing.assert_allclose(
        mse_of_mean(jnp.array([[1.0], [3.0], [8.0]]), jnp.zeros(1), (1, 2)), [74 / 3, 4.0]
    )
    alike = mse_of_mean(0.5 * samples, truth)
    assert float(alike[0] / alike[-1]) < 1.3


# samplers


@pytest.mark.parametrize("at", ["noisy", "denoised"])
def test_stability_is_where_langevin_diverges(at):
    """On a narrow prior; and, for the likelihood at denoised sources, on a wide one."""
    gains, scale = [1.0, -1.5], 0.8
    tight = Gaussian(jnp.zeros(3), jnp.full(3, 1e-6 if at == "noisy" else 1e6), SIGMAS)
    value, remedy = stability(1.0, scale, gains, at)
    assert value == pytest.approx(3.25 / 0.8 + (at == "noisy"))
    assert remedy

    @jax.jit
    def size(step, scale):
        problem = Problem(
            (tight, tight), Linear(jnp.asarray(gains)), jnp.zeros((4, 3)), jnp.asarray(0.0)
        )
        x, _ = sample(
            langevin(300, step, scale, at), jax.random.key(0), problem, jnp.array([1.0, 0.5])
        )
        return jnp.abs(x).max()

    edge = 2 / value
    assert size(0.97 * edge, scale) < 100
    assert size(1.03 * edge, scale) > 1e4
    check_langevin(0.97 * edge, scale, Linear(jnp.asarray(gains)), at)
    with pytest.raises(ValueError, match="diverge.*step_size below .* or gamma_scale above") as why:
        check_langevin(1.03 * edge, scale, Linear(jnp.asarray(gains)), at)
    wider = float(str(why.value).split()[-1])
    assert size(1.03 * edge, 1.05 * wider) < 100
    assert stability(1.03 * edge, 1.0001 * wider, gains, at)[1] == ""


def test_stability_of_published_settings():
    """K = 3 and 4 with gamma^2 = sigma^2 / 2 and delta / sigma_L^2 = .3 diverge, as measured."""
    for step, scale, k, expected in (
        (0.2, 1, 2, 0.6),
        (0.3, 1, 2, 0.9),
        (0.3, 0.5, 2, 1.5),
        (0.3, 0.5, 3, 2.1),
        (0.3, 0.5, 4, 2.7),
        (0.3, 1, 4, 1.5),
    ):
        value, remedy = stability(step, scale, np.ones(k))
        assert value == pytest.approx(expected)
        assert bool(remedy) == (expected > 2)
    check_langevin(0.9, 1.0, Decibel(jnp.asarray(5.0), jnp.zeros(7)), "noisy")  # slopes add to 1
    with pytest.raises(ValueError, match="not function"):
        check_langevin(0.2, 1.0, lambda x: x.sum(0))


def test_one_mmps_step_conditions_a_full_gaussian_exactly():
    """From sigma to 0 in one step: E[x0 | x, m], given enough conjugate-gradient iterations."""
    sources, sigma, gains = [mixture_of(s, 1, 4) for s in (5, 6)], 0.7, jnp.array([1.0, -0.6])
    mixture = jnp.array([[0.4, -1.0, 2.0, 0.1]])
    noise = jax.random.normal(jax.random.key(0), (2, 1, 4))
    problem = Problem(tuple(s[3] for s in sources), Linear(gains), mixture, jnp.asarray(0.04))

    def end(iterations):
        kernel = mmps(iterations, max_step=1e6)
        return sample(kernel, jax.random.key(0), problem, jnp.array([sigma]), lambda key: noise)[0]

    x = np.asarray(mixture[None] + sigma * noise)[:, 0]
    means, covariances = [], []
    for x_k, (_, mean, covariance, _) in zip(x, sources, strict=True):
        shrunk = np.linalg.inv(np.linalg.inv(covariance[0]) + np.eye(4) / sigma**2)
        covariances.append(shrunk)
        means.append(shrunk @ (np.linalg.solve(covariance[0], mean[0]) + x_k / sigma**2))
    exact = conditioned(means, covariances, np.asarray(gains), np.asarray(mixture[0]), 0.2)[0]
    np.testing.assert_allclose(end(4).reshape(-1), exact, atol=1e-8)
    assert np.abs(end(1).reshape(-1) - exact).max() > 1e-3


def test_conjugate_gradients_do_not_run_away_where_a_jacobian_is_no_covariance():
    """Symmetric but indefinite, as that of a flow far from data: no step doubles the error."""
    rng, n, d, iterations = np.random.default_rng(0), 300, 6, 3
    basis = np.linalg.qr(rng.normal(size=(n, d, d)))[0]
    matrix = np.einsum("nij,nj,nkj->nik", basis, rng.uniform(-0.5, 1, (n, d)), basis)
    wanted, variance = rng.normal(size=(n, d)), 0.01
    moved = np.asarray(
        solve(
            lambda u: jnp.einsum("nij,snj->sni", matrix, u),
            elementwise(jnp.ones((1, n, d))),
            jnp.ones((1, n, d)),
            variance,
            jnp.ones((n, d)),
            jnp.asarray(wanted),
            iterations,
            1e6,
        )
    )[0]
    found = np.linalg.solve(matrix, moved[..., None])[..., 0]
    left = wanted - moved - variance * found
    ratio = np.linalg.norm(left, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert ratio.max() < 2**iterations
    assert (np.abs(moved).max(-1) > 0).mean() > 0.5  # and most searches move
    lost = solve(
        lambda u: u * jnp.nan,
        elementwise(jnp.ones((1, n, d))),
        jnp.ones((1, n, d)),
        variance,
        jnp.ones((n, d)),
        jnp.asarray(wanted),
        iterations,
        1e6,
    )
    np.testing.assert_array_equal(lost, 0)  # also where the Jacobian is not finite


def moments(kernel, problem, sigmas):
    """Return mean `[K D]` and covariance over the chains of a run."""
    draws = jax.jit(partial(sample, kernel))(jax.random.key(0), problem, jnp.asarray(sigmas, float))
    draws = np.moveaxis(np.asarray(draws[0]), 1, 0).reshape(len(problem.mixture), -1)
    return draws.mean(0), np.cov(draws.T)


def test_samplers_draw_from_the_posterior_of_full_gaussians():
    """The reverse SDE with converged conjugate gradients; Langevin in the law of its chain."""
    sources = [mixture_of(seed, 1, 3) for seed in (7, 8)]
    gains, mixture, tau, chains = np.array([1.0, 0.7]), np.array([0.4, -1.0, 2.0]), 0.2, 8000
    problem = Problem(
        tuple(s[3] for s in sources),
        Linear(jnp.asarray(gains)),
        jnp.broadcast_to(mixture, (chains, 3)),
        jnp.asarray(tau**2),
    )
    means, own = [s[1][0] for s in sources], [s[2][0] for s in sources]
    mean, covariance = conditioned(means, own, gains, mixture, tau)
    got = moments(mmps(3, max_step=1e6), problem, karras(150, 0.01, 50.0))
    sd = np.sqrt(np.diag(covariance).max())
    np.testing.assert_allclose(got[0], mean, atol=0.06 * sd)
    np.testing.assert_allclose(got[1], covariance, atol=0.08 * sd**2)
    # one level: x' = x + eta (b - A x) + sqrt(2 eta) n to its end, then x + sigma^2 (b - A x)
    sigma, eta = 0.7, 0.2 * 0.49
    noisy = [c + sigma**2 * np.eye(3) for c in own]
    mean, wide = conditioned(means, noisy, gains, mixture, np.hypot(sigma, tau))
    move, last = (np.eye(6) - step * np.linalg.inv(wide) for step in (eta, sigma**2))
    law = last @ scipy.linalg.solve_discrete_lyapunov(move, 2 * eta * np.eye(6)) @ last.T
    got = moments(langevin(80, 0.2, at="noisy"), problem, [sigma])
    np.testing.assert_allclose(got[0], mean, atol=0.06 * np.sqrt(law.max()))
    np.testing.assert_allclose(got[1], law, atol=0.06 * law.max())


# the benchmark


def test_toy_priors_are_centred_and_of_unit_variance():
    @jax.jit
    def draw(key):
        prior = random_mixture(key, 5)
        return prior, prior.mean(), prior.covariance()

    for seed in range(3):
        prior, mean, covariance = draw(jax.random.key(seed))
        np.testing.assert_allclose(mean, 0, atol=1e-12)
        np.testing.assert_allclose(np.trace(covariance) / 5, 1)
        np.testing.assert_allclose(jnp.linalg.norm(prior.axes, axis=1), 1)


def test_toy_posteriors_cover_the_truth():
    """Ranks are uniform only if the problem and its solution have the right joint law."""
    for name in ("K2 D4", "dB bimodal"):
        draw = jax.jit(lambda key, case=CASES[name]: case.draw(key, 200, 19)[:4])
        problem, truth, mean, samples = draw(jax.random.key(0))
        for k in range(2):
            ranks = sbc_ranks(samples[:, k, :, 0], truth[k, :, 0])
            assert rank_uniformity(ranks, 19, bins=10).p_value > 1e-3, name
        # the residual of the mixture is its noise, for the truth and so for the samples
        off = problem.mixture[None] - jax.vmap(problem.mixing)(samples)
        np.testing.assert_allclose(jnp.sqrt((off**2).mean()), CASES[name].tau, rtol=0.05)
        np.testing.assert_allclose(samples.mean((0, 2)), mean.mean(1), atol=0.05)


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    path = ROOT / "scripts" / "benchmark_samplers.py"
    spec = importlib.util.spec_from_file_location("benchmark_samplers", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_writes_tables_and_keeps_its_rows(benchmark, tmp_path, capsys):
    arguments = [
        "--cases",
        "dB easy",
        "--methods",
        "exact",
        "MMPS SDE 16",
        "--mixtures",
        "6",
        "--samples",
        "30",
        "--output",
        str(tmp_path / "table"),
    ]
    benchmark.main([*arguments, "--seeds", "1"])
    first = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [r["settings"]["method"] for r in first] == ["exact", "MMPS SDE 16"]
    first[0]["sw"] = 123.0  # would be lost if the row were measured again
    (tmp_path / "table.json").write_text(json.dumps({"rows": first}))
    benchmark.main([*arguments, "--seeds", "1"])
    again = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert again == first
    page = (tmp_path / "table.md").read_text()
    assert "| exact | 1 | 0 | 0 | 0 | 123 |" in page
    assert (tmp_path / "table.png").stat().st_size > 5000
    assert "| MMPS SDE 16 | 1 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "magic"], "unknown method 'magic'; known: exact"),
        (["--seeds", "0"], "at least 1 seed"),
        (["--cases", "K9"], "unknown case 'K9'"),
    ],
)
def test_the_benchmark_refuses_in_one_line(benchmark, tmp_path, arguments, message):
    with pytest.raises(benchmark.UserError, match=message):
        benchmark.main([*arguments, "--output", str(tmp_path / "table")])
    assert not list(tmp_path.iterdir())
    (tmp_path / "table.json").write_text("{}")
    with pytest.raises(benchmark.UserError, match="rows of an earlier run"):
        benchmark.main(["--output", str(tmp_path / "table")])
