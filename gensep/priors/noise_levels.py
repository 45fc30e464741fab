"""Noise levels for training a score network, from its data (Song and Ermon 2020, NCSNv2)."""

import math
from typing import NamedTuple

import numpy as np

from gensep.runtime.errors import UserError
from score.noise import (
    largest_distance,
    technique2_levels,
    technique2_ratio,
    technique4_step,
    technique4_variance,
)


class Advice(NamedTuple):
    """Noise levels and steps of annealed Langevin dynamics, in model units."""

    examples: int
    dimension: int  # numbers in an example
    sd: float  # of the examples about their mean
    sigma_max: float  # technique 1: the largest distance between two examples
    levels: int  # technique 2, of a geometric schedule
    ratio: float  # technique 2: of neighbouring levels that overlap enough
    step: float  # technique 4: epsilon, the step at the smallest level
    variance: float  # technique 4: relative to sigma^2, after the steps at a level
    log_sigma_mean: float  # of the lognormal schedule: ln of 0.6 sd
    log_sigma_sd: float = 1.2  # Karras et al. 2022


def advise(x: np.ndarray, sigma_min: float, langevin: int) -> Advice:
    """Choose the noise levels of a score network.

    Args:
        x: training examples `[n, ...]`, model units.
        sigma_min: smallest noise level.
        langevin: steps of Langevin dynamics per level.

    Raises:
        UserError: if no two examples are farther apart than sigma_min.
    """
    dimension = x[0].size
    sigma_max = largest_distance(x)
    if sigma_max <= sigma_min:
        raise UserError(
            f"expected examples that lie farther apart than sigma_min = {sigma_min}, "
            f"not {sigma_max:.4g}; give a smaller --sigma_min or other data"
        )
    levels = technique2_levels(dimension, sigma_min, sigma_max)
    growth = (sigma_max / sigma_min) ** (1 / (levels - 1))
    step = technique4_step(sigma_min, growth, langevin)
    sd = float((x - x.mean(0)).std())
    return Advice(
        len(x),
        dimension,
        sd,
        sigma_max,
        levels,
        technique2_ratio(dimension),
        step,
        technique4_variance(step / sigma_min**2, growth, langevin),
        math.log(sd) - 0.5,
    )
