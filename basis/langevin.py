"""BASIS: annealed Langevin dynamics on the posterior (Jayaram and Thickstun 2020)."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from basis.diagnostics import check_langevin
from basis.mixing import Linear, project, slopes, weights
from basis.prior import denoise, denoise_all
from basis.sampler import Info, Kernel, Normal, Problem, observation_variance, report, residual

# (noisy sources, denoised sources) -> gradient of the log likelihood, `[source, batch, ...]`
LikelihoodScore = Callable[[jax.Array, jax.Array], jax.Array]


class Settings(TypedDict, total=False):
    """Options of `langevin`."""

    step_size: float
    gamma_scale: float
    at: Literal["noisy", "denoised"]


# The settings of published programs: step_size is their delta / sigma_L^2, and gamma_scale is the
# variance of their likelihood over sigma^2 (some of their gradients lack a factor 1/2).
ANCESTORS: dict[str, Settings] = {
    "paper": {"step_size": 0.2, "at": "noisy"},
    "cifar": {"step_size": 0.3, "at": "noisy"},
    "mnist": {"step_size": 0.3, "gamma_scale": 0.5, "at": "noisy"},
    "spectrograms": {"step_size": 0.2, "at": "noisy"},  # with mixing AncestorDecibel
    "parallel": {"step_size": 0.05, "gamma_scale": 1 / 15, "at": "noisy"},
}


class _Options(NamedTuple):
    """The arguments of `langevin`."""

    steps: int
    step_size: float
    gamma_scale: float
    at: str
    order: str
    hard: bool


def langevin(
    steps: int = 100,
    step_size: float = 0.2,
    gamma_scale: float = 1.0,
    at: Literal["noisy", "denoised"] = "denoised",
    order: Literal["jacobi", "gauss-seidel"] = "jacobi",
    *,
    hard: bool = False,
) -> Kernel:
    """Return the kernel: Langevin steps on p_sigma(x) N(mixture; f(.), gamma^2) (paper, alg. 1).

    The step is eta = step_size sigma^2 (step_size is the paper's delta / sigma_L^2), and gamma^2 =
    gamma_scale sigma^2 + variance. It diverges unless step_size (|w|^2 / gamma_scale + 1) < 2.

    Args:
        steps: Langevin steps per level.
        step_size: step size relative to the noise variance; the paper has 0.2.
        gamma_scale: variance of the likelihood in units of the noise variance.
        at: apply the mixing map to the noisy sources, as the paper does (biased where f is not
            linear), or to the denoised sources, whose Jacobian is taken as the identity.
        order: "jacobi" moves all sources at once; "gauss-seidel" moves one after the other.
        hard: use no likelihood, but project every step onto f(x) = mixture plus its noise.

    Raises:
        ValueError: for another `at` or `order`.
    """
    if at not in ("noisy", "denoised") or order not in ("jacobi", "gauss-seidel"):
        raise ValueError(
            f"at must be 'noisy' or 'denoised', not {at!r}, and order 'jacobi' or "
            f"'gauss-seidel', not {order!r}"
        )

    options = _Options(steps, step_size, gamma_scale, at, order, hard)

    def check(problem: Problem, sigmas: ArrayLike) -> None:
        scale = np.inf if hard else gamma_scale
        check_langevin(step_size, scale, problem.mixing, at)

    return Kernel(partial(_step, options), check=check, generated=not hard)


def _step(
    options: _Options,
    key: jax.Array,
    sources: jax.Array,
    problem: Problem,
    sigma: jax.Array,
    sigma_next: jax.Array,
    normal: Normal,
) -> tuple[jax.Array, Info]:
    """Take the sources from one noise level to the next."""
    steps, step_size, gamma_scale, at, order, hard = options
    eta = step_size * sigma**2

    def likelihood(x: jax.Array, clean: jax.Array) -> jax.Array:
        if hard:
            return jnp.zeros_like(x)
        point = clean if at == "denoised" else x
        w = weights(problem.mixing, point)
        gamma2 = gamma_scale * sigma**2 + observation_variance(problem, w)
        return slopes(problem.mixing, point).pull(residual(problem, point) / gamma2)

    def one(carry: tuple[jax.Array, jax.Array], i: jax.Array) -> tuple[tuple, None]:
        x, _ = carry
        noise = jnp.sqrt(2 * eta) * normal(jax.random.fold_in(key, i))
        if order == "jacobi":
            move, clean = _drift(problem, x, sigma, likelihood)
            x = x + eta * move + noise
        else:
            x, clean = _one_by_one(problem, x, sigma, eta, noise, likelihood)
        if hard:
            x = projected(problem, x, sigma, normal(jax.random.fold_in(key, i + steps + 1)))
        return (x, clean), None

    (x, clean), _ = jax.lax.scan(one, (sources, sources), jnp.arange(steps))

    # one step to the conditioned mean removes the noise of the last level
    def finish(x: jax.Array) -> jax.Array:
        x = x + sigma**2 * _drift(problem, x, sigma, likelihood)[0]
        return project(problem.mixing, x, problem.mixture) if hard else x

    x = jax.lax.cond(sigma_next == 0, finish, lambda x: x, x)
    evaluations = steps * (2 if order == "gauss-seidel" else 1) + (sigma_next == 0)
    return x, report(problem, clean, evaluations)


def _drift(
    problem: Problem, x: jax.Array, sigma: jax.Array, likelihood: LikelihoodScore
) -> tuple[jax.Array, jax.Array]:
    """Return the gradient of the log posterior, and the denoised sources."""
    clean = denoise_all(problem.priors, x, sigma)
    return (clean - x) / sigma**2 + likelihood(x, clean), clean


def _one_by_one(
    problem: Problem,
    x: jax.Array,
    sigma: jax.Array,
    eta: jax.Array,
    noise: jax.Array,
    likelihood: LikelihoodScore,
) -> tuple[jax.Array, jax.Array]:
    """Move one source after the other by a Langevin step; return noisy and denoised sources."""
    clean = denoise_all(problem.priors, x, sigma)
    for k, prior in enumerate(problem.priors):
        fresh = denoise(prior, x[k], sigma)
        clean = clean.at[k].set(fresh)
        move = (fresh - x[k]) / sigma**2 + likelihood(x, clean)[k]
        x = x.at[k].add(eta * move + noise[k])
    return x, clean


def projected(problem: Problem, x: jax.Array, sigma: jax.Array, noise: jax.Array) -> jax.Array:
    """Move noisy sources so that f(x) is the mixture plus the noise of f(x + sigma n)."""
    if isinstance(problem.mixing, Linear):
        share = jnp.sqrt((problem.mixing.gains**2).sum()) * sigma * noise[0]
        return project(problem.mixing, x, problem.mixture + share)
    return project(problem.mixing, x, problem.mixture)
