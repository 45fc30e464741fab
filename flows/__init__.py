"""Normalising flows: exact densities of data at any noise level, and priors made of them."""

from flows.bijection import Bijection, Chain, Repeat, initialize
from flows.couplings import HalfCoupling, MaskedCoupling
from flows.density import (
    Density,
    SigmaEmbedding,
    likelihood_and_denoising,
    negative_log_likelihood,
)
from flows.dequantise import VariationalDequantiser, bits_per_dim, uniform
from flows.flowpp import flowpp
from flows.glow import glow
from flows.layers import ActNorm, InvertibleConv, Logit, Squeeze
from flows.multiscale import FreePrior, Level, SplitPrior
from flows.prior import FlowPrior, StackedFlowPrior
from flows.rates import learning_rates
from flows.realnvp import realnvp
from flows.transforms import Affine, LogisticMixture

__all__ = [
    "ActNorm",
    "Affine",
    "Bijection",
    "Chain",
    "Density",
    "FlowPrior",
    "FreePrior",
    "HalfCoupling",
    "InvertibleConv",
    "Level",
    "LogisticMixture",
    "Logit",
    "MaskedCoupling",
    "Repeat",
    "SigmaEmbedding",
    "SplitPrior",
    "Squeeze",
    "StackedFlowPrior",
    "VariationalDequantiser",
    "bits_per_dim",
    "flowpp",
    "glow",
    "initialize",
    "learning_rates",
    "likelihood_and_denoising",
    "negative_log_likelihood",
    "realnvp",
    "uniform",
]
