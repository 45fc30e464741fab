"""Windows of spectrograms as training examples: random level, timbre, room, tempo and noise."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gensep.datasets.augment import PREROLL, Spread, augment, crop
from gensep.datasets.examples import VALID_SEED
from gensep.representation.mel import Representation

HELD_OUT_GAINS_DB = (-8.0, -2.0, 4.0)


def open_spectrograms(c: Any) -> "SpectrogramExamples":
    """Open a data set that gensep.wav_to_spec wrote."""
    from gensep.datasets.windows import open_windows

    frames = c.frames + 2 * PREROLL
    train = open_windows(c.data, "train", frames)
    valid = open_windows(c.data, "valid", frames, representation=train.representation)
    return SpectrogramExamples(c, train, valid)


class SpectrogramExamples:
    """Examples `[frames, mel]` of two sets of windows; satisfies the protocol `Examples`."""

    def __init__(self, c: Any, train: Any, valid: Any):
        self.frames, self.valid_windows = c.frames, c.valid_windows
        self.spread = Spread(
            c.gain_low, c.gain_high, c.equaliser, c.tilt, c.room, c.noise, c.stretch
        )
        self.train, self.valid = train, valid
        self.form = Representation(**train.representation)
        self.features = self.form.n_mels

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Give int16 windows with their margins, hundredths of a dB."""
        return self.train.batch(seed, step, size)

    def inputs(self, key: jax.Array, raw: jax.Array) -> jax.Array:
        """Augment int16 windows and encode them, `[batch, frames, mel]`."""
        return self.form.encode(augment(key, raw / 100.0, self.frames, self.spread))

    def held_out(self) -> np.ndarray:
        """Give validation windows, unvaried, at three levels of loudness."""
        windows = self.valid.batch(VALID_SEED, 0, self.valid_windows)
        power = crop(jnp.asarray(windows) / 100.0, self.frames)
        gains = 10 ** (jnp.asarray(HELD_OUT_GAINS_DB) / 10)
        return np.asarray(self.form.encode(power * jnp.resize(gains, (len(power), 1, 1))))

    def plot(self, path: Path, rows: dict[str, np.ndarray]) -> None:
        """Draw rows of windows."""
        from gensep.plots.spectrograms import plot_windows

        plot_windows(path, rows)
