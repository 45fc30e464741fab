"""A prior of short windows made into a prior of any length, without seams."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Windowed(NamedTuple):
    """The score of overlapping windows of `x: [batch, frames, ...]`, cross-faded (algorithms 11).

    Every window sees the one global state, and its score counts by a taper that sums to 1 with
    its neighbours', so that neither state nor noise has an edge inside the file.
    """

    prior: Any  # a basis.Prior of windows
    taper: jax.Array  # [window]; its shape carries the window, its ramps the overlap
    hop: jax.Array  # shape [hop, 0]: a size, kept in a shape to stay static under jit

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
        window, hop = len(self.taper), self.hop.shape[0]
        if frames <= window:
            return self.prior.score(x, sigma)
        count = -(-(frames - window) // hop) + 1
        # the last window is moved back to end with the block
        starts = np.minimum(np.arange(count) * hop, frames - window)
        index = starts[:, None] + np.arange(window)
        cut = x[:, index].reshape(batch * count, window, *rest)
        scores = self.prior.score(cut, sigma).reshape(batch, count, window, *rest)
        taper = self.taper.reshape(-1, *[1] * len(rest))
        total = jnp.zeros((frames, *[1] * len(rest))).at[index].add(taper)
        return jnp.zeros_like(x).at[:, index].add(scores * taper) / total


def windowed(prior: Any, window: int, overlap: int) -> Windowed:
    """Make `prior` act on windows of `window` frames that share `overlap` of them.

    Raises:
        ValueError: unless 0 <= overlap < window.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"expected 0 <= overlap < window = {window}, not {overlap}")
    ramp = (np.arange(overlap) + 0.5) / max(overlap, 1)
    taper = np.ones(window)
    taper[:overlap] *= ramp
    taper[window - overlap :] *= ramp[::-1]
    return Windowed(prior, jnp.asarray(taper, jnp.float32), jnp.zeros((window - overlap, 0)))
