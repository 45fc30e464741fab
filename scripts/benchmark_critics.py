"""Measure scores from critics where the true score is known, beside those of score networks.

Two densities: a Gaussian mixture in two dimensions, and a Gaussian of 96 x 64 elements with a
covariance A (x) B of random A and B. A third case corrects a wrong prior of the mixture by
discriminator guidance. Write OUTPUT.md, and the raw rows.
"""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from gensep.cli import config
from gensep.runtime import errors

PROG = "python scripts/benchmark_critics.py"
OUTPUT = "docs/results/samplers/critics"
LEVELS = 5


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    plane_updates: int = 1500
    """Updates of 1024 examples for the mixture in two dimensions."""
    patch_updates: int = 1300
    """Updates of 24 examples for the Gaussian of 96 x 64 elements."""
    rate: float = 7e-3
    """Peak learning rate of Adam."""
    step: float = 0.2
    """Length of the steps of the order loss."""
    output: str = OUTPUT
    """Path without ending for the .md."""


class Case(NamedTuple):
    """A density with its true score, and how a network learns it."""

    draw: Callable[[Any, int], Any]  # key, n -> examples
    score: Callable[[Any, float], Any]  # x, sigma -> true score
    net: Callable[[], Any]  # raw network
    mean: Any
    variance: Any
    low: float  # lowest noise level
    high: float
    log_sigma: tuple[float, float]  # mean and deviation in training
    updates: int
    batch: int
    tested: int


def plane(c):
    """Return the Gaussian mixture in two dimensions."""
    import jax
    from flax import nnx

    from basis.toys import random_mixture
    from score import MLP

    prior = random_mixture(jax.random.key(0), 2)
    net = partial(MLP, 2, 64, 3)
    mean, variance = prior.moments()
    return prior, Case(
        prior.sample,
        prior.score,
        lambda: net(rngs=nnx.Rngs(0)),
        mean,
        variance,
        0.15,
        2.4,
        (-0.7, 1.0),
        c.plane_updates,
        1024,
        20_000,
    )


