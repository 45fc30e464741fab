"""A prior for any number of frames from a prior of short windows, without seams."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from basis.prior import Prior, spread


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Windowed:
    """The score of overlapping windows of `x: [batch, frames, ...]`, cross-faded.

    All windows see the same global state. Their scores are weighted with tapers that sum to 1, so
    that neither the state nor its noise has an edge inside the file.
    """

    prior: Prior  # of windows
    window: int = field(metadata={"static": True})  # frames
    overlap: int = field(metadata={"static": True})  # frames that neighbours share

    @property
    def sigmas(self) -> jax.Array:
        """Noise levels of the prior of windows."""
        return self.prior.sigmas

    def spread(self, sigma: jax.Array) -> jax.Array:
        """Return the spread of the windows, which may depend on the band but not on the frame."""
        return spread(self.prior, sigma)

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return the cross-faded score, shaped like x."""
        batch, frames, *rest = x.shape
        window, hop = self.window, self.window - self.overlap
        if frames <= window:
            return self.prior.score(x, sigma)
        count = -(-(frames - window) // hop) + 1
        # the last window is moved back so that it ends with x
        starts = np.minimum(np.arange(count) * hop, frames - window)
        index = starts[:, None] + np.arange(window)
        cut = x[:, index].reshape(batch * count, window, *rest)
        scores = self.prior.score(cut, sigma).reshape(batch, count, window, *rest)
        # explicit, because numpy 2.4's add.at reads past the end of an operand that it broadcasts
        taper = np.broadcast_to(_taper(window, self.overlap), index.shape)
        total = np.zeros(frames, np.float32)
        np.add.at(total, index, taper)
        weights = (taper / total[index]).reshape(count, window, *[1] * len(rest))
        return jnp.zeros_like(x).at[:, index].add(scores * weights[None])


def _taper(window: int, overlap: int) -> np.ndarray:
    """Return a window of ones with linear ramps over the overlap, float32 `[window]`."""
    ramp = (np.arange(overlap, dtype=np.float32) + 0.5) / max(overlap, 1)
    taper = np.ones(window, np.float32)
    taper[:overlap] *= ramp
    taper[window - overlap :] *= ramp[::-1]
    return taper


def windowed(prior: Prior, window: int, overlap: int) -> Windowed:
    """Return `prior` applied to windows of `window` frames, neighbours sharing `overlap` frames.

    Raises:
        ValueError: unless 0 <= overlap < window.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"expected 0 <= overlap < window = {window}, not {overlap}")
    return Windowed(prior, window, overlap)
