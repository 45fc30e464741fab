"""Every sampler against its exact law, on priors whose posterior is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import basis
from basis import Decibel, Gaussian, Linear, Problem, check, gaussian_posterior, sample
from basis.exact_step import exact_draw
from basis.gmm import ElementMixture, full_gaussian
from basis.lanczos import root_times
from basis.langevin import ANCESTORS, projected
from basis.mixing import weights
from basis.quadrature import bin_posterior
from basis.toys import LinearCase
from score import karras

pytestmark = pytest.mark.usefixtures("hasty")

LEVELS = jnp.asarray([1e3, 1e-4])
GAINS = jnp.asarray([1.0, -0.6])
TAU = 0.2
HIGH = 200.0  # so much noise that the start of a sampler does not matter


def diagonal(mixture=(0.5, -1.0, 2.0), n=6000, variances=None):
    """Return a problem of `n` equal mixtures of diagonal Gaussians, its mean and covariance."""
    means = jnp.asarray([[0.3, -0.2, 1.0], [0.0, 0.7, -0.5]])
    if variances is None:
        variances = jnp.asarray([[0.5, 1.2, 0.3], [0.8, 0.4, 1.5]])
    priors = tuple(Gaussian(m, v, LEVELS) for m, v in zip(means, variances, strict=True))
    mixture = jnp.asarray(mixture)
    mean, covariance = gaussian_posterior(means, variances, GAINS, mixture, TAU)
    wide = jnp.broadcast_to(mixture, (n, 3))
    return Problem(priors, Linear(GAINS), wide, jnp.asarray(TAU**2)), mean, covariance


def draw(kernel, problem, sigmas, seed=0):
    check(kernel, problem, sigmas)
    program = jax.jit(partial(sample, kernel))
    return program(jax.random.key(seed), problem, jnp.asarray(sigmas))


def assert_moments(draws, mean, covariance, atol=0.05):
    draws = np.asarray(draws, np.float64)
    centred = draws - draws.mean(1, keepdims=True)
    np.testing.assert_allclose(draws.mean(1), mean, atol=atol)
    got = np.einsum("ind,jnd->ijd", centred, centred) / draws.shape[1]
    np.testing.assert_allclose(got, covariance, atol=2 * atol)


def correlated(size=4, n=8000):
    """Return a problem with two full Gaussian priors, and the posterior mean and covariance."""
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(2, size, size)) / np.sqrt(size)
    covs = roots @ roots.swapaxes(1, 2) + 0.05 * np.eye(size)
    means, m = rng.normal(size=(2, size)), rng.normal(size=size)
    g = np.asarray(GAINS)
    v = TAU**2 * np.eye(size) + sum(a**2 * c for a, c in zip(g, covs, strict=True))
    gain = np.stack([a * c @ np.linalg.inv(v) for a, c in zip(g, covs, strict=True)])
    mean = means + gain @ (m - g @ means)
    covariance = np.stack([c - a * k @ c for a, c, k in zip(g, covs, gain, strict=True)])
    priors = tuple(
        full_gaussian(jnp.asarray(a, jnp.float32), jnp.asarray(c, jnp.float32), LEVELS)
        for a, c in zip(means, covs, strict=True)
    )
    wide = jnp.broadcast_to(jnp.asarray(m, jnp.float32), (n, size))
    return Problem(priors, Linear(GAINS), wide, jnp.asarray(TAU**2)), mean, covariance


# ---- draws with the posterior's covariance


def test_lanczos_takes_square_roots():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(2, 3, 5, 5))
    matrix = root @ root.swapaxes(-1, -2) + 0.1 * np.eye(5)
    z = rng.normal(size=(2, 3, 5))
    values, vectors = np.linalg.eigh(matrix)
    exact = np.einsum("sbij,sbj,sbkj,sbk->sbi", vectors, np.sqrt(values), vectors, z)
    m = jnp.asarray(matrix, jnp.float32)
    got = root_times(
        lambda u: jnp.einsum("sbij,sbj->sbi", m, u),
        jnp.asarray(z, jnp.float32),
        5,
        jnp.asarray(1e3),
    )
    np.testing.assert_allclose(got, exact, atol=2e-3)
    clipped = root_times(lambda u: -u, jnp.asarray(z, jnp.float32), 1, jnp.asarray(1.0))
    np.testing.assert_allclose(clipped, 0, atol=1e-6)  # no root of a negative eigenvalue


@pytest.mark.parametrize("levels", [2, 24])
def test_draws_are_exact_for_gaussians_at_any_number_of_levels(levels):
    """Mean-only steps are not: at two levels they lose most of the variance."""
    problem, mean, covariance = correlated()
    sigmas = karras(levels, 0.05, HIGH)

    def law(kernel):
        x = np.asarray(draw(kernel, problem, sigmas)[0], np.float64)
        return x.mean(1), np.stack([np.cov(k.T) for k in x])

    got = law(basis.mmps_draws(6, 4))
    np.testing.assert_allclose(got[0], mean, atol=0.06)
    np.testing.assert_allclose(got[1], covariance, atol=0.06)
    lost = law(basis.mmps(6))[1]
    assert np.trace(lost[0]) < 0.9 * np.trace(covariance[0])


# ---- exact likelihood steps


def test_exact_draws_of_linear_maps_are_the_wiener_posterior():
    problem, mean, covariance = diagonal()
    means = jnp.stack([p.mean for p in problem.priors])
    sd = jnp.sqrt(jnp.stack([p.variance for p in problem.priors]))
    centre = jnp.broadcast_to(means[:, None], (2, *problem.mixture.shape))
    z = exact_draw(jax.random.key(0), centre, sd[:, None], problem, jnp.ones_like(centre))
    assert_moments(z, mean, covariance)


def test_exact_draws_of_decibel_maps_are_the_quadrature():
    """Centres under, at and above what the mixture allows, with gains."""
    n, beta, tau = 20_000, 8.0, 0.05
    mixing = Decibel(jnp.asarray(beta), jnp.asarray([0.4, -0.3]))
    for centres, sd, m in (
        ((0.5, 0.4), (0.1, 0.15), 0.45),
        ((0.1, 0.0), (0.2, 0.1), 0.6),
        ((0.9, 0.2), (0.1, 0.4), 0.5),
    ):
        problem = Problem((), mixing, jnp.full((n, 1), m), jnp.asarray(tau**2))
        centre = jnp.broadcast_to(jnp.asarray(centres)[:, None, None], (2, n, 1))
        z = exact_draw(
            jax.random.key(2),
            centre,
            jnp.asarray(sd)[:, None, None],
            problem,
            jnp.ones_like(centre),
        )
        logs = [
            lambda x, c=c, s=s: -((x - c) ** 2) / (2 * s**2)
            for c, s in zip(centres, sd, strict=True)
        ]
        truth = bin_posterior(logs, mixing, jnp.full(1, m), tau, jnp.linspace(-3, 3, 3001))
        np.testing.assert_allclose(z.mean(1)[:, 0], truth.mean()[:, 0], atol=0.005)
        np.testing.assert_allclose(z.std(1)[:, 0], truth.sd()[:, 0], atol=0.005)


def test_exact_draws_of_three_sources_are_weighted_draws():
    n, beta, tau, m = 20_000, 8.0, 0.05, 0.5
    centres, sd = np.array([0.4, 0.3, 0.1]), np.array([0.1, 0.2, 0.15])
    mixing = Decibel(jnp.asarray(beta), jnp.zeros(3))
    problem = Problem((), mixing, jnp.full((n, 1), m), jnp.asarray(tau**2))
    centre = jnp.broadcast_to(jnp.asarray(centres, jnp.float32)[:, None, None], (3, n, 1))
    z = exact_draw(
        jax.random.key(0),
        centre,
        jnp.asarray(sd, jnp.float32)[:, None, None],
        problem,
        jnp.ones_like(centre),
        sweeps=6,
    )
    rng = np.random.default_rng(0)
    x = centres[:, None] + sd[:, None] * rng.normal(size=(3, 1_000_000))
    weight = np.exp(-((m - np.log(np.exp(beta * x).sum(0)) / beta) ** 2) / (2 * tau**2))
    mean = (weight * x).sum(1) / weight.sum()
    spread = np.sqrt((weight * (x - mean[:, None]) ** 2).sum(1) / weight.sum())
    np.testing.assert_allclose(z.mean(1)[:, 0], mean, atol=0.006)
    np.testing.assert_allclose(z.std(1)[:, 0], spread, atol=0.006)


def test_unobserved_elements_are_drawn_from_the_prior():
    problem, _, _ = diagonal(n=8000)
    problem = problem._replace(variance=jnp.asarray(1e12))
    draws, _ = draw(basis.daps(memory=1.0), problem, karras(4, 0.05, HIGH))
    for got, prior in zip(draws, problem.priors, strict=True):
        np.testing.assert_allclose(got.mean(0), prior.mean, atol=0.06)
        np.testing.assert_allclose(got.var(0), prior.variance, rtol=0.08)


@pytest.mark.parametrize("variance", ["tweedie", "spread"])
def test_ancestral_daps_is_exact_for_uncorrelated_gaussians(variance):
    problem, mean, covariance = diagonal()
    assert_moments(
        draw(basis.daps(variance, memory=1.0), problem, karras(3, 0.05, HIGH))[0], mean, covariance
    )


def test_daps_corrections_leave_the_posterior_alone():
    problem, mean, covariance = diagonal()
    kernel = basis.daps_pc(corrections=8, kappa=0.05)
    assert_moments(draw(kernel, problem, karras(3, 0.05, HIGH))[0], mean, covariance, 0.06)


def test_split_gibbs_samples_the_coupled_posterior():
    """At one coupling rho, z has the law of p * N(rho^2), given the mixture."""
    problem, _, _ = diagonal()
    rho = jnp.asarray(0.5)
    kernel = basis.split_gibbs(inner_steps=60)
    shape = (2, *problem.mixture.shape)

    def normal(key):
        return jax.random.normal(key, shape)

    def step(z, key):
        return kernel.step(key, z, problem, rho, rho, normal)[0], None

    z, _ = jax.jit(lambda keys: jax.lax.scan(step, jnp.zeros(shape), keys))(
        jax.random.split(jax.random.key(0), 25)
    )
    means = jnp.stack([p.mean for p in problem.priors])
    variances = jnp.stack([p.variance for p in problem.priors]) + rho**2
    mean, covariance = gaussian_posterior(means, variances, GAINS, problem.mixture[0], TAU)
    assert_moments(z, mean, covariance, 0.06)


# ---- guidance and steps


def test_pseudo_inverse_guidance_is_exact_where_the_error_is_one_number():
    flat = jnp.full((2, 3), 0.7)
    problem, _, _ = diagonal(n=5, variances=flat)
    x, sigma = jax.random.normal(jax.random.key(0), (2, 5, 3)), jnp.asarray(0.8)
    left = flat * sigma**2 / (flat + sigma**2)
    centre = jnp.stack([basis.denoise(p, k, sigma) for p, k in zip(problem.priors, x, strict=True)])
    exact = jnp.stack(
        [
            gaussian_posterior(centre[:, b], left, GAINS, problem.mixture[b], TAU)[0]
            for b in range(5)
        ],
        1,
    )
    for vjp in (True, False):
        found = basis.pseudo_inverse(vjp=vjp)(None, x, problem, sigma, None)
        np.testing.assert_allclose(found.conditioned, exact, atol=1e-5)
        assert (found.forwards, found.vjps) == (1, int(vjp))


def test_dps_steps_down_the_norm_of_the_residual():
    """Compare with finite differences of |mixture - f(D(x))|, without noise and prior."""
    problem, _, _ = diagonal(n=1)
    x = np.random.default_rng(0).normal(size=(2, 1, 3))
    sigma, after = 0.8, 0.5

    def move(zeta):
        kernel = basis.dps(zeta)
        return np.asarray(
            kernel.step(
                jax.random.key(0),
                jnp.asarray(x, jnp.float32),
                problem,
                sigma,
                after,
                lambda key: jnp.zeros((2, 1, 3)),
            )[0]
        )

    def norm(x):
        v = np.stack([p.variance for p in problem.priors])[:, None]
        mu = np.stack([p.mean for p in problem.priors])[:, None]
        clean = (v * x + sigma**2 * mu) / (v + sigma**2)
        return np.linalg.norm(np.asarray(problem.mixture) - np.tensordot(GAINS, clean, 1))

    slope = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[i] = 1e-4
        slope[i] = (norm(x + e) - norm(x - e)) / 2e-4
    # grad r^2 / |r| = 2 grad |r|
    np.testing.assert_allclose(move(0.0) - move(0.3), 0.3 * 2 * slope, atol=1e-4)


def test_heun_is_of_second_order():
    problem, _, _ = diagonal(n=8)

    def end(levels):
        return draw(basis.mmps_heun(3), problem, karras(levels, 0.01, 3.0))[0]

    truth = end(200)
    errors = [float(jnp.abs(end(n) - truth).max()) for n in (8, 16)]
    assert errors[1] < errors[0] / 2.5


def test_corrections_sample_the_noisy_posterior():
    """At one level the chain x - k (x - x0) + s sqrt(2k) n has the law of x given the mixture."""
    problem, mean, covariance = diagonal()
    sigma, shape = jnp.asarray(0.7), (2, *problem.mixture.shape)
    kernel = basis.mmps_pc(cg_iterations=3, corrections=150, kappa=0.04)
    x = jax.jit(
        lambda key: kernel.step(
            key, jnp.zeros(shape), problem, sigma, sigma, lambda k: jax.random.normal(k, shape)
        )[0]
    )
    noise = np.eye(2)[..., None] * float(sigma) ** 2
    assert_moments(x(jax.random.key(1)), mean, covariance + noise, 0.06)


@pytest.mark.parametrize(
    "make", [basis.mmps, basis.pigdm, basis.mmps_heun, basis.mmps_pc, basis.mmps_draws]
)
def test_hard_constraints_hold(make):
    problem, _, _ = diagonal(n=4)
    for mixing in (problem.mixing, Decibel(jnp.asarray(5.0), jnp.asarray([0.2, -0.1]))):
        draws, _ = draw(make(hard=True), problem._replace(mixing=mixing), karras(5, 0.05, 3.0))
        np.testing.assert_allclose(mixing(draws), problem.mixture, atol=1e-5)


def test_projection_moves_the_least():
    x = jax.random.normal(jax.random.key(0), (2, 7))
    target = jnp.arange(7.0)
    moved = basis.project(Linear(GAINS), x, target)
    np.testing.assert_allclose(Linear(GAINS)(moved), target, atol=1e-5)
    # only along the gains, not across them
    across = jnp.asarray([GAINS[1], -GAINS[0]])
    np.testing.assert_allclose(jnp.tensordot(across, moved - x, 1), 0, atol=1e-5)
    with pytest.raises(ValueError, match="needs linear or decibel mixing, not Power"):
        basis.project(basis.Power(jnp.asarray(2.0), jnp.ones(2)), x, target)


# ---- Langevin and its relatives


def test_projected_langevin_is_the_conditional_of_the_priors():
    """Condition on sum a_k x_k = m exactly; noise and drift stay on that plane."""
    problem, _, _ = diagonal()
    problem = problem._replace(variance=jnp.asarray(0.0))
    means = jnp.stack([p.mean for p in problem.priors])
    variances = jnp.stack([p.variance for p in problem.priors])
    mean, covariance = gaussian_posterior(means, variances, GAINS, problem.mixture[0], 0.0)
    kernel = basis.langevin(60, 0.1, hard=True)
    draws, _ = draw(kernel, problem, karras(12, 0.05, 3.0))
    np.testing.assert_allclose(problem.mixing(draws), problem.mixture, atol=1e-4)
    assert_moments(draws, mean, covariance, 0.08)


def test_projected_sources_carry_the_noise_of_their_sum():
    """f(x + sigma n) has noise of sigma |gains|."""
    problem, _, _ = diagonal(n=20_000)
    gains = jnp.asarray([2.0, -1.0])
    problem = problem._replace(mixing=Linear(gains))
    x = projected(
        problem,
        jnp.zeros((2, 20_000, 3)),
        jnp.asarray(0.3),
        jax.random.normal(jax.random.key(0), (2, 20_000, 3)),
    )
    off = problem.mixing(x) - problem.mixture
    np.testing.assert_allclose(off.std(), 0.3 * np.sqrt(5), rtol=0.02)


def test_gauss_seidel_sees_the_sources_that_moved():
    problem, _, _ = diagonal(n=2)
    sigma, x = 0.5, jax.random.normal(jax.random.key(0), (2, 2, 3))
    kernel = basis.langevin(1, 0.2, 1.0, "noisy", "gauss-seidel")
    got, info = kernel.step(jax.random.key(1), x, problem, sigma, 0.4, lambda k: jnp.zeros_like(x))
    y = np.array(x)
    gamma2 = sigma**2 + TAU**2
    for k, prior in enumerate(problem.priors):
        r = np.asarray(problem.mixture) - np.tensordot(GAINS, y, 1)
        slope = (np.asarray(prior.mean) - y[k]) / (np.asarray(prior.variance) + sigma**2)
        y[k] = y[k] + 0.2 * sigma**2 * (slope + GAINS[k] * r / gamma2)
    np.testing.assert_allclose(got, y, atol=1e-5)
    assert float(info.forwards) == 2


def test_mala_has_no_error_of_step_size():
    """Steps of 0.8 sigma^2, at which Langevin's own variance is far off."""
    problem, _, _ = diagonal()
    sigma, shape = 0.7, (2, *problem.mixture.shape)

    def run(kernel):
        program = jax.jit(
            lambda key: kernel.step(
                key, jnp.zeros(shape), problem, sigma, sigma, lambda k: jax.random.normal(k, shape)
            )
        )
        return program(jax.random.key(0))

    x, info = run(basis.mala(150, 0.8))
    means = jnp.stack([p.mean for p in problem.priors])
    variances = jnp.stack([p.variance for p in problem.priors]) + sigma**2
    mean, covariance = gaussian_posterior(
        means, variances, GAINS, problem.mixture[0], float(np.sqrt(sigma**2 + TAU**2))
    )
    assert_moments(x, mean, covariance, 0.06)
    assert 0.1 < float(info.accepted) < 0.9
    biased = np.asarray(run(basis.langevin(150, 0.8, at="noisy"))[0], np.float64)
    assert (biased.var(1) - covariance[[0, 1], [0, 1]]).max() > 0.3


