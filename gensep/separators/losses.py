"""Losses of separators: magnitudes estimated and true, to one number.

Published losses reward an estimate for being far from the other sources. That reward has no bound,
so the loss can fall for ever while the estimates get worse. By default it counts for no more than
the distance of the true source from the other one: the smallest loss is then that of the true
sources. With `compat` the reward is unbounded, and the absolute value of the sum is returned.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gensep.runtime.errors import UserError

# formula(estimates, targets, mixture, **options) -> scalar; estimates and targets are
# `[batch, source, channel, frame, bin]`, the mixture `[batch, plane, frame, bin]`
Formula = Callable[..., jax.Array]
Options = dict[str, Any]
# weight of the error between an estimate and a target, by their places in the order of the sources
Weights = dict[tuple[int, int], float]

FLOOR = 1e-4  # magnitude that is added below the level differences of channels


class Loss(NamedTuple):
    """A row of the table."""

    formula: Formula
    sources: tuple[str, ...] = ()  # in this order, by other names perhaps; none: any sources

    def __call__(
        self, estimates: jax.Array, targets: jax.Array, mixture: jax.Array, **options: object
    ) -> jax.Array:
        """Return the loss.

        Raises:
            UserError: for another number of sources than the loss is made for.
        """
        self.check(estimates.shape[1])
        return self.formula(estimates, targets, mixture, **options)

    @property
    def has_compat(self) -> bool:
        """Whether the published form differs, which `compat=True` gives."""
        return "compat" in inspect.signature(self.formula).parameters

    def check(self, sources: int) -> None:
        """Raise UserError for another number of sources than the loss is made for."""
        if self.sources and sources != len(self.sources):
            raise UserError(
                f"this loss needs {len(self.sources)} sources, in the order "
                f"{', '.join(self.sources)}, not {sources}; choose another --loss"
            )


def mse(estimates: jax.Array, targets: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return the mean squared error."""
    del mixture
    return jnp.mean((estimates - targets) ** 2)


