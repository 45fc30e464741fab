"""From the posterior samples of all blocks to masks and their uncertainty, in constant memory.

The samples of a block are kept until all of them are there. Then they are judged against each
other, frame by frame, and their weighted means are added to those of the file, cross-faded where
blocks overlap.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from basis import evidence_weights
from gensep.representation.mel import Representation
from gensep.separation.chains import Chain
from gensep.separation.settings import Settings
from gensep.separation.uncertainty import Spread, Uncertainty


class Sample(NamedTuple):
    """A posterior sample of a block."""

    sources: np.ndarray  # float32 [source, frame, mel], model units
    implausible: np.ndarray  # [frame], nats
    residuals: np.ndarray  # [noise level], rms error of the mixing law, model units


class Evaluations(NamedTuple):
    """Network evaluations of one source in one place, all samples together."""

    forwards: int
    vjps: int
    judge: int  # forward passes, too


class Masks(NamedTuple):
    """Posterior mean of the power ratios, and what sampling cost."""

    masks: np.ndarray  # float32 [source, frame, mel], sum 1 over sources
    residuals: np.ndarray  # dB [noise level], rms error of the mixing law
    compile_seconds: float
    run_seconds: float
    uncertainty: Uncertainty | None = None
    evaluations: Evaluations = Evaluations(0, 0, 0)

    @property
    def residual(self) -> float:
        """Rms error of the mixing law at the last noise level, dB."""
        return float(self.residuals[-1]) if len(self.residuals) else 0.0


class Collected:
    """Sums over blocks, to which samples are added one by one, block after block."""

    def __init__(
        self,
        power: np.ndarray,
        n_sources: int,
        form: Representation,
        settings: Settings,
        length: int,
        *,
        spread: bool,
    ) -> None:
        """Prepare sums for a mixture's mel power `[frame, mel]` and blocks of `length` frames."""
        self.form, self.settings, self.length = form, settings, length
        self.total = np.zeros((n_sources, *power.shape), np.float32)
        self.weight = np.zeros(len(power), np.float32)
        self.squares: list[np.ndarray] = []
        self.block: list[Sample] = []
        self.spread: Spread | None = None
        if spread:
            weighed = settings.weighed
            self.spread = Spread(power, n_sources, form, settings.samples, weighed=weighed)

    def add(self, chain: Chain, sample: Sample) -> None:
        """Add a sample; those of one block must follow each other."""
        self.block.append(sample)
        self.squares.append(np.square(sample.residuals))
        if len(self.block) == self.settings.samples:
            self._close(chain[0])
            self.block = []

    def _close(self, start: int) -> None:
        """Judge the samples of the block that begins at a frame, and add their means."""
        stop = min(start + self.length, len(self.weight))
        here = slice(start, stop)
        fade = _fade(
            self.length,
            self.settings.fade,
            before=start > 0,
            behind=stop < len(self.weight),
        )[: stop - start]
        weights = self._weights(stop - start)
        sources = np.stack([one.sources[:, : stop - start] for one in self.block])
        for w, x in zip(weights, sources, strict=True):
            self.total[:, here] += np.asarray(self.form.masks(x)) * (w * fade)[:, None]
        self.weight[here] += fade
        if self.spread is not None:
            self.spread.add(here, sources, weights, fade)

    def _weights(self, frames: int) -> np.ndarray:
        """Return the weights of the block's samples, sum 1 over samples, `[sample, frame]`."""
        if not self.settings.weighed:
            return np.full((len(self.block), frames), 1 / len(self.block), np.float32)
        implausible = jnp.stack([jnp.asarray(one.implausible[:frames]) for one in self.block])
        settings = self.settings
        return np.asarray(
            evidence_weights(implausible, settings.weighting.temperature, settings.stretch)
        )

    def masks(self, compile_seconds: float, run_seconds: float, evaluations: Evaluations) -> Masks:
        """Return the means over all samples that were added."""
        residuals = np.sqrt(np.mean(self.squares, axis=0)) * self.form.span_db
        masks = self.total / self.weight[:, None]
        found = self.spread.uncertainty(self.weight) if self.spread is not None else None
        return Masks(masks, residuals, compile_seconds, run_seconds, found, evaluations)


def _fade(length: int, overlap: int, *, before: bool, behind: bool) -> np.ndarray:
    """Return the weights of a block's frames: ramps where it has neighbours."""
    ramp = (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
    fade = np.ones(length, np.float32)
    if before:
        fade[:overlap] = ramp
    if behind:
        fade[length - overlap :] *= ramp[::-1]
    return fade