@pytest.mark.parametrize("likelihood", ["dirac", "gaussian"])
def test_msdm_takes_euler_steps_of_its_ode(likelihood):
    problem, _, _ = diagonal(n=2)
    x = np.random.default_rng(0).normal(size=(2, 2, 3))
    sigma, after, gamma = 0.8, 0.5, 0.75
    kernel = basis.msdm(likelihood, repeats=1, churn=0.0, gamma=gamma)
    got, _ = kernel.step(
        jax.random.key(0),
        jnp.asarray(x, jnp.float32),
        problem,
        sigma,
        after,
        lambda key: jnp.zeros((2, 2, 3)),
    )
    g, m, y = np.asarray(GAINS), np.asarray(problem.mixture), x.copy()
    if likelihood == "dirac":
        y[0] = (m - g[1] * y[1]) / g[0]
    slopes = [
        (y[k] - np.asarray(p.mean)) * sigma / (np.asarray(p.variance) + sigma**2)
        for k, p in enumerate(problem.priors)
    ]
    if likelihood == "dirac":
        y[1] += (after - sigma) * (slopes[1] - g[1] / g[0] * slopes[0])
        y[0] = (m - g[1] * y[1]) / g[0]
    else:
        pull = m - np.tensordot(g, x, 1)
        for k in range(2):
            y[k] += (after - sigma) * (slopes[k] - sigma / (2 * (gamma * sigma) ** 2) * g[k] * pull)
    np.testing.assert_allclose(got, y, atol=1e-5)


