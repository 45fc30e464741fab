"""How well priors fit data: log densities, their cheaper bound, and the limit of both."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from basis import Gaussian, Prior, denoising_bound, log_likelihood
from basis.check import check_levels
from gensep.datasets.examples import Request
from gensep.datasets.kinds import read_examples
from gensep.priors.files import LoadedPrior
from gensep.runtime.errors import UserError
from score import karras

RHO = 7.0  # of the noise levels


class Fit(NamedTuple):
    """Negative log densities of examples under a prior, nats per dimension in model units.

    `measure` converts them into the unit of the prior's form.
    """

    nll: np.ndarray  # [example], by the prior itself or the ODE; nan if it was not measured
    bound: np.ndarray  # [example], by denoising alone; in the mean above nll; nan likewise
    floor: float  # the least possible mean, see `floor_of`
    probe_error: float  # of the mean of nll: standard error due to the estimated trace
    step_error: float  # of the mean of nll: estimate of the discretisation error
    sigma: float  # noise level of the density
    dimensions: int  # of an example


def make_levels(prior: Prior, count: int, sigma: float | None = None) -> np.ndarray:
    """Return falling noise levels `[count]` from the prior's largest to sigma or its smallest.

    Raises:
        UserError: if sigma is outside the range of the prior, or there are too few levels.
    """
    if count < 3:
        raise UserError(f"expected --levels of 3 or more, not {count}")
    high, low = float(np.max(prior.sigmas)), float(np.min(prior.sigmas))
    if sigma is not None and not low * 0.999 <= sigma < high:
        raise UserError(
            f"expected a --sigma between {low:.4g} and {high:.4g}, where the prior was "
            f"trained, not {sigma:.4g}"
        )
    levels = karras(count, sigma or low, high, RHO)
    check_levels([prior], levels)
    return levels


def fit(
    prior: Prior,
    x: np.ndarray,
    levels: np.ndarray,
    *,
    noise: bool,
    ode: bool = True,
    bound: bool = True,
    probes: int = 1,
    seed: int = 0,
    terminal: Gaussian | None = None,
    block: int = 16,
) -> Fit:
    """Measure how well a prior fits examples `x: [example, ...]` in model units.

    Args:
        prior: of the examples.
        x: the examples.
        levels: of `make_levels`; the density is that of the examples with noise of the last level.
        noise: whether noise of that level is added to the examples. The mean is then the cross
            entropy of a density with noise, which cannot be lowered by a spike, and comparable
            between priors. Without it the examples themselves are evaluated, as dequantised images
            are.
        ode: whether nll is measured, by the prior's own `log_prob` if it has one that integrates
            to 1, unlike that of critics, otherwise by the probability-flow ODE, which takes about
            ten times as long as the bound.
        bound: whether the bound is measured.
        probes: random probes of the trace; each takes a vector-Jacobian product per noise level.
        seed: of noise and probes.
        terminal: density at the first level, see `basis.log_likelihood`.
        block: examples at once.
    """
    keys = jax.random.split(jax.random.key(seed), 3)
    clean, common = jnp.asarray(x, jnp.float32), {"terminal": terminal, "block": block}
    size, high, low = x[0].size, levels[0], levels[-1]
    nll, highest = np.full((2, len(x)), np.nan)
    probe, step = float("nan"), float("nan")
    if bound:
        found_bound = denoising_bound(prior, keys[0], clean, low, high, len(levels), **common)
        highest = -np.asarray(found_bound) / size
    if ode:
        seen = clean + low * jax.random.normal(keys[1], x.shape) if noise else clean
    own = hasattr(prior, "log_prob") and getattr(prior, "normalised", True)
    if ode and own:
        nll, probe, step = -_own_density(prior, seen, low, block) / size, 0.0, 0.0
    elif ode:
        found = log_likelihood(prior, keys[2], seen, jnp.asarray(levels), probes, **common)
        nll = -np.asarray(found.nats) / size
        probe = float(np.sqrt((np.asarray(found.probe_error) ** 2).sum())) / len(x) / size
        step = float(np.mean(found.step_error)) / size
    return Fit(nll, highest, floor_of(float(low), noise=noise), probe, step, float(low), size)


def _own_density(prior: Prior, x: jax.Array, sigma: float, block: int) -> np.ndarray:
    ask = jax.jit(lambda prior, x: prior.log_prob(x, jnp.float32(sigma)))
    return np.concatenate([ask(prior, x[i : i + block]) for i in range(0, len(x), block)])


def floor_of(sigma: float, *, noise: bool) -> float:
    """Return the least mean negative log density, nats per dimension, that noise `sigma` allows.

    No density with that noise is higher than the peak of the noise: 1/2 ln(2 pi sigma^2), and 1/2
    more in the mean over examples that contain the noise themselves (`noise`).
    """
    return 0.5 * float(np.log(2 * np.pi * sigma**2)) + (0.5 if noise else 0.0)


def measure(
    loaded: LoadedPrior,
    data: str,
    request: Request,
    *,
    levels: int = 33,
    sigma: float | None = None,
    ode: bool = True,
    probes: int = 1,
    block: int = 16,
) -> Fit:
    """Measure how well a prior fits a data set.

    Args:
        loaded: the prior.
        data: name of a set of images, or folder of a data set of spectrograms.
        request: which examples; its seed is also that of the noise and of the probes.
        levels: noise levels of the ODE; a network of fixed levels has its own.
        sigma: noise of the density, model units; by default the prior's smallest noise level.
        ode: as `probes` and `block`, see `fit`.
        probes: of the trace.
        block: examples at once.

    Raises:
        UserError: if the data cannot be read or are not of the prior's form, or for noise levels
            that the prior does not know.
    """
    form, noise = loaded.form, not loaded.form.discrete
    x = read_examples(data, request._replace(form=form, dequantise=True)).x
    own = loaded.header["settings"].get("sigmas")
    sigmas = make_levels(loaded.prior, levels, sigma) if own is None else np.array(own)
    # Networks with fixed noise levels are evaluated only there; the bound needs arbitrary levels.
    judged = partial(fit, loaded.prior, x, sigmas, noise=noise, ode=ode, bound=own is None)
    found = judged(probes=probes, seed=request.seed, block=min(block, len(x)))
    scale = float(form.in_unit(1.0) - form.in_unit(0.0))
    return found._replace(
        nll=form.in_unit(found.nll),
        bound=form.in_unit(found.bound),
        floor=float(form.in_unit(found.floor)),
        probe_error=scale * found.probe_error,
        step_error=scale * found.step_error,
    )