def patch(c, height=96, width=64):
    """Return the Gaussian of height x width elements; its eigenvalues lie between .04 and 4."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    rng = np.random.default_rng(1)
    sides = [
        (np.linalg.qr(rng.normal(size=(n, n)))[0], np.exp(rng.uniform(np.log(0.2), np.log(2), n)))
        for n in (height, width)
    ]
    (axes_a, a), (axes_b, b) = sides
    values = a[:, None] * b
    roots = [jnp.asarray(axes * np.sqrt(v), jnp.float32) for axes, v in sides]

    class Separable(nnx.Module):
        """F(x, ln sigma) = sum_r w_r(ln sigma) A_r x B_r with three terms."""

        def __init__(self, rngs):
            def near_identity(n):
                spread = jax.random.normal(rngs.params(), (3, n, n)) / np.sqrt(n)
                return nnx.Param((jnp.eye(n)[None] + spread) / 2)

            self.a, self.b = near_identity(height), near_identity(width)
            self.w = nnx.Linear(16, 3, kernel_init=nnx.initializers.zeros, rngs=rngs)

        def __call__(self, x, log_sigma):
            angle = log_sigma[:, None] * jnp.geomspace(0.25, 2, 8)[None]
            w = self.w(jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1))
            inner = jnp.einsum("rij,bjk->brik", self.a[...], x)
            return jnp.einsum("br,brik,rkl->bil", w, inner, self.b[...])

    def draw(key, n):
        return roots[0] @ jax.random.normal(key, (n, height, width)) @ roots[1].T

    def score(x, sigma):
        along = axes_a.T @ np.asarray(x) @ axes_b
        return -axes_a @ (along / (values + sigma**2)) @ axes_b.T

    # the variance of every feature, as training would measure it
    column = (axes_b**2 @ b) * a.mean()
    return Case(
        draw,
        score,
        lambda: Separable(nnx.Rngs(0)),
        np.zeros(width),
        column,
        0.25,
        4.0,
        (-1.3, 1.2),
        c.patch_updates,
        24,
        100,
    )


def train(c, case, model, loss):
    """Return the averaged weights after all updates; loss(model, key, x0, sigma)."""
    import jax
    import jax.numpy as jnp
    import optax

    from score import lognormal

    rates = optax.warmup_cosine_decay_schedule(
        0, c.rate, case.updates // 12, case.updates, c.rate / 100
    )
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rates, b2=0.99))

    @jax.jit
    def run(model, key):
        def update(carry, key):
            model, average, state, i = carry
            keys = jax.random.split(key, 3)
            x0 = case.draw(keys[0], case.batch)
            sigma = lognormal(keys[1], case.batch, *case.log_sigma, case.low, case.high)
            gradient = jax.grad(lambda m: loss(m, keys[2], x0, sigma).mean())(model)
            change, state = optimiser.update(gradient, state)
            model = optax.apply_updates(model, change)
            rate = 1 - jnp.minimum(0.995, (1 + i) / (10 + i))
            return (model, optax.incremental_update(model, average, rate), state, i + 1), None

        start = model, model, optimiser.init(model), 0
        return jax.lax.scan(update, start, jax.random.split(key, case.updates))[0][1]

    return run(model, jax.random.key(3))


def relative_errors(case, prior):
    """Return |s - true| / |true| of a prior at `LEVELS` noise levels, rms over noisy examples."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from score import geometric

    clean, rng, out = case.draw(jax.random.key(5), case.tested), np.random.default_rng(0), []
    scored = jax.jit(lambda prior, x, sigma: prior.score(x, sigma))
    for sigma in geometric(LEVELS, case.low, case.high):
        x = np.asarray(clean) + sigma * rng.normal(size=clean.shape).astype(np.float32)
        true = np.asarray(case.score(x, sigma))
        error = np.asarray(scored(prior, jnp.asarray(x), jnp.float32(sigma))) - true
        out.append(float(np.sqrt((error**2).sum() / (true**2).sum())))
    return out[::-1]  # rising noise levels


def methods(c, case):
    """Return name -> (untrained model, its prior, loss) of all ways to learn a score."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from score import (
        EDM,
        Critic,
        CriticPrior,
        DenoiserPrior,
        contrast_loss,
        denoising_loss,
        draw_reference,
        order_loss,
    )

    class Blind(Critic):
        """A critic whose steps in the order loss do not follow its own score."""

        def slope(self, x, sigma):
            return jnp.zeros_like(x)

    def noisy(key, x0, sigma):
        wide = sigma.reshape(-1, *[1] * (x0.ndim - 1))
        return x0 + wide * jax.random.normal(key, x0.shape)

    def denoise(model, key, x0, sigma):
        return denoising_loss(model, x0, jax.random.normal(key, x0.shape), sigma)

    def contrast(critic, key, x0, sigma):
        keys = jax.random.split(key)
        others = draw_reference(critic, jax.random.normal(keys[1], x0.shape), sigma)
        return contrast_loss(critic, noisy(keys[0], x0, sigma), others, sigma)

    def order(step, critic, key, x0, sigma):
        keys = jax.random.split(key)
        noise = jax.random.normal(keys[1], x0.shape)
        return order_loss(critic, noisy(keys[0], x0, sigma), noise, sigma, step)

    levels, table = jnp.asarray([case.high, case.low]), jnp.ones((2, case.mean.shape[-1]))
    edm = EDM(case.net(), case.mean, jnp.sqrt(jnp.mean(case.variance)))
    critic = Critic(case.net(), case.mean, case.variance, rngs=nnx.Rngs(1))
    blind = Blind(case.net(), case.mean, case.variance, rngs=nnx.Rngs(1))

    def as_prior(critic):
        own = Critic(critic.net, case.mean, case.variance, rngs=nnx.Rngs(1))
        own.constant = critic.constant
        return CriticPrior(own, levels, table)

    # so short that two examples are not told apart by their logits alone
    blindly = min(c.step, case.draw(jax.random.key(0), 1).size ** -0.5)
    return {
        "score network, denoising": (edm, lambda m: DenoiserPrior(m, levels, table), denoise),
        "critic, contrast with q": (critic, as_prior, contrast),
        "critic, order of blind steps": (blind, as_prior, partial(order, blindly)),
        "critic, order": (critic, as_prior, partial(order, c.step)),
    }


def measure(c, case):
    """Return rows (method, errors), the first one of the reference q alone."""
    table = methods(c, case)
    start, as_prior, _ = table["critic, order"]  # untrained, its logit is 0
    rows = [("reference q alone", relative_errors(case, as_prior(start)))]
    for name, (model, as_prior, loss) in table.items():
        trained = train(c, case, model, loss)
        rows.append((name, relative_errors(case, as_prior(trained))))
        print(rows[-1])
    return rows


def guide(c, truth, case):
    """Return rows (method, errors) of a wrong prior with and without guidance."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from score import Critic, GuidedPrior, contrast_loss

    wrong = truth._replace(means=0.7 * truth.means + 0.3, variances=1.6 * truth.variances)

    def loss(critic, key, x0, sigma):
        keys, wide = jax.random.split(key, 3), sigma[:, None]
        fakes = wrong.sample(keys[0], len(x0))
        noise = jax.random.normal(keys[1], (2, *x0.shape))
        return contrast_loss(critic, x0 + wide * noise[0], fakes + wide * noise[1], sigma)

    critic = Critic(case.net(), case.mean, case.variance, rngs=nnx.Rngs(1))
    trained = train(c, case, critic, loss)
    rows = [("wrong prior", relative_errors(case, wrong))]
    for weight in (0.5, 1.0):
        prior = GuidedPrior(wrong, trained, jnp.asarray(weight))
        rows.append((f"guided, weight {weight:g}", relative_errors(case, prior)))
    print(rows)
    return rows


