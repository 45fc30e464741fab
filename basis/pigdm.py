"""Pseudo-inverse guidance (Song et al. 2023): one variance for all of the denoiser's error."""

import jax

from basis.mixing import weights
from basis.prior import denoise_all, spread_all
from basis.sampler import Kernel, observation_variance, residual
from basis.steps import Guidance, Guided, hardened, sde


def pseudo_inverse(*, vjp: bool = True) -> Guidance:
    """Make the guidance D_k + C_k w_k v, v = (mixture - f(D)) / (variance + sum_k w_k^2 r_k^2).

    r is the prior's spread. C_k is Tweedie's covariance, a vector-Jacobian product, or r_k^2.
    """

    def guidance(key, sources, problem, sigma, normal):
        denoised, pull = jax.vjp(lambda x: denoise_all(problem.priors, x, sigma), sources)
        w = weights(problem.mixing, denoised)
        error2 = spread_all(problem.priors, denoised, sigma) ** 2
        scale = observation_variance(problem, w) + (w**2 * error2).sum(0)
        asked = w * residual(problem, denoised) / scale
        move = sigma**2 * pull(asked)[0] if vjp else error2 * asked
        return Guided(denoised, denoised + move, 1, int(vjp))

    return guidance


def pigdm(*, vjp: bool = True, memory: float = 1.0, hard: bool = False) -> Kernel:
    """Make the kernel: PiGDM with the reverse SDE."""
    return sde(hardened(pseudo_inverse(vjp=vjp), hard=hard), memory)
