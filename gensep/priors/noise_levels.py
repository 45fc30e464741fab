"""Noise levels for training a score network, from its data (Song and Ermon 2020, NCSNv2)."""

import math

import numpy as np

from gensep.runtime.errors import UserError
from score.noise import (
    largest_distance,
    technique2_levels,
    technique2_ratio,
    technique4_step,
    technique4_variance,
)


def advise(x: np.ndarray, sigma_min: float, langevin: int) -> str:
    """Return TOML for gensep.train_ncsn, with comments on where its numbers come from.

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
    share = step / sigma_min**2
    sd = float((x - x.mean(0)).std())
    return f"""\
# {len(x)} examples of {dimension} numbers
schedule = "geometric"
sigma_max = {sigma_max:.4g}  # technique 1: the largest distance between two examples
sigma_min = {sigma_min:g}  # given; the data's own error, or half a step of their quantisation
noise_levels = {levels}  # technique 2: neighbours overlap by half, ratio \
{technique2_ratio(dimension):.5f}

# or, for networks that take any level (unet, conv1d):
# schedule = "lognormal"
# log_sigma_mean = {math.log(sd) - 0.5:.2f}  # ln of 0.6 times the data's sd, {sd:.3f}
# log_sigma_sd = 1.2  # Karras et al. 2022

# annealed Langevin dynamics, {langevin} steps per level
# technique 4: epsilon = {step:.3g}, steps of {share:.4f} sigma^2, keep each
# level's variance at {technique4_variance(share, growth, langevin):.3f} sigma^2; \
{levels * langevin} evaluations in all"""
