"""How notes are played by any kind of instrument: variations, swells, the final filter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gensep.rendering.notation import Note

SWELL_KNOT, SWELL_STEP = 0.7, 0.05  # seconds between the random points, and between MIDI events


@dataclass(frozen=True)
class Performance:
    """How a rendition departs from the plain sound; the defaults are the plain sound.

    `reverb`, `chorus` and `vibrato` (0..127) act on soundfonts only. With `varispeed_semitones` n
    the part is played n semitones higher and faster by the same ratio, and the recording is slowed
    down: pitch and tempo are as written, the resonances n semitones lower. `swell_db` is the depth
    of slow random swells (`seed`), `tilt_db` the gain of a gentle shelf above 1.5 kHz.
    """

    reverb: int = 0
    chorus: int = 0
    vibrato: int = 0
    detune_cents: float = 0.0
    varispeed_semitones: float = 0.0
    swell_db: float = 0.0
    tilt_db: float = 0.0
    seed: int = 0

    @property
    def stretch(self) -> float:
        """Ratio by which the recording is slowed down."""
        return 2 ** (self.varispeed_semitones / 12)


PLAIN = Performance()


class Sound(Protocol):
    """What plays notes: the same notes give the same samples on every call."""

    def render(
        self, notes: Sequence[Note], seconds: float, rate: int, performance: Performance = PLAIN
    ) -> np.ndarray:
        """Play `notes` into `seconds` of mono float32 audio at `rate`."""


def swell(performance: Performance, seconds: float, rate: float) -> np.ndarray:
    """Return a slow random gain curve in 0..1, `rate` values per second."""
    rng = np.random.default_rng(performance.seed)
    knots = rng.uniform(-performance.swell_db, 0, int(seconds / SWELL_KNOT) + 2)
    place = np.arange(int(seconds * rate) + 2) / rate / SWELL_KNOT
    i = np.minimum(place.astype(int), len(knots) - 2)
    smooth = (1 - np.cos(np.pi * np.clip(place - i, 0, 1))) / 2
    return 10 ** ((knots[i] * (1 - smooth) + knots[i + 1] * smooth) / 20)


def finish(audio: np.ndarray, seconds: float, rate: int, performance: Performance) -> np.ndarray:
    """Tilt the spectrum of `audio: [time]` and cut or pad it to `seconds`."""
    if performance.tilt_db:
        from scipy.signal import lfilter

        # first-order shelf (1 + s r / w) / (1 + s / r / w): half its gain in dB at 1.5 kHz
        r = 10 ** (performance.tilt_db / 40)
        k = np.tan(np.pi * min(1500 / rate, 0.45))
        audio = lfilter([1 + r / k, 1 - r / k], [1 + 1 / (r * k), 1 - 1 / (r * k)], audio)
    length = int(round(seconds * rate))
    audio = np.asarray(audio, np.float32)[:length]
    return np.pad(audio, (0, length - len(audio)))
