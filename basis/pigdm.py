"""Pseudo-inverse guidance (Song et al. 2023), which takes the denoiser's error as uncorrelated."""

import jax

from basis.broadcast import align_last
from basis.mixing import weights
from basis.prior import denoise_all, spread_all
from basis.sampler import Kernel, Normal, Problem, observation_variance, residual
from basis.steps import Guidance, Guided, hardened, sde


def pseudo_inverse(*, vjp: bool = True) -> Guidance:
    """Return the guidance D_k + C_k w_k v, v = (mixture - f(D)) / (variance + sum_k w_k^2 r_k^2).

    r_k is the spread of prior k. With `vjp`, C_k is Tweedie's covariance, at the cost of a
    vector-Jacobian product; without, it is r_k^2.
    """

    def guidance(
        key: jax.Array, sources: jax.Array, problem: Problem, sigma: jax.Array, normal: Normal
    ) -> Guided:
        denoised, pull = jax.vjp(lambda x: denoise_all(problem.priors, x, sigma), sources)
        w = weights(problem.mixing, denoised)
        error2 = spread_all(problem.priors, denoised, sigma) ** 2
        scale = observation_variance(problem, w) + (w**2 * error2).sum(0)
        asked = w * residual(problem, denoised)[None] / align_last(scale, w)
        move = sigma**2 * pull(asked)[0] if vjp else error2 * asked
        return Guided(denoised, denoised + move, 1, int(vjp))

    return guidance


def pigdm(*, vjp: bool = True, memory: float = 1.0, hard: bool = False) -> Kernel:
    """Return the kernel of pseudo-inverse guidance with the reverse SDE; see `basis.sde`."""
    return sde(hardened(pseudo_inverse(vjp=vjp), hard=hard), memory)
