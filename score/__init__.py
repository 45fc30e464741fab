"""Score networks: denoisers of any noise level, their preconditioning, loss and noise schedules."""

from score.conv1d import Conv1dDenoiser
from score.critic import Critic, CriticPrior, contrast_loss, draw_reference, order_loss
from score.edm import EDM, denoising_loss
from score.guidance import GuidedPrior
from score.mlp import MLP
from score.ncsn import NCSNv1, NCSNv2
from score.noise import geometric, karras, lognormal
from score.prior import DenoiserPrior
from score.unet import UNet
from score.wasserstein import SpectrogramCritic, gradient_penalty, wasserstein

__all__ = [
    "EDM",
    "MLP",
    "Conv1dDenoiser",
    "Critic",
    "CriticPrior",
    "DenoiserPrior",
    "GuidedPrior",
    "NCSNv1",
    "NCSNv2",
    "SpectrogramCritic",
    "UNet",
    "contrast_loss",
    "denoising_loss",
    "draw_reference",
    "geometric",
    "gradient_penalty",
    "karras",
    "lognormal",
    "wasserstein",
    "order_loss",
]
