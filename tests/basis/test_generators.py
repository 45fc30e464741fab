"""Generators as priors: posteriors of latents, with the samplers of sources."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from basis import (
    Decibel,
    Gaussian,
    Generated,
    Linear,
    Problem,
    check,
    langevin,
    mala,
    mmps,
    mmps_draws,
    pigdm,
    sample,
)
from basis.mixing import slopes, steepest, weights

pytestmark = pytest.mark.usefixtures("hasty")

LATENTS, SIZE, CHAINS, TAU = 2, 5, 2000, 0.3
GAINS = np.array([1.0, -0.7])
LATENT = Gaussian(jnp.zeros(()), jnp.ones(()), jnp.asarray([1e3, 1e-3]))


class Affine(NamedTuple):
    """A generator G(z) = z A + b."""

    matrix: jax.Array  # [latent, element]
    shift: jax.Array  # [element]

    def __call__(self, z):
        return z @ self.matrix + self.shift[None]


class Bent(NamedTuple):
    """A generator from latents [2, 2] to three elements that is not linear."""

    matrix: jax.Array

    def __call__(self, z):
        return jnp.tanh(z.reshape(len(z), -1) @ self.matrix)


def linear_problem(chains=CHAINS):
    """Return the problem, and mean `[4]` and covariance of the latents given the mixture."""
    rng = np.random.default_rng(3)
    apart = np.linalg.qr(rng.normal(size=(SIZE, 2 * LATENTS)))[0].T
    matrices = (apart + 0.5 * np.roll(apart, 1, 0)).reshape(2, LATENTS, SIZE)
    shifts, mixture = rng.normal(size=(2, SIZE)), rng.normal(size=SIZE)
    generators = tuple(
        Affine(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
        for a, b in zip(matrices, shifts, strict=True)
    )
    problem = Problem(
        (LATENT, LATENT),
        Generated(Linear(jnp.asarray(GAINS, jnp.float32)), generators, (LATENTS,)),
        jnp.broadcast_to(jnp.asarray(mixture, jnp.float32), (chains, SIZE)),
        jnp.asarray(TAU**2),
    )
    whole = np.concatenate(GAINS[:, None, None] * matrices).T  # [element, latents of all sources]
    precision = np.eye(2 * LATENTS) + whole.T @ whole / TAU**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ whole.T @ (mixture - GAINS @ shifts) / TAU**2
    return problem, mean, covariance


@pytest.mark.parametrize(
    ("kernel", "sigmas", "close"),
    [
        # exact with any levels, if both iterations run to their ends
        (mmps_draws(2 * LATENTS, 1), [30.0, 1.0, 0.05], 0.05),
        (mmps(2 * LATENTS), np.geomspace(30, 0.03, 40), 0.08),
        # slow at low noise, so that most steps are needed where the noise hardly matters any more
        (langevin(250, 0.3, at="noisy"), [1.0, 0.3, 0.1, 0.07], 0.08),
        (mala(250, 0.3), [1.0, 0.3, 0.1, 0.07], 0.08),
    ],
)
def test_latents_of_linear_generators_have_the_exact_posterior(kernel, sigmas, close):
    problem, mean, covariance = linear_problem()
    check(kernel, problem, sigmas)
    run = jax.jit(partial(sample, kernel))
    latents, info = run(jax.random.key(0), problem, jnp.asarray(sigmas, jnp.float32))
    assert latents.shape == (2, CHAINS, LATENTS)
    assert np.isfinite(info.residual).all()
    draws = np.moveaxis(np.asarray(latents), 1, 0).reshape(CHAINS, -1)
    np.testing.assert_allclose(draws.mean(0), mean, atol=close)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=close)
    assert np.abs(mean).max() > 0.5  # neither is that of the prior
    assert np.abs(covariance - np.eye(2 * LATENTS)).max() > 0.5


def bent_map(mixing):
    rng = np.random.default_rng(1)
    matrices = jnp.asarray(rng.normal(size=(2, 4, 3)), jnp.float32)
    return Generated(mixing, tuple(Bent(m) for m in matrices), (2, 2))


def test_slopes_are_the_jacobian_and_its_transpose():
    mixing = bent_map(Decibel(jnp.asarray(2.0), jnp.zeros(2)))
    rng = np.random.default_rng(2)
    z, u, move = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((2, 1, 2, 2), (1, 3), (2, 1, 2, 2))
    )
    jacobian = np.asarray(jax.jit(jax.jacrev(mixing))(z)).reshape(3, 8)
    pushed, pulled = jax.jit(lambda z: (slopes(mixing, z).push(move), slopes(mixing, z).pull(u)))(z)
    np.testing.assert_allclose(pushed[0], jacobian @ np.ravel(move), rtol=1e-4)
    np.testing.assert_allclose(np.ravel(pulled), np.ravel(u) @ jacobian, rtol=1e-4, atol=1e-5)
    # the law of mixing is applied to what the generators make, and so are its weights
    flat = np.asarray(z).reshape(2, 1, 4)
    each = zip(flat, mixing.generators, strict=True)
    sources = np.stack([np.tanh(one @ np.asarray(g.matrix)) for one, g in each])
    mixed = np.log(np.exp(2 * sources).sum(0)) / 2
    np.testing.assert_allclose(mixing(z), mixed, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mixing.sources(z), sources, rtol=1e-4, atol=1e-5)
    share = np.exp(2 * sources) / np.exp(2 * sources).sum(0)
    np.testing.assert_allclose(weights(mixing, z), share, rtol=1e-4)


def test_generators_that_bend_explain_the_mixture():
    """Samples of the latents mix to what was observed, up to its error."""
    mixing = bent_map(Linear(jnp.ones(2)))
    true = jnp.asarray(np.random.default_rng(4).normal(size=(2, 64, 2, 2)), jnp.float32)
    problem = Problem((LATENT, LATENT), mixing, mixing(true), jnp.asarray(0.05**2))
    sigmas = jnp.asarray(np.geomspace(3, 0.02, 30), jnp.float32)
    kernel = mmps(4)
    check(kernel, problem, sigmas)
    latents, _ = jax.jit(partial(sample, kernel))(jax.random.key(0), problem, sigmas)
    assert latents.shape == true.shape
    error = np.asarray(problem.mixture - mixing(latents))
    assert np.median(np.abs(error)) < 0.06
    assert np.median(np.abs(problem.mixture)) > 0.3


def test_the_steepest_slope_bounds_langevin():
    problem, _, _ = linear_problem(2)
    each = zip(GAINS, problem.mixing.generators, strict=True)
    whole = np.concatenate([gain * np.asarray(g.matrix) for gain, g in each])
    most = np.linalg.norm(whole, 2) ** 2
    assert steepest(problem.mixing) == pytest.approx(most, rel=0.02)
    step = 2 / (1 + most)
    check(langevin(5, 0.9 * step, at="noisy"), problem, [1.0, 0.1])
    with pytest.raises(ValueError, match="would diverge"):
        check(langevin(5, 1.1 * step, at="noisy"), problem, [1.0, 0.1])


def test_what_generators_cannot_do_is_refused():
    problem, _, _ = linear_problem(2)
    for kernel in (pigdm(), mmps(hard=True), langevin(5, hard=True)):
        with pytest.raises(ValueError, match="elementwise"):
            check(kernel, problem, [1.0, 0.1])
    square = problem._replace(priors=(LATENT._replace(mean=jnp.zeros(4)), LATENT))
    with pytest.raises(ValueError, match="prior 0"):
        check(mmps(), square, [1.0, 0.1])