def l1(estimates: jax.Array, targets: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return the sum of absolute errors over the sum of the mixture's magnitudes."""
    return jnp.abs(estimates - targets).sum() / jnp.maximum(mixture.sum(), 1e-8)


def log_mse(estimates: jax.Array, targets: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return the mean squared error of log(1 + magnitude) (Stoller, Ewert and Dixon 2018)."""
    del mixture
    return jnp.mean((jnp.log1p(estimates) - jnp.log1p(targets)) ** 2)


def squared(estimates: jax.Array, targets: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return the sum of squared errors (Miron et al. 2017, for Bach10)."""
    del mixture
    return jnp.sum((estimates - targets) ** 2)


def l1_sum(estimates: jax.Array, targets: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return the sum of absolute errors, as PytorchConvSep has it for its vocal denoiser."""
    del mixture
    return jnp.abs(estimates - targets).sum()


def _distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the squared distances of `[batch, ...]`, `[batch]`."""
    return jnp.sum((a - b) ** 2, axis=tuple(range(1, a.ndim)))


def dissimilar(
    estimates: jax.Array,
    targets: jax.Array,
    mixture: jax.Array,
    weights: Weights,
    *,
    compat: bool = False,
) -> jax.Array:
    """Return the weighted sum of squared errors between estimates and targets.

    Args:
        estimates: `[batch, source, channel, frame, bin]`.
        targets: the same.
        mixture: not used.
        weights: of estimate i against target j by (i, j). Negative weights reward distance: by
            default, in each example, up to that of the true source i from the source j.
        compat: no limit, and the absolute value of the whole.
    """
    del mixture
    total = jnp.zeros(())
    for (i, j), weight in weights.items():
        far = _distance(estimates[:, i], targets[:, j])
        if weight < 0 and not compat:
            far = jnp.minimum(far, _distance(targets[:, i], targets[:, j]))
        total = total + weight * far.sum()
    return jnp.abs(total) if compat else total


def song_weights(alpha: float = 0.001, beta: float = 0.01, beta_voice: float = 0.03) -> Weights:
    """Return the weights for vocals, bass, drums and other (Chandna et al. 2017).

    Args:
        alpha: reward for the distance of vocals, bass and drums from one another.
        beta: for that of bass and drums from the other sources.
        beta_voice: for that of vocals from the other sources.

    There is no direct term for other.
    """
    vocals, bass, drums, other = range(4)
    named = (vocals, bass, drums)
    weights = {(i, j): 1.0 if i == j else -alpha for i in named for j in named}
    return weights | {(bass, other): -beta, (drums, other): -beta, (vocals, other): -beta_voice}


IKALA = {(0, 0): 1.0, (1, 1): 0.9, (0, 1): -0.02}  # voice, accompaniment


def stereo_convsep(
    estimates: jax.Array, targets: jax.Array, mixture: jax.Array, *, compat: bool = False
) -> jax.Array:
    """Return the loss of PytorchConvSep, for vocals, drums, bass and other.

    Errors count less at high frequencies: their weight falls linearly to half. In the published
    form the targets alone are weighted, so that estimates of the treble come out low, and drums
    have no reward for being far from the other sources.
    """
    fall = jnp.linspace(1, 0.5, estimates.shape[-1])[None, None, None, None]
    order = (0, 2, 1, 3)  # of `song_weights`
    weights = {(order[i], order[j]): weight for (i, j), weight in song_weights().items()}
    if compat:
        del weights[1, 3]
    else:
        estimates = estimates * fall
    return dissimilar(estimates, targets * fall, mixture, weights, compat=compat)


def level_differences(x: jax.Array, floor: float = FLOOR) -> jax.Array:
    """Return left over right in dB, of magnitudes `[batch, source, 2, frame, bin]`.

    The result is a mean over examples and frames, `[source, bin]`.
    """
    level = 20 * jnp.log10(x + floor)
    return (level[:, :, 0] - level[:, :, 1]).mean((0, 2))


def ild(
    estimates: jax.Array,
    targets: jax.Array,
    mixture: jax.Array,
    *,
    stage: int = 2,
    compat: bool = False,
) -> jax.Array:
    """Return the sum of squared errors, and in stage 2 also that of level differences over 500.

    Args:
        estimates: `[batch, source, 2, frame, bin]`.
        targets: the same.
        mixture: not used.
        stage: 1, 2 or 3 (Erruz 2017); the last one is the first one again.
        compat: level differences are averaged over sources too, and stay in stage 3.

    Raises:
        UserError: if the magnitudes are not stereo.
    """
    total = squared(estimates, targets, mixture)
    if stage == 1 or (stage == 3 and not compat):
        return total
    if estimates.shape[2] != 2:
        raise UserError(
            f"level differences need 2 channels, not {estimates.shape[2]}; choose another --loss"
        )
    off = level_differences(estimates) - level_differences(targets)
    if compat:
        off = off.mean(0)
    return total + jnp.sum(off**2) / 500


SONG = ("vocals", "bass", "drums", "other")
# name -> loss; a new one is a function and a row
LOSSES: dict[str, Loss] = {
    "mse": Loss(mse),
    "l1": Loss(l1),
    "log_mse": Loss(log_mse),
    "l1_sum": Loss(l1_sum),
    "squared": Loss(squared),
    "dsd100": Loss(partial(dissimilar, weights=song_weights()), SONG),
    # alpha and beta are those of DSD100 over 1000
    "hhds": Loss(partial(dissimilar, weights=song_weights(1e-6, 1e-5)), SONG),
    "ikala": Loss(partial(dissimilar, weights=IKALA), ("voice", "accompaniment")),
    "ild_stage1": Loss(partial(ild, stage=1)),
    "ild_stage2": Loss(partial(ild, stage=2)),
    "ild_stage3": Loss(partial(ild, stage=3)),
    "stereo_convsep": Loss(stereo_convsep, ("vocals", "drums", "bass", "other")),
}