def test_twisted_smc_finds_the_weights_of_modes():
    """With several modes, moment matching alone gives them wrong weights."""
    drawn = LinearCase(2, 2).draw(jax.random.key(3), 12, 256)
    wide = drawn.problem._replace(mixture=jnp.repeat(drawn.problem.mixture, 256, 0))

    def error(kernel):
        x = draw(kernel, wide, karras(40, 0.01, 10.0))[0].reshape(2, 12, 256, 2)
        off = x.mean(2) - drawn.mean
        return float(jnp.sqrt((off**2).mean()))

    assert error(basis.twisted_smc(8)) < 0.6 * error(basis.mmps(2))


# ---- mixing maps, observation, refusals


def test_mixing_maps():
    x = jnp.abs(jax.random.normal(jax.random.key(0), (3, 5))) + 0.1
    power = basis.Power(jnp.asarray(2.0), jnp.asarray([1.0, 0.5, 2.0]))
    np.testing.assert_allclose(power(x) ** 2, x[0] ** 2 + x[1] ** 2 / 2 + 2 * x[2] ** 2, rtol=1e-5)
    np.testing.assert_allclose(basis.average(3)(x), x.mean(0), rtol=1e-6)
    unit = np.log(10) / 10
    ancestor = (np.log(np.exp(unit * np.asarray(x)).sum(0)) - np.log(3)) / unit
    np.testing.assert_allclose(basis.AncestorDecibel()(x), ancestor, rtol=1e-4)
    w = weights(Decibel(jnp.asarray(5.0), jnp.zeros(2)), x[:2])
    cross = basis.CrossTerms(jnp.asarray(0.25), jnp.asarray(20.25))
    np.testing.assert_allclose(cross(w), 0.25 + 20.25 * w[0] * (1 - w[0]), rtol=1e-5)


