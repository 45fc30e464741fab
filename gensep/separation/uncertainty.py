"""How far the posterior samples of a file differ, collected block by block.

All is measured twice: with equal weights, as the sampler left the samples, and with the weights of
the judge (`gensep.separation.judges`), which favour the samples that the priors find plausible.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gensep.representation.mel import Representation

PROBABILITIES = (0.1, 0.5, 0.9)  # of the quantiles: a central 80 % interval and the median


class Levels(NamedTuple):
    """What is known of the levels of sources relative to the mixture's in the same bin, in dB."""

    mean_db: np.ndarray  # float32 [source, frame, mel], mean over the samples
    sd_db: np.ndarray  # float32 [source, frame, mel], their standard deviation
    quantiles_db: np.ndarray  # float32 [probability, source, frame, mel], at PROBABILITIES


class Uncertainty(NamedTuple):
    """How far the posterior samples differ."""

    equal: Levels  # all samples have the same weight
    judged: Levels  # the judge's weights; without a judge it is `equal` itself
    energy_db: np.ndarray  # float32 [sample, source], total mel energy relative to the mixture's
    judged_energy_db: np.ndarray  # float32 [source], of the mean power with the judge's weights
    effective: np.ndarray  # float32 [frame], effective number of samples, 1 to all

    @property
    def weighed(self) -> bool:
        """Whether a judge weighted the samples."""
        return self.judged is not self.equal

    @property
    def between(self) -> np.ndarray:
        """Share of the variance that lies between explanations of the mixture, 0 to 1, `[source]`.

        It is the part of the variance with equal weights that disappears when the judge weights the
        samples: 1 - mean judged variance / mean equal variance over frames and bins, at least 0.
        Weights that leave few samples also shrink the variance of samples that agree in their
        explanation, so that the share is an upper bound: n samples whose weights tell nothing lose
        1 - (1 - 1/e) / (1 - 1/n), where e is the effective number of samples.
        """
        equal, judged = (
            np.square(levels.sd_db).mean((1, 2)) for levels in (self.equal, self.judged)
        )
        return np.clip((equal - judged) / np.maximum(equal, 1e-20), 0, 1)


class Spread:
    """Sums over blocks, cross-faded where they overlap."""

    def __init__(
        self,
        power: np.ndarray,
        n_sources: int,
        form: Representation,
        samples: int,
        *,
        weighed: bool,
    ) -> None:
        """Prepare sums for a mixture's mel power `[frame, mel]`; `weighed`: there is a judge."""
        self.power, self.form = power, form
        shape = 2 + len(PROBABILITIES), n_sources, *power.shape
        self.levels = [np.zeros(shape, np.float32) for _ in range(1 + weighed)]
        self.energy = np.zeros((samples, n_sources), np.float64)
        self.judged_energy = np.zeros(n_sources, np.float64)
        self.effective = np.zeros(len(power), np.float32)

    def add(self, here: slice, sources: np.ndarray, weights: np.ndarray, fade: np.ndarray) -> None:
        """Add the samples `[sample, source, frame, mel]` of the block at the frames `here`.

        Args:
            here: frames of the file.
            sources: in model units.
            weights: of the samples, `[sample, frame]`.
            fade: weights of the block's frames within the file.
        """
        mixture = np.asarray(self.form.encode(self.power[here], sources.shape[1]))
        relative = self.form.span_db * (sources - mixture)
        equal = np.full_like(weights, 1 / len(weights))
        for total, each in zip(self.levels, (equal, weights), strict=False):
            total[:, :, here] += summarise(relative, each) * fade[:, None]
        for number, x in enumerate(sources):
            power = np.asarray(self.form.decode(x)) * fade[:, None]
            self.energy[number] += power.sum((1, 2))
            self.judged_energy += (power * weights[number, :, None]).sum((1, 2))
        self.effective[here] += fade / np.square(weights).sum(0)

    def uncertainty(self, weight: np.ndarray) -> Uncertainty:
        """Return the spread; `weight: [frame]` is the sum of all fades."""
        found = []
        for total in self.levels:
            total /= weight[:, None]
            found.append(Levels(total[0], total[1], total[2:]))
        energies = self._relative(self.energy), self._relative(self.judged_energy)
        return Uncertainty(found[0], found[-1], *energies, self.effective / weight)

    def _relative(self, energy: np.ndarray) -> np.ndarray:
        """Return energies relative to the mixture's, dB."""
        relative = np.maximum(energy, 1e-20) / max(self.power.sum(), 1e-20)
        return (10 * np.log10(relative)).astype(np.float32)


def summarise(levels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return mean, standard deviation and quantiles over samples, `[figure, source, frame, mel]`.

    The square of the deviation is n / (n - 1) times the variance of the weighted samples, so that
    for equal weights it is the usual estimate.

    Args:
        levels: `[sample, source, frame, mel]`, n samples of two or more.
        weights: `[sample, frame]`, sum 1 over the samples.
    """
    weights, n = weights[:, None, :, None], len(levels)
    mean = (weights * levels).sum(0)
    variance = n / (n - 1) * (weights * np.square(levels - mean)).sum(0)
    quantiles = weighted_quantiles(levels, weights, PROBABILITIES)
    return np.stack([mean, np.sqrt(variance), *quantiles])


def weighted_quantiles(
    values: np.ndarray, weights: np.ndarray, probabilities: Sequence[float]
) -> np.ndarray:
    """Return quantiles over the first axis of values, `[probability, ...]`.

    A quantile is the mean of the inverse distribution function of the weighted samples over a
    window around the probability. The window is 1 / e wide and lies within 0 and 1; e is the
    effective number of samples, 1 / sum of squared weights (Kish 1965). With equal weights this is
    the interpolation of `numpy.quantile` named hazen. Samples without weight do not matter
    (Akinshin 2023, "Weighted quantile estimators", arXiv:2304.07265).

    Args:
        values: `[sample, ...]`.
        weights: shaped alike or with axes of 1, sum 1 over the samples.
        probabilities: of the quantiles, 0 to 1.
    """
    order = np.argsort(values, 0)
    values = np.take_along_axis(values, order, 0)
    reached = np.cumsum(np.take_along_axis(np.broadcast_to(weights, values.shape), order, 0), 0)
    width = np.square(weights).sum(0)
    found = []
    for probability in probabilities:
        start = np.clip(probability - width / 2, 0, 1 - width)
        share = np.diff(np.clip((reached - start) / width, 0, 1), axis=0, prepend=0)
        found.append((share * values).sum(0))
    return np.stack(found)
