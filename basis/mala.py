"""Metropolis-adjusted Langevin sampling, for priors that know their log density."""

import jax
import jax.numpy as jnp

from basis.mixing import weights
from basis.prior import denoise_all
from basis.sampler import Kernel, observation_variance, report, residual


def mala(steps: int = 20, step_size: float = 0.2, gamma_scale: float = 1.0) -> Kernel:
    """Make the kernel: `steps` accepted or refused Langevin steps a level, exact at any step size.

    The target of a level is prod_k p_sigma(x_k) N(mixture; f(x), gamma^2), gamma^2 = gamma_scale
    sigma^2 + variance, as in `langevin(at="noisy")`; eta = step_size sigma^2.
    """

    def step(key, sources, problem, sigma, sigma_next, normal):
        eta = step_size * sigma**2
        axes = tuple(range(1, problem.mixture.ndim))

        def target(x):
            """Give log density `[batch]`, its gradient, and the denoised sources."""
            each = zip(problem.priors, x, strict=True)
            density = sum(prior.log_prob(x_k, sigma) for prior, x_k in each)
            clean = denoise_all(problem.priors, x, sigma)
            w, difference = weights(problem.mixing, x), residual(problem, x)
            gamma2 = gamma_scale * sigma**2 + observation_variance(problem, w)
            density = density - (difference**2 / (2 * gamma2)).sum(axes)
            if callable(problem.variance):
                density = density - (jnp.log(gamma2) / 2).sum(axes)
            return density, (clean - x) / sigma**2 + w * difference / gamma2, clean

        def one(carry, i):
            x, (density, slope, clean) = carry
            own = jax.random.fold_in(key, i)
            noise = normal(own)
            proposal = x + eta * slope + jnp.sqrt(2 * eta) * noise
            new = target(proposal)
            back = (x - proposal - eta * new[1]) ** 2 / (4 * eta)
            all_axes = (0, *(a + 1 for a in axes))
            change = new[0] - density + (noise**2 / 2 - back).sum(all_axes)
            u = jax.random.uniform(jax.random.fold_in(own, 1), change.shape, x.dtype)
            keep = jnp.log(u) < change
            wide = keep.reshape(-1, *[1] * len(axes))
            slope, clean = (jnp.where(wide, a, b) for a, b in ((new[1], slope), (new[2], clean)))
            density = jnp.where(keep, new[0], density)
            return (jnp.where(wide, proposal, x), (density, slope, clean)), keep.mean()

        start = (sources, target(sources))
        (x, (_, slope, clean)), kept = jax.lax.scan(one, start, jnp.arange(steps))
        # the noise of the last level is taken off by one step to the conditioned mean
        x = jnp.where(sigma_next == 0, x + sigma**2 * slope, x)
        return x, report(problem, clean, steps + 1, 0, kept.mean())

    def check(problem, sigmas):
        lacking = [type(p).__name__ for p in problem.priors if not hasattr(p, "log_prob")]
        if lacking:
            raise ValueError(
                f"mala needs priors with a log density; {lacking[0]} has none: take "
                "a flow or a closed form, or another sampler"
            )

    return Kernel(step, check=check)