def test_cross_terms_and_censored_floors_reach_the_samplers():
    problem, _, _ = diagonal(n=4)
    problem = problem._replace(mixing=Decibel(jnp.asarray(5.0), jnp.zeros(2)))
    sigmas = karras(8, 0.05, HIGH)
    plain, _ = draw(basis.mmps(2), problem, sigmas)
    loose = basis.CrossTerms(problem.variance, jnp.asarray(50.0))
    assert (
        jnp.abs(draw(basis.mmps(2), problem._replace(variance=loose), sigmas)[0] - plain).max()
        > 1e-3
    )
    # a censored mixture far above the sources has no effect; one far below moves them down
    floor = problem._replace(mixture=jnp.full((4, 3), 50.0), censored=jnp.ones((4, 3), bool))
    free = problem._replace(variance=jnp.asarray(1e12))
    np.testing.assert_allclose(
        draw(basis.mmps(2), floor, sigmas)[0].mean(),
        draw(basis.mmps(2), free, sigmas)[0].mean(),
        atol=0.5,
    )
    low = floor._replace(mixture=jnp.full((4, 3), -3.0))
    assert float(draw(basis.mmps(2), low, sigmas)[0].max()) < -1.5


def test_early_levels_take_fewer_conjugate_gradients():
    problem, _, _ = correlated(n=8)
    sigmas = jnp.array([4.0, 1.0, 0.5, 0.1])

    def run(**changes):
        return sample(basis.mmps(4, memory=0.0, **changes), jax.random.key(0), problem, sigmas)

    x, info = run(early_iterations=1, early_above=0.5)
    np.testing.assert_array_equal(info.vjps, [1, 1, 4, 4])
    np.testing.assert_array_equal(info.forwards, [1, 1, 1, 1])
    few, _ = sample(basis.mmps(1, memory=0.0), jax.random.key(0), problem, sigmas)
    for above, expected in ((10.0, run()[0]), (0.0, few)):
        same, _ = run(early_iterations=1, early_above=above)
        np.testing.assert_allclose(same, expected, atol=1e-5)
        assert np.abs(x - expected).max() > 1e-3


