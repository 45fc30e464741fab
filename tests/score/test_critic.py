"""Critics: the logit, the losses against numpy, and scores of densities that are known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from basis import Gaussian, Prior, gaussian_mixture, mala, mmps_heun, sample
from basis.mixing import Linear
from basis.prior import denoise
from basis.sampler import Problem
from score import (
    MLP,
    Conv1dDenoiser,
    Critic,
    CriticPrior,
    GuidedPrior,
    contrast_loss,
    draw_reference,
    karras,
    lognormal,
    order_loss,
)
from score.broadcast import align_first

RNG = np.random.default_rng(0)
LEVELS = jnp.asarray([3.0, 0.1])


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


class Linearly(nnx.Module):
    """F(u, ln sigma) = w (u + ln sigma), with w per element."""

    def __init__(self, w):
        self.w = nnx.Param(jnp.asarray(w, jnp.float32)[None])

    def __call__(self, u, log_sigma):
        return self.w[...] * (u + align_first(log_sigma, u))


def critic_of(net, mean, variance, constant=0.0):
    """Return a critic with this constant; under jit, as every start would compile by itself."""

    @jax.jit
    def make():
        made = Critic(net(), mean, variance, rngs=nnx.Rngs(1))
        made.constant.bias = nnx.Param(jnp.full(1, constant))
        return made

    return make()


def mlp(size, width):
    return lambda: MLP(size, width, 2, rngs=nnx.Rngs(0))


def test_the_logit_is_a_weighted_inner_product():
    w, mean, variance = np.array([0.5, -1.0]), np.array([0.3, -0.2]), np.array([0.4, 1.2])
    critic = critic_of(lambda: Linearly(w[None]), mean, variance, 0.7)
    x, sigma = np.asarray(normal(3, 4, 2)), np.array([0.2, 1.0, 3.0])
    u = (x - mean) / np.sqrt(variance + sigma[:, None, None] ** 2)
    inner = (w * u * (u + np.log(sigma)[:, None, None])).sum((1, 2))
    expected = np.sqrt(0.8) / (2 * sigma) * inner + 0.7
    np.testing.assert_allclose(critic(x, jnp.asarray(sigma)), expected, rtol=1e-5)
    np.testing.assert_allclose(critic(x, jnp.asarray(1.0))[1], expected[1], rtol=1e-5)
    drawn = draw_reference(critic, jnp.asarray(x), jnp.asarray(sigma))
    np.testing.assert_allclose(
        drawn, mean + x * np.sqrt(variance + sigma[:, None, None] ** 2), rtol=1e-5
    )


def test_an_untrained_critic_is_the_matched_gaussian():
    """Score, log density and denoiser are those of N(mean, variance + sigma^2)."""
    mean, variance = np.array([0.5, 0.0, -1.0]), np.array([0.2, 1.0, 2.0])
    critic = critic_of(lambda: Conv1dDenoiser(3, 8, 1, rngs=nnx.Rngs(0)), mean, variance)
    prior = CriticPrior(critic, LEVELS, jnp.asarray([[1.0, 2, 4], [0.25, 0.5, 1]]))
    x, sigma = np.asarray(normal(2, 5, 3)), 0.6
    total = variance + sigma**2
    score = jax.jit(lambda prior, x, sigma: prior.score(x, sigma))(prior, x, sigma)
    np.testing.assert_allclose(score, (mean - x) / total, rtol=1e-4)
    terms = -((x - mean) ** 2) / total / 2 - np.log(2 * np.pi * total) / 2
    np.testing.assert_allclose(prior.log_prob(x, jnp.asarray(sigma)), terms.sum((1, 2)), rtol=1e-5)
    assert isinstance(prior, Prior)
    assert prior.any_length
    np.testing.assert_allclose(prior.spread(jnp.sqrt(jnp.prod(LEVELS))), [0.5, 1, 2], rtol=1e-4)
    np.testing.assert_allclose(prior.moments()[1], variance, rtol=1e-6)


def test_the_score_is_the_gradient_of_the_log_density_and_the_jacobian_symmetric():
    critic = critic_of(mlp(3, 16), np.zeros(3), np.array([0.5, 1, 2]))
    critic.net.leave.kernel = nnx.Param(normal(16, 3))
    critic.constant.kernel = nnx.Param(normal(16, 1))
    prior, x, sigma = CriticPrior(critic, LEVELS, jnp.ones((2, 3))), normal(4, 3), jnp.asarray(0.4)

    @jax.jit
    def measure(prior, x):
        gradient = jax.grad(lambda x: prior.log_prob(x, sigma).sum())(x)
        jacobian = jax.jacrev(lambda x: denoise(prior, x[None], sigma)[0])(x[0])
        return prior.score(x, sigma), gradient, jacobian

    score, gradient, jacobian = measure(prior, x)
    np.testing.assert_allclose(score, gradient, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jacobian, jacobian.T, atol=1e-4)
    assert np.abs(jacobian - np.diag(np.diag(jacobian))).max() > 0.01
    moved = measure(prior, x.at[1].add(1))[0]  # examples do not see each other
    np.testing.assert_allclose(moved[0], score[0], rtol=1e-4, atol=1e-5)


def test_contrast_is_the_logistic_loss():
    critic = critic_of(lambda: Linearly([0.5, -0.3]), np.zeros(2), np.ones(2), 0.2)
    x, others, sigma = normal(4, 2), normal(4, 2), jnp.asarray([0.2, 0.5, 1.0, 2.0])
    a, b = (np.asarray(critic(each, sigma), np.float64) for each in (x, others))
    expected = -np.log(1 / (1 + np.exp(-a))) - np.log(1 - 1 / (1 + np.exp(-b)))
    np.testing.assert_allclose(contrast_loss(critic, x, others, sigma), expected, rtol=1e-5)


def test_order_is_the_logistic_loss_of_two_orders_with_both_kernels_written_out():
    """Against float64 densities of x, y | x and y, x | y, without any cancellation."""
    w, mean, variance, step = np.array([0.5, -0.3]), np.array([0.4, -1]), np.array([0.5, 2]), 1.0
    critic = critic_of(lambda: Linearly(w), mean, variance)
    x, noise = (np.asarray(normal(3, 2), np.float64) for _ in range(2))
    sigma = np.array([0.3, 1.0, 2.0])[:, None]
    v, sd = variance + sigma**2, np.sqrt(variance.mean())
    d = step * sigma / np.sqrt(sd**2 + sigma**2)
    factor, log = sd / (2 * sigma) * w, np.log(sigma)

    def log_model(x):
        u = (x - mean) / np.sqrt(v)
        return (factor * u * (u + log) - u**2 / 2).sum(1)

    def middle(x):
        u = (x - mean) / np.sqrt(v)
        slope = factor * (2 * u + log) / np.sqrt(v)
        return mean + np.sqrt(1 - d**2) * (x - mean) + d**2 / 2 * v * slope

    def log_kernel(y, x):
        return -((y - middle(x)) ** 2 / (2 * d**2 * v)).sum(1)

    losses = []
    for n in (noise, -noise):
        y = middle(x) + d * np.sqrt(v) * n
        gap = log_model(x) + log_kernel(y, x) - log_model(y) - log_kernel(x, y)
        losses.append(np.log1p(np.exp(-gap)))
    given = (jnp.asarray(a, jnp.float32) for a in (x, noise, sigma[:, 0]))
    got = jax.jit(partial(order_loss, step=step))(critic, *given)
    np.testing.assert_allclose(got, np.mean(losses, 0), atol=2e-5)
    assert np.abs(np.mean(losses, 0) - np.log(2)).max() > 1e-3


def train(critic, draw, loss, updates, batch, rate=1e-2, low=0.3, high=2.4):
    """Return averaged weights; loss(critic, key, x0, sigma)."""
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, updates), b2=0.99)

    @jax.jit
    def run(model, key):
        def update(carry, key):
            model, state = carry
            keys = jax.random.split(key, 3)
            x0 = draw(keys[0], batch)
            sigma = lognormal(keys[1], batch, -0.7, 1.0, low, high)
            gradient = jax.grad(lambda m: loss(m, keys[2], x0, sigma).mean())(model)
            change, state = optimiser.update(gradient, state)
            return (optax.apply_updates(model, change), state), None

        return jax.lax.scan(update, (model, optimiser.init(model)), jax.random.split(key, updates))

    return run(critic, jax.random.key(3))[0][0]


def by_order(critic, key, x0, sigma):
    keys = jax.random.split(key)
    wide = sigma.reshape(-1, *[1] * (x0.ndim - 1))
    x = x0 + wide * jax.random.normal(keys[0], x0.shape)
    return order_loss(critic, x, jax.random.normal(keys[1], x0.shape), sigma)


def by_both(critic, key, x0, sigma):
    keys, n = jax.random.split(key, 3), len(x0) // 4
    x = x0[:n] + sigma[:n, None] * jax.random.normal(keys[0], (n, 2))
    others = draw_reference(critic, jax.random.normal(keys[1], (n, 2)), sigma[:n])
    contrast = contrast_loss(critic, x, others, sigma[:n])
    return by_order(critic, keys[2], x0, sigma) + 0.05 * contrast.mean()


def errors(prior, draw, true, sigmas, n=2000):
    """Return |s - true| / |true|, rms over noisy examples."""
    clean, rng, out = draw(jax.random.key(5), n), np.random.default_rng(0), []
    score = jax.jit(lambda prior, x, sigma: prior.score(x, sigma))
    for sigma in sigmas:
        x = jnp.asarray(clean + sigma * rng.normal(size=clean.shape), jnp.float32)
        wanted = np.asarray(true(x, sigma))
        off = np.asarray(score(prior, x, jnp.float32(sigma))) - wanted
        out.append(float(np.sqrt((off**2).sum() / (wanted**2).sum())))
    return np.array(out)


@pytest.fixture(scope="module")
def truth():
    return gaussian_mixture(
        jnp.asarray([0.6, 0.4]),
        jnp.asarray([[1.0, 0.4], [-1.0, -0.5]]),
        jnp.asarray([[0.15, 0.3], [0.3, 0.1]]),
        LEVELS,
    )


@pytest.fixture(scope="module")
def learnt(truth):
    """Train a critic of two dimensions."""
    mean, variance = truth.moments()
    critic = train(critic_of(mlp(2, 32), mean, variance), truth.sample, by_both, 600, 256)
    return CriticPrior(critic, LEVELS, jnp.ones((2, 2)))


SIGMAS = (2.4, 1.0, 0.3)


def test_a_critic_learns_the_score_and_the_density_of_a_mixture(truth, learnt):
    found = errors(learnt, truth.sample, truth.score, SIGMAS)
    assert (found < 0.15).all(), found
    mean, variance = truth.moments()
    start = Gaussian(mean, variance, LEVELS)
    assert (errors(start, truth.sample, truth.score, SIGMAS[1:]) > 0.3).all()
    x = truth.sample(jax.random.key(6), 2000)
    off = learnt.log_prob(x, jnp.asarray(0.4)) - truth.log_prob(x, jnp.asarray(0.4))
    assert abs(float(off.mean())) < 0.1  # the constant too, by the contrast with q
    assert float(off.std()) < 0.15


def test_samplers_take_critics_beside_other_priors(truth, learnt):
    """In one compiled call with a closed form, and nearly as if its prior were the truth itself."""
    mixture, levels = jnp.zeros((3, 2)), jnp.asarray(karras(6, 0.3, 2.4))

    def run(prior, kernel):
        problem = Problem((prior, truth), Linear(jnp.ones(2)), mixture, jnp.asarray(0.04))
        return jax.jit(lambda key, p: sample(kernel, key, p, levels))(jax.random.key(0), problem)

    (mine, _), (exact, _) = (run(prior, mmps_heun(1)) for prior in (learnt, truth))
    np.testing.assert_allclose(mine, exact, atol=0.35)
    assert np.abs(exact).max() > 0.5
    sources, info = run(learnt, mala(2))  # which asks for log densities
    assert np.isfinite(sources).all()
    assert (info.accepted > 0.5).all()


def test_order_finds_a_score_in_many_dimensions():
    """240 correlated elements, where samples of q are told from the data at once."""
    rng, size = np.random.default_rng(1), (20, 12)
    axes = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    values = np.exp(rng.uniform(np.log(0.1), np.log(3), 12))
    root = jnp.asarray(axes * np.sqrt(values), jnp.float32)

    def draw(key, n):
        return jax.random.normal(key, (n, *size)) @ root.T

    def true(x, sigma):
        return -(x @ (axes / (values + sigma**2)) @ axes.T)

    class Bands(nnx.Module):
        """F(u, ln sigma) = u (A + ln sigma B)."""

        def __init__(self):
            self.a, self.b = (nnx.Param(jnp.zeros((12, 12))) for _ in range(2))

        def __call__(self, u, log_sigma):
            return u @ self.a[...] + log_sigma[:, None, None] * (u @ self.b[...])

    start = critic_of(Bands, np.zeros(12), axes**2 @ values)
    prior = CriticPrior(train(start, draw, by_order, 300, 16), LEVELS, jnp.ones((2, 12)))
    found = errors(prior, draw, true, SIGMAS, 100)
    assert (found < 0.15).all(), found
    reference = Gaussian(jnp.zeros(12), jnp.asarray(axes**2 @ values, jnp.float32), LEVELS)
    assert errors(reference, draw, true, SIGMAS[2:], 100) > 0.5


def test_guidance_corrects_a_wrong_prior(truth):
    """A critic of data against samples of a prior; half the weight is half the way."""
    wrong = truth._replace(means=0.6 * truth.means + 0.3, variances=1.8 * truth.variances)

    def loss(critic, key, x0, sigma):
        keys = jax.random.split(key)
        fakes = wrong.sample(keys[0], len(x0))
        noise = jax.random.normal(keys[1], (2, *x0.shape))
        return contrast_loss(
            critic, x0 + sigma[:, None] * noise[0], fakes + sigma[:, None] * noise[1], sigma
        )

    mean, variance = truth.moments()
    start = critic_of(mlp(2, 32), mean, variance)
    critic = train(start, truth.sample, loss, 300, 512)
    guided = GuidedPrior(wrong, critic, jnp.asarray(1.0))
    before, after = (errors(p, truth.sample, truth.score, SIGMAS) for p in (wrong, guided))
    assert (after < 0.5 * before).all(), (before, after)
    assert (after < 0.15).all()
    half = guided._replace(weight=jnp.asarray(0.5))
    x, sigma = normal(5, 2), jnp.asarray(0.4)
    middle = (wrong.score(x, sigma) + guided.score(x, sigma)) / 2
    np.testing.assert_allclose(half.score(x, sigma), middle, rtol=1e-3, atol=1e-4)
    assert (guided.sigmas == wrong.sigmas).all()
    np.testing.assert_allclose(guided.spread(sigma), wrong.spread(sigma))
    assert not guided.any_length
