"""Posterior sampling of sources under priors and a mixing map: arrays in, arrays out."""

from basis.check import check, check_levels
from basis.closed_form import Gaussian, gaussian_posterior
from basis.daps import daps, daps_pc, exact_conditioning, split_gibbs
from basis.dps import dps
from basis.exact_step import exact_draw
from basis.langevin import langevin
from basis.mala import mala
from basis.mixing import AncestorDecibel, CrossTerms, Decibel, Linear, Power, average, project
from basis.mmps import mmps, mmps_draws, mmps_heun, mmps_pc, moment_matching
from basis.msdm import msdm
from basis.pigdm import pigdm, pseudo_inverse
from basis.prior import Prior, denoise
from basis.sampler import Info, Kernel, Problem, sample
from basis.smc import twisted_smc
from basis.steps import Guided, heun, predictor_corrector, sde
from basis.windowed import Windowed

__all__ = [
    "AncestorDecibel", "CrossTerms", "Decibel", "Gaussian", "Guided", "Info", "Kernel", "Linear",
    "Power", "Prior", "Problem", "Windowed", "average", "check", "check_levels", "daps", "daps_pc",
    "denoise", "dps", "exact_conditioning", "exact_draw", "gaussian_posterior", "heun", "langevin",
    "mala", "mmps", "mmps_draws", "mmps_heun", "mmps_pc", "moment_matching", "msdm", "pigdm",
    "predictor_corrector", "project", "pseudo_inverse", "sample", "sde", "split_gibbs",
    "twisted_smc",
]
