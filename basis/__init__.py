"""Posterior sampling of sources, given priors, a mixing map and the mixture; on arrays only."""

from basis.check import check, check_levels
from basis.closed_form import Gaussian, gaussian_posterior, mixture_posterior
from basis.daps import daps, daps_pc, exact_conditioning, split_gibbs
from basis.diagnostics import coverage, sbc_ranks, sliced_wasserstein, stability
from basis.dps import dps
from basis.evidence import evidence_weights, implausibility, surprise
from basis.exact_step import exact_draw
from basis.gmm import ElementMixture, GaussianMixture, full_gaussian, gaussian_mixture
from basis.langevin import langevin
from basis.likelihood import denoising_bound, log_likelihood, terminal_of
from basis.mala import mala
from basis.mixing import (
    AncestorDecibel,
    CrossTerms,
    Decibel,
    Generated,
    Linear,
    Power,
    average,
    project,
)
from basis.mmps import mmps, mmps_draws, mmps_heun, mmps_pc, moment_matching
from basis.moves import moving, resample_stretches, stitch, swap
from basis.msdm import msdm
from basis.pigdm import pigdm, pseudo_inverse
from basis.prior import Density, Prior, denoise
from basis.quadrature import bin_posterior
from basis.sampler import Info, Kernel, Problem, sample
from basis.smc import twisted_smc
from basis.steps import (
    Guided,
    heun,
    onto_mixture,
    predictor_corrector,
    sde,
    unconditioned,
)
from basis.windowed import Windowed

__all__ = [
    "AncestorDecibel",
    "CrossTerms",
    "Decibel",
    "Density",
    "ElementMixture",
    "Gaussian",
    "GaussianMixture",
    "Generated",
    "Guided",
    "Info",
    "Kernel",
    "Linear",
    "Power",
    "Prior",
    "Problem",
    "Windowed",
    "average",
    "bin_posterior",
    "check",
    "check_levels",
    "coverage",
    "daps",
    "daps_pc",
    "denoise",
    "denoising_bound",
    "dps",
    "evidence_weights",
    "exact_conditioning",
    "exact_draw",
    "full_gaussian",
    "gaussian_mixture",
    "gaussian_posterior",
    "heun",
    "implausibility",
    "langevin",
    "log_likelihood",
    "mala",
    "mixture_posterior",
    "mmps",
    "mmps_draws",
    "mmps_heun",
    "mmps_pc",
    "moment_matching",
    "moving",
    "msdm",
    "onto_mixture",
    "pigdm",
    "predictor_corrector",
    "project",
    "pseudo_inverse",
    "resample_stretches",
    "sample",
    "sbc_ranks",
    "sde",
    "sliced_wasserstein",
    "split_gibbs",
    "stability",
    "stitch",
    "surprise",
    "swap",
    "terminal_of",
    "twisted_smc",
    "unconditioned",
]
