"""Windows of spectrograms: varied at random for training, or as they are."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from gensep.datasets.augment import PREROLL, Spread, augment, crop
from gensep.datasets.examples import VALID_SEED, Options, Request, Selection
from gensep.representation.form import Form, is_sound
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError

if TYPE_CHECKING:  # tensorflow-datasets takes long to import
    from gensep.datasets.windows import Windows

HELD_OUT_GAINS_DB = (-8.0, -2.0, 4.0)


def open_spectrograms(c: Options) -> "SpectrogramExamples":
    """Open a data set that gensep.wav_to_spec wrote, for training."""
    from gensep.datasets.windows import open_windows

    frames = c.frames + 2 * PREROLL
    train = open_windows(c.data, "train", frames)
    valid = open_windows(c.data, "valid", frames)
    return SpectrogramExamples(c, train, valid)


def read_spectrograms(data: str, request: Request) -> Selection:
    """Read windows `[window, frames, mel]` of a data set that gensep.wav_to_spec wrote.

    Raises:
        UserError: if there is no such data set or split, or the form asked for does not fit.
    """
    from gensep.datasets.spectrograms import to_power
    from gensep.datasets.windows import open_windows

    split, wanted = request.split or "valid", request.form
    windows = open_windows(data, split, request.frames, representation=wanted, training=False)
    own = Representation(**windows.representation)
    form: Form = wanted or own
    if not is_sound(form):
        raise UserError(f"{data} holds {own.describe()}, not {form.describe()} as the prior's data")
    power = to_power(windows.batch(request.seed, 0, request.examples))
    return Selection(np.asarray(form.encode(power)), form)


class SpectrogramExamples:
    """Examples `[frames, mel]` of two sets of windows; satisfies the protocol `Examples`.

    The windows have a margin of `PREROLL` frames at both ends.
    """

    def __init__(self, c: Options, train: "Windows", valid: "Windows") -> None:
        self.frames, self.valid_windows = c.frames, c.valid_windows
        self.spread = Spread(*(getattr(c, name) for name in Spread._fields))
        self.train, self.valid = train, valid
        self.form = Representation(**train.representation)
        self.features = self.form.features

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Return int16 windows with their margins, hundredths of a dB."""
        return self.train.batch(seed, step, size)

    def inputs(self, key: jax.Array, raw: jax.Array) -> jax.Array:
        """Augment int16 windows and encode them, `[batch, frames, mel]`."""
        return self.form.encode(augment(key, raw / 100.0, self.frames, self.spread))

    def held_out(self) -> np.ndarray:
        """Return validation windows, not varied, at three levels of loudness in turn."""
        windows = self.valid.batch(VALID_SEED, 0, self.valid_windows)
        power = crop(jnp.asarray(windows) / 100.0, self.frames)
        gains = 10 ** (jnp.asarray(HELD_OUT_GAINS_DB) / 10)
        return np.asarray(self.form.encode(power * jnp.resize(gains, (len(power), 1, 1))))
