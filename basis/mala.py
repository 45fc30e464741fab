"""Metropolis-adjusted Langevin sampling (Roberts and Tweedie 1996), for priors with `log_prob`."""

from collections.abc import Sequence
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from basis.broadcast import align_first
from basis.mixing import slopes, weights
from basis.prior import Density, denoise_all
from basis.sampler import Info, Kernel, Normal, Problem, observation_variance, report, residual

# log density `[batch]`, its gradient and the denoised sources, both `[source, batch, ...]`
Target = tuple[jax.Array, jax.Array, jax.Array]


def mala(steps: int = 20, step_size: float = 0.2, gamma_scale: float = 1.0) -> Kernel:
    """Return the kernel: `steps` Langevin steps per level, each accepted or rejected.

    The target of a level is prod_k p_sigma(x_k) N(mixture; f(x), gamma^2) with gamma^2 =
    gamma_scale sigma^2 + variance, as in `langevin(at="noisy")`; the step is eta = step_size
    sigma^2. Its stationary distribution is exact at any step size. The priors need `log_prob`.
    """

    def step(
        key: jax.Array,
        sources: jax.Array,
        problem: Problem,
        sigma: jax.Array,
        sigma_next: jax.Array,
        normal: Normal,
    ) -> tuple[jax.Array, Info]:
        eta = step_size * sigma**2
        axes = (0, *range(2, sources.ndim))
        target = partial(_target, problem, sigma, gamma_scale)

        def one(carry: tuple[jax.Array, Target], i: jax.Array) -> tuple[tuple, jax.Array]:
            x, (density, slope, clean) = carry
            own = jax.random.fold_in(key, i)
            noise = normal(own)
            proposal = x + eta * slope + jnp.sqrt(2 * eta) * noise
            new = target(proposal)
            back = (x - proposal - eta * new[1]) ** 2 / (4 * eta)
            change = new[0] - density + (noise**2 / 2 - back).sum(axes)
            u = jax.random.uniform(jax.random.fold_in(own, 1), change.shape, x.dtype)
            keep = jnp.log(u) < change
            wide = align_first(keep, sources[0])[None]
            slope, clean = (jnp.where(wide, a, b) for a, b in ((new[1], slope), (new[2], clean)))
            density = jnp.where(keep, new[0], density)
            return (jnp.where(wide, proposal, x), (density, slope, clean)), keep.mean()

        start = (sources, target(sources))
        (x, (_, slope, clean)), kept = jax.lax.scan(one, start, jnp.arange(steps))
        # one step to the conditioned mean removes the noise of the last level
        x = jnp.where(sigma_next == 0, x + sigma**2 * slope, x)
        return x, report(problem, clean, steps + 1, 0, kept.mean())

    def check(problem: Problem, sigmas: ArrayLike) -> None:
        lacking = [type(p).__name__ for p in problem.priors if not hasattr(p, "log_prob")]
        if lacking:
            raise ValueError(
                f"mala needs priors with a log density; {lacking[0]} has none: use "
                "a flow or a closed form, or another sampler"
            )

    return Kernel(step, check=check, generated=True)


def _target(problem: Problem, sigma: jax.Array, gamma_scale: float, x: jax.Array) -> Target:
    """Return the log density of a level at x, its gradient, and the denoised sources."""
    axes = tuple(range(1, problem.mixture.ndim))
    each = zip(cast(Sequence[Density], problem.priors), x, strict=True)
    density = jnp.asarray(sum(prior.log_prob(x_k, sigma) for prior, x_k in each))
    clean = denoise_all(problem.priors, x, sigma)
    w, difference = weights(problem.mixing, x), residual(problem, x)
    gamma2 = gamma_scale * sigma**2 + observation_variance(problem, w)
    density = density - (difference**2 / (2 * gamma2)).sum(axes)
    if callable(problem.variance):
        density = density - (jnp.log(gamma2) / 2).sum(axes)
    likelihood = slopes(problem.mixing, x).pull(difference / gamma2)
    return density, (clean - x) / sigma**2 + likelihood, clean
