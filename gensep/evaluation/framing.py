"""Frames of a track, and which sources are silent, as museval defines them."""

import numpy as np

from gensep.runtime.spool import BLOCK, Waves


def frames(samples: int, rate: int, win: float, hop: float) -> list[tuple[int, int]]:
    """Return (start, stop) in samples of every frame; seconds are rounded down, as in museval.

    A track shorter than `win` seconds is one frame; a frame that would pass the end is left out.

    Raises:
        ValueError: if a window or hop is shorter than one sample.
    """
    width = samples if win == np.inf else int(win * rate)
    step = samples if hop == np.inf else int(hop * rate)
    if width < 1 or step < 1:
        raise ValueError(
            f"a window of {win} s and a hop of {hop} s must hold at least a sample at {rate} Hz"
        )
    if width >= samples:
        return [(0, samples)]
    return [(at, at + width) for at in range(0, samples - width + 1, step)]


def silent(signal: np.ndarray) -> bool:
    """Return whether a source of `[source, channel, n]` is silent: its channels add up to 0."""
    return any(not np.sum(source, axis=0, dtype=np.float64).any() for source in signal)


def silent_throughout(waves: Waves) -> np.ndarray:
    """Return for each source whether its channels add up to 0 throughout: bool `[source]`."""
    found = np.ones(waves.shape[0], bool)
    for start in range(0, waves.shape[-1], BLOCK):
        part = waves[..., start : start + BLOCK]
        found &= ~np.sum(part, axis=1, dtype=np.float64).any(axis=-1)
    return found
