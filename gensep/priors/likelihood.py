"""How well priors fit data: exact log densities, their cheaper bound, and what both may not be."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from basis import denoising_bound, log_likelihood
from basis.check import check_levels
from gensep.datasets.images import load_images
from gensep.datasets.spectrograms import to_power
from gensep.datasets.windows import open_windows
from gensep.representation.image import LEVELS, ImageForm
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from score import karras

RHO = 7.0  # of the noise levels


class Fit(NamedTuple):
    """Negative log densities of examples under a prior, nats per dimension in model units."""

    nll: np.ndarray  # [example], by the prior itself or the ODE; nan where it was left out
    bound: np.ndarray  # [example], by denoising alone; above nll in the mean; nan likewise
    probe_error: float  # of the mean of nll: standard error of the estimated trace
    step_error: float  # of the mean of nll: what halving the steps would change, about
    sigma: float  # noise of the density


def make_levels(prior: Any, count: int, sigma: float | None = None) -> np.ndarray:
    """Give falling noise levels `[count]` from the prior's largest to sigma or its smallest.

    Raises:
        UserError: if the prior does not know sigma, or there are too few levels.
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
    prior: Any,
    x: np.ndarray,
    levels: np.ndarray,
    *,
    noise: bool,
    ode: bool = True,
    bound: bool = True,
    probes: int = 1,
    seed: int = 0,
    terminal: Any = None,
    block: int = 16,
) -> Fit:
    """Measure how well a prior fits examples `x: [example, ...]` in model units.

    Args:
        prior: a `basis.Prior`.
        x: the examples.
        levels: of `make_levels`; the density is the one at the last.
        noise: whether noise of that level is added to the examples, which makes the mean the cross
            entropy of a density that all priors share and leaves no room for a spike; without it
            the examples themselves are judged, as dequantised images are.
        ode: whether the ODE is solved, or a prior with `log_prob` asked for its own density; the
            bound takes about a tenth of the ODE's time.
        bound: whether the bound is measured.
        probes: of the trace, each with a product with the Jacobian at every level.
        seed: of noise and probes.
        terminal: density at the first level, see `basis.log_likelihood`.
        block: examples at once.
    """
    keys = jax.random.split(jax.random.key(seed), 3)
    clean = jnp.asarray(x, jnp.float32)
    size, high, low = x[0].size, levels[0], levels[-1]
    nll, highest = np.full((2, len(x)), np.nan)
    probe, step = float("nan"), float("nan")
    if bound:
        highest = (
            -np.asarray(
                denoising_bound(
                    prior, keys[0], clean, low, high, len(levels), terminal=terminal, block=block
                )
            )
            / size
        )
    if ode:
        seen = clean + low * jax.random.normal(keys[1], x.shape) if noise else clean
    if ode and hasattr(prior, "log_prob"):
        nll, probe, step = -_own_density(prior, seen, low, block) / size, 0.0, 0.0
    elif ode:
        found = log_likelihood(
            prior, keys[2], seen, jnp.asarray(levels), probes, terminal=terminal, block=block
        )
        nll = -np.asarray(found.nats) / size
        probe = float(np.sqrt((np.asarray(found.probe_error) ** 2).sum())) / len(x) / size
        step = float(np.mean(found.step_error)) / size
    return Fit(nll, highest, probe, step, float(low))


def _own_density(prior: Any, x: jax.Array, sigma: float, block: int) -> np.ndarray:
    ask = jax.jit(lambda prior, x: prior.log_prob(x, jnp.float32(sigma)))
    return np.concatenate([ask(prior, x[i : i + block]) for i in range(0, len(x), block)])


def floor_of(sigma: float, *, noise: bool) -> float:
    """Give the least mean negative log density, nats per dimension, that noise `sigma` allows.

    No density with that noise is sharper than the noise: 1/2 ln(2 pi sigma^2) at its peak, and 1/2
    more for examples that have the noise themselves.
    """
    return 0.5 * float(np.log(2 * np.pi * sigma**2)) + (0.5 if noise else 0.0)


class DataKind(NamedTuple):
    """How data of a form are read for judging priors, and what unit the figures are told in."""

    unit: str
    noise: bool  # whether examples get the density's own noise
    read: Callable[[Any, str, Any], np.ndarray]  # (form, data, options) -> [example, ...]
    of: Callable[[Any, Any], Any]  # (form, nats per dimension in model units) -> in the unit
    noise_name: Callable[[Any, float], str]  # (form, sigma)


def _read_windows(form: Representation, data: str, c: Any) -> np.ndarray:
    """Give windows `[window, frames, mel]` of a spectrogram data set, drawn by the seed."""
    windows = open_windows(data, c.split or "valid", c.frames, representation=form, training=False)
    power = to_power(windows.batch(c.seed, 0, c.examples))
    return np.asarray(form.encode(jnp.asarray(power)))


def _read_images(form: ImageForm, data: str, c: Any) -> np.ndarray:
    """Give images of a set, drawn by the seed, dequantised by uniform noise of one step."""
    images, _ = load_images(data, c.split or "test", c.data_dir)
    if images.shape[1:] != form.shape:
        raise UserError(
            f"the images of {data} are {images.shape[1:]}, those of the prior "
            f"{form.shape}; give the set that it was trained on, or one alike"
        )
    rng = np.random.default_rng(c.seed)
    chosen = images[rng.permutation(len(images))[: c.examples]]
    return (chosen + rng.uniform(size=chosen.shape)) / LEVELS


# what a prior's arrays mean -> how it is judged
DATA_KINDS: dict[type, DataKind] = {
    # a density of decibels: model units are span_db of them
    Representation: DataKind(
        "nats/dim in dB",
        noise=True,
        read=_read_windows,
        of=lambda form, nats: nats + np.log(form.span_db),
        noise_name=lambda form, sigma: f"{sigma * form.span_db:.2f} dB",
    ),
    # a bound of the bits of integer pixels, whose steps are 1 / 256
    ImageForm: DataKind(
        "bits/dim",
        noise=False,
        read=_read_images,
        of=lambda form, nats: nats / np.log(2) + np.log2(LEVELS),
        noise_name=lambda form, sigma: f"{sigma * LEVELS:.2f} of 255",
    ),
}
