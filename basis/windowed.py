"""A prior of short windows made into a prior of any length, without seams."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Windowed:
    """The score of overlapping windows of `x: [batch, frames, ...]`, cross-faded.

    Every window sees the one global state, and its score counts by a taper that sums to 1 with
    its neighbours', so that neither state nor noise has an edge inside the file.
    """

    prior: Any  # a basis.Prior of windows
    window: int = field(metadata={"static": True})  # frames
    overlap: int = field(metadata={"static": True})  # frames that neighbours share

    @property
    def sigmas(self) -> jax.Array:
        """Noise levels of the windows' prior."""
        return self.prior.sigmas

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Give the windows' spread; it may depend on the band, not on the frame."""
        known = getattr(self.prior, "spread", None)
        return known(sigma) if known is not None else sigma

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Give the cross-faded score, shaped like x."""
        batch, frames, *rest = x.shape
        window, hop = self.window, self.window - self.overlap
        if frames <= window:
            return self.prior.score(x, sigma)
        count = -(-(frames - window) // hop) + 1
        # the last window is moved back to end with the block
        starts = np.minimum(np.arange(count) * hop, frames - window)
        index = starts[:, None] + np.arange(window)
        cut = x[:, index].reshape(batch * count, window, *rest)
        scores = self.prior.score(cut, sigma).reshape(batch, count, window, *rest)
        # spelled out: numpy 2.4's add.at reads past the end of a broadcast operand
        taper = np.broadcast_to(_taper(window, self.overlap), index.shape)
        total = np.zeros(frames, np.float32)
        np.add.at(total, index, taper)
        weights = (taper / total[index]).reshape(count, window, *[1] * len(rest))
        return jnp.zeros_like(x).at[:, index].add(scores * weights)


def _taper(window: int, overlap: int) -> np.ndarray:
    """Give a window of ones with linear ramps over the overlap, float32 `[window]`."""
    ramp = (np.arange(overlap, dtype=np.float32) + 0.5) / max(overlap, 1)
    taper = np.ones(window, np.float32)
    taper[:overlap] *= ramp
    taper[window - overlap :] *= ramp[::-1]
    return taper


def windowed(prior: Any, window: int, overlap: int) -> Windowed:
    """Make `prior` act on windows of `window` frames that share `overlap` of them.

    Raises:
        ValueError: unless 0 <= overlap < window.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"expected 0 <= overlap < window = {window}, not {overlap}")
    return Windowed(prior, window, overlap)