def table(case, rows):
    """Return a table of relative errors in percent."""
    from gensep.evaluation.statistics import markdown
    from score import geometric

    levels = geometric(LEVELS, case.low, case.high)[::-1]
    head = ("method", *(f"sigma {s:.2g}" for s in levels))
    cells = [(name, *(f"{100 * e:.1f} %" for e in found)) for name, found in rows]
    return markdown(head, cells)


def main(argv):
    """Train, measure and write the tables."""
    c = config.parse(Config, argv)
    from results import compact, raw_file

    from gensep.cli.records import commit, versions
    from gensep.runtime.files import write_atomically

    truth, mixture = plane(c)
    gaussian = patch(c)
    found = {"mixture": measure(c, mixture), "guidance": guide(c, truth, mixture)}
    found["gaussian"] = measure(c, gaussian)
    packages = ", ".join(f"{k} {v}" for k, v in versions().items())
    page = "\n".join(
        [
            "# Scores from critics",
            "",
            "Relative errors |s - true score| / |true score|, rms over noisy examples. All methods "
            "of a table have the same raw network and see the same number of examples.",
            "",
            f"**Gaussian mixture in two dimensions**, {c.plane_updates} updates of 1024 examples:",
            "",
            table(mixture, found["mixture"]),
            "",
            f"**Gaussian of 96 x 64 elements**, {c.patch_updates} updates of 24 examples:",
            "",
            table(gaussian, found["gaussian"]),
            "",
            "**Guidance**: a prior of the mixture whose means are shrunk and shifted and whose "
            "variances are 1.6 times too large, corrected by a critic of data against its samples:",
            "",
            table(mixture, found["guidance"]),
            "",
            "```sh",
            shlex.join([*PROG.split(), *argv]),
            "```",
            "",
            f"One of {os.cpu_count()} CPU cores; commit {commit() or 'unknown'}; {packages}.",
            "",
        ]
    )
    write_atomically(Path(f"{c.output}.md"), page)
    write_atomically(
        raw_file(c.output), compact({k: [list(r) for r in v] for k, v in found.items()})
    )
    print(page)


if __name__ == "__main__":
    errors.run(main)
