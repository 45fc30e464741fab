"""Posterior sampling of sources under priors and a mixing map: arrays in, arrays out."""

from basis.closed_form import Gaussian, gaussian_posterior
from basis.langevin import langevin
from basis.mixing import Decibel, Linear
from basis.mmps import mmps
from basis.prior import Prior, check_levels, denoise
from basis.sampler import Info, Problem, sample
from basis.windowed import Windowed

__all__ = ["Decibel", "Gaussian", "Info", "Linear", "Prior", "Problem", "Windowed", "check_levels",
           "denoise", "gaussian_posterior", "langevin", "mmps", "sample"]