def test_costs_are_counted():
    problem, _, _ = diagonal(n=2)
    mixture = ElementMixture(
        *(jnp.asarray(v) for v in ([0.4, 0.6], [0.0, 1.0], [0.2, 0.1])), LEVELS
    )
    problem = problem._replace(priors=(mixture, problem.priors[1]))
    for kernel, forwards, vjps in (
        (basis.mmps(2), 4, 8),
        (basis.mmps_heun(2), 7, 14),
        (basis.mmps_pc(2, 3), 16, 32),
        (basis.mmps_draws(2, 3), 4, 20),
        (basis.langevin(5), 21, 0),
        (basis.dps(), 4, 4),
        (basis.daps("spread"), 4, 0),
        (basis.split_gibbs(5), 20, 0),
        (basis.msdm(), 8, 0),
        (basis.mala(5), 24, 0),
    ):
        _, info = draw(kernel, problem, karras(4, 0.05, 2.0))
        assert (float(info.forwards.sum()), float(info.vjps.sum())) == (forwards, vjps)
        assert info.residual.shape == (4, 2)


def test_published_settings_and_their_stability():
    """The products of the stability table; those above 2 diverge."""
    found = {
        name: basis.stability(
            o["step_size"],
            o.get("gamma_scale", 1.0),
            [0.5, 0.5] if name == "spectrograms" else [1.0, 1.0],
        )[0]
        for name, o in ANCESTORS.items()
    }
    assert found == pytest.approx(
        {"paper": 0.6, "cifar": 0.9, "mnist": 1.5, "spectrograms": 0.3, "parallel": 1.55}
    )
    for options in ANCESTORS.values():
        basis.langevin(1, **options)


