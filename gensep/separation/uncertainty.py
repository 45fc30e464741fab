"""How far the posterior samples of a file differ, collected block by block."""

from typing import NamedTuple

import numpy as np

from gensep.representation.mel import Representation


class Uncertainty(NamedTuple):
    """How far the posterior samples differ."""

    sd_db: np.ndarray  # float32 [source, frame, mel], standard deviation over the samples
    energy_db: np.ndarray  # float32 [sample, source], total mel energy relative to the mixture's


class Spread:
    """Sums over blocks, cross-faded where they overlap."""

    def __init__(
        self, power: np.ndarray, n_sources: int, form: Representation, samples: int
    ) -> None:
        """Prepare sums for a mixture's mel power `[frame, mel]`."""
        self.power, self.form = power, form
        self.sd = np.zeros((n_sources, *power.shape), np.float32)
        self.energy = np.zeros((samples, n_sources), np.float64)

    def add(self, here: slice, sources: np.ndarray, weights: np.ndarray, fade: np.ndarray) -> None:
        """Add the samples `[sample, source, frame, mel]` of the block at the frames `here`.

        Args:
            here: frames of the file.
            sources: in model units.
            weights: of the samples, `[sample, frame]`.
            fade: weights of the block's frames within the file.
        """
        self.sd[:, here] += sources.std(0, ddof=1) * fade[:, None]
        for number, x in enumerate(sources):
            self.energy[number] += (np.asarray(self.form.decode(x)) * fade[:, None]).sum((1, 2))

    def uncertainty(self, weight: np.ndarray) -> Uncertainty:
        """Return the spread; `weight: [frame]` is the sum of all fades."""
        sd = self.sd / weight[:, None] * self.form.span_db
        relative = np.maximum(self.energy, 1e-20) / max(self.power.sum(), 1e-20)
        return Uncertainty(sd, (10 * np.log10(relative)).astype(np.float32))
