"""Training against scores that are known: a Gaussian mixture, and a Gaussian as large as a patch.

Loss, preconditioning, noise schedule and the update together must find grad log p_sigma, to 10 %
in rms at every level, in the stated steps. The networks are chosen to suit their densities, because
the capacity of networks is not what these tests measure.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from basis import gaussian_mixture
from gensep.training.updates import make_optimiser, make_state, make_update
from score import EDM, MLP, DenoiserPrior, denoising_loss, geometric, lognormal

MOST = 0.1  # of the score's rms


def train(model, draw, steps, batch, rate, log_sigma):
    """Return the averaged weights after `steps` updates on fresh data, ln sigma ~ N(*log_sigma)."""
    optimiser = make_optimiser(rate, steps, 50, 1.0)

    def loss(model, key, _):
        data_key, sigma_key, noise_key = jax.random.split(key, 3)
        x = draw(data_key, batch)
        sigma = lognormal(sigma_key, batch, *log_sigma, 0.05, 5.0)
        return denoising_loss(model, x, jax.random.normal(noise_key, x.shape), sigma).mean()

    update = make_update(loss, optimiser, 0.99)
    state = make_state(jax.tree.map(jnp.array, model), optimiser)
    for i in range(steps):
        state, _ = update(jax.random.fold_in(jax.random.key(1), i), state, None)
    return state.learner.average


def relative_errors(model, clean, true_score, sigmas):
    """Return rms(s - true) / rms(true) at every level, on the data `clean: [n, ...]` and noise."""
    noise = np.random.default_rng(0).normal(size=clean.shape)
    score = jax.jit(lambda model, x, s: DenoiserPrior(model, s, s).score(x, s))
    errors = []
    for sigma in sigmas:
        x = (clean + sigma * noise).astype(np.float32)
        true = np.asarray(true_score(x, sigma))
        errors.append(np.sqrt(((score(model, x, sigma) - true) ** 2).mean() / (true**2).mean()))
    return np.array(errors)


def test_a_gaussian_mixture_in_the_plane():
    """1500 updates of 1024 points."""
    roots = jnp.array([[[0.3, 0], [0.1, 0.25]], [[0.4, 0], [-0.2, 0.3]], [[0.25, 0], [0, 0.5]]])
    prior = gaussian_mixture(
        jnp.array([0.5, 0.3, 0.2]),
        jnp.array([[-1.0, 0], [1, 0.5], [0.3, -1.2]]),
        roots @ roots.swapaxes(1, 2),
        jnp.array([2.4, 0.15]),
    )
    sd = jnp.sqrt(jnp.trace(prior.covariance()) / 2)
    start = EDM(MLP(2, 64, 3, rngs=nnx.Rngs(0)), prior.mean(), sd)
    model = train(start, prior.sample, 1500, 1024, 7e-3, (-0.7, 1.0))
    clean, sigmas = np.asarray(prior.sample(jax.random.key(5), 20_000)), geometric(5, 0.15, 2.4)
    errors = relative_errors(model, clean, prior.score, sigmas)
    assert (errors < MOST).all(), errors
    # the best linear denoiser, from which it started, is far off
    assert (relative_errors(start, clean, prior.score, sigmas[2:]) > 3 * MOST).all()


HEIGHT, WIDTH = 96, 64


class Separable(nnx.Module):
    """F(x, ln sigma) = sum_r w_r(ln sigma) A_r x B_r, linear in x: 40,000 parameters."""

    def __init__(self, terms, *, rngs):
        def near_identity(n):
            spread = jax.random.normal(rngs.params(), (terms, n, n)) / np.sqrt(n)
            return nnx.Param((jnp.eye(n)[None] + spread) / 2)

        self.a, self.b = near_identity(HEIGHT), near_identity(WIDTH)
        self.w = nnx.Linear(16, terms, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x, log_sigma):
        angle = log_sigma[:, None] * jnp.geomspace(0.25, 2, 8)[None]
        w = self.w(jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1))
        inner = jnp.einsum("rij,bjk->brik", self.a[...], x)
        return jnp.einsum("br,brik,rkl->bil", w, inner, self.b[...])


def test_a_gaussian_as_large_as_a_patch():
    """1300 updates of 24 patches of 96 x 64, covariance A (x) B of random A and B."""
    rng = np.random.default_rng(1)
    (axes_a, a), (axes_b, b) = (
        (np.linalg.qr(rng.normal(size=(n, n)))[0], np.exp(rng.uniform(np.log(0.2), np.log(2), n)))
        for n in (HEIGHT, WIDTH)
    )
    variances = a[:, None] * b
    roots = [jnp.asarray(q * np.sqrt(v), jnp.float32) for q, v in ((axes_a, a), (axes_b, b))]

    def draw(key, n):
        return roots[0] @ jax.random.normal(key, (n, HEIGHT, WIDTH)) @ roots[1].T

    def true_score(x, sigma):
        along = axes_a.T @ x @ axes_b
        return -axes_a @ (along / (variances + sigma**2)) @ axes_b.T

    start = EDM(Separable(3, rngs=nnx.Rngs(0)), np.zeros(WIDTH), np.sqrt(variances.mean()))
    model = train(start, draw, 1300, 24, 7e-3, (-1.3, 1.2))
    clean, sigmas = np.asarray(draw(jax.random.key(5), 100)), geometric(5, 0.25, 4)
    errors = relative_errors(model, clean, true_score, sigmas)
    assert (errors < MOST).all(), errors
    assert (relative_errors(start, clean, true_score, sigmas[2:]) > 2 * MOST).all()