def test_what_cannot_work_is_refused_before_compiling():
    problem, _, _ = diagonal(n=6)
    sigmas, kernel = karras(4, 0.05, 2.0), basis.mmps()
    nan = problem.priors[0]._replace(mean=jnp.full(3, jnp.nan))
    narrow = problem.priors[0]._replace(sigmas=jnp.asarray([1.0, 0.1]))
    other = Gaussian(jnp.zeros((4, 3)), jnp.ones(3), LEVELS)
    decibel = problem._replace(mixing=Decibel(jnp.asarray(5.0), jnp.zeros(2)))
    power = problem._replace(mixing=basis.Power(jnp.asarray(2.0), jnp.ones(2)))
    first = problem.priors[0]
    for bad, levels, sampler, words in (
        (problem._replace(priors=()), sigmas, kernel, "at least one prior, got none"),
        (problem._replace(priors=(nan, first)), sigmas, kernel, r"prior 0 .* not finite"),
        (problem._replace(priors=(first, narrow)), sigmas, kernel, "prior 1 .* no level near"),
        (problem._replace(priors=(first, other)), sigmas, kernel, "prior 1 .*shape"),
        (problem._replace(priors=(first,)), sigmas, kernel, "does not accept 1 sources"),
        (problem, sigmas[::-1], kernel, "expected falling noise levels"),
        (problem._replace(mixture=problem.mixture * jnp.nan), sigmas, kernel, "not finite"),
        (problem, sigmas, basis.langevin(1, 1.9, at="noisy"), "would diverge"),
        (decibel, sigmas, basis.msdm(), "needs linear mixing, not Decibel; use 'gaussian'"),
        (power, sigmas, basis.daps(), "linear or decibel mixing, not Power; use mmps"),
        (problem, sigmas, basis.twisted_smc(4), "divisible by 4"),
        (
            problem._replace(priors=(first, WithoutDensity())),
            sigmas,
            basis.mala(),
            "WithoutDensity has none",
        ),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            check(sampler, bad, levels)
        assert "\n" not in str(caught.value)


class WithoutDensity:
    """A prior with a score but without a log density."""

    sigmas = LEVELS

    def score(self, x, sigma):
        return -x / (1 + sigma**2)


jax.tree_util.register_pytree_node(
    WithoutDensity, lambda p: ((), None), lambda _, leaves: WithoutDensity()
)
