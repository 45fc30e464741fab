"""Recorded notes as an instrument: tuned by their measured pitch, sustained by a loop."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from gensep.rendering.notation import Note
from gensep.rendering.performance import PLAIN, SWELL_STEP, Performance, finish, swell
from gensep.runtime.errors import UserError

Recordings = Mapping[float, tuple[np.ndarray, int]]  # pitch -> (float32 [time], rate)
REFERENCE_VELOCITY = 100
NOTE_FILE = re.compile(r"^([A-G])(s|#|b)?(-?\d)(?:v\d+)?\.(wav|ogg|mp3|flac)$")


@dataclass(frozen=True)
class NoteFolder:
    """Recorded notes named like `Fs4.wav`; several folders are layers from soft to loud.

    `tuned` notes are tuned by their measured pitch and sustained by a loop, which does not suit the
    piano and other instruments that ring out.
    """

    paths: tuple[str, ...]
    tuned: bool = True

    def render(
        self, notes: Sequence[Note], seconds: float, rate: int, performance: Performance = PLAIN
    ) -> np.ndarray:
        """Play `notes` into `seconds` of mono float32 audio at `rate`."""
        layers = [_note_folder(path, self.tuned) for path in self.paths]
        return play_recordings(layers, notes, seconds, rate, performance, sustain=self.tuned)


def play_recordings(
    layers: Sequence[Recordings],
    notes: Sequence[Note],
    seconds: float,
    rate: int,
    performance: Performance,
    *,
    sustain: bool,
) -> np.ndarray:
    """Play notes by the nearest recording of the layer that their velocity chooses.

    With `sustain` a recording that is too short is repeated in part; otherwise it rings out.
    """
    release = 0.09 if sustain else 0.25  # seconds to fall to 1/e
    tail = int(5 * release * rate)
    out = np.zeros(int(round(seconds * rate)) + 1, np.float32)
    groups: dict[tuple[int, float], list[Note]] = {}
    for note in notes:
        layer = min(note.velocity * len(layers) // 128, len(layers) - 1)
        groups.setdefault((layer, note.pitch), []).append(note)
    for (layer, pitch), group in sorted(groups.items()):
        longest = int(max(n.off - n.on for n in group) * rate) + tail + 1
        tone = _tone(layers[layer], pitch, longest, rate, performance, sustain=sustain)
        for note in group:
            start, held = round(note.on * rate), int((note.off - note.on) * rate)
            sound = tone[: min(held + tail, len(out) - start)].copy()
            fade = np.exp(-np.arange(max(len(sound) - held, 0)) / (release * rate))
            sound[held:] *= fade.astype(np.float32)
            # loudness follows the square law of soundfonts
            out[start : start + len(sound)] += sound * (note.velocity / REFERENCE_VELOCITY) ** 2
    if performance.swell_db:
        curve = swell(performance, seconds, 1 / SWELL_STEP)
        out *= np.interp(np.arange(len(out)) / rate / SWELL_STEP, np.arange(len(curve)), curve)
    return finish(out, seconds, rate, performance)


def _tone(
    samples: Recordings,
    pitch: float,
    length: int,
    rate: int,
    performance: Performance,
    *,
    sustain: bool,
) -> np.ndarray:
    """Return the nearest recorded note moved to `pitch`, `length` samples at `rate`."""
    import soxr

    wanted = pitch + performance.varispeed_semitones
    recorded = min(samples, key=lambda p: (abs(p - wanted), p))
    audio, source_rate = samples[recorded]
    speed = 2 ** ((pitch + performance.detune_cents / 100 - recorded) / 12)
    tone = np.array(soxr.resample(audio, source_rate * speed, rate))  # a copy
    if sustain:
        tone = _sustain(tone, length, rate)
    attack = min(int(0.004 * rate), len(tone))
    tone[:attack] *= np.linspace(0, 1, attack, dtype=np.float32)
    return tone[:length]


@lru_cache(maxsize=32)
def _note_folder(path: str, tuned: bool) -> Recordings:  # noqa: FBT001
    """Read the recorded notes of a folder, trimmed and brought to one loudness."""
    import soundfile

    if not Path(path).is_dir():
        raise UserError(f"no folder of recorded notes at {path}")
    notes: dict[float, tuple[np.ndarray, int]] = {}
    for file in sorted(Path(path).iterdir()):
        if match := NOTE_FILE.match(file.name):
            letter, accidental, octave, _ = match.groups()
            label = 12 * (int(octave) + 1) + "C D EF G A B".index(letter)
            label += {"s": 1, "#": 1, "b": -1, None: 0}[accidental]
            audio, rate = soundfile.read(file, dtype="float32", always_2d=True)
            audio = _trim(audio.mean(1), rate)
            if not len(audio):
                raise UserError(f"{file} is silent; leave it out")
            pitch = measure_pitch(audio, rate, label) if tuned else float(label)
            notes[pitch] = audio, rate
    if not notes:
        raise UserError(f"no recorded notes in {path}: expected names like D#4.wav or Fs4v8.ogg")
    return notes


def _trim(audio: np.ndarray, rate: int) -> np.ndarray:
    """Cut what lies below -45 dB at both ends; bring the first .4 s to an RMS of .1."""
    loud = np.flatnonzero(np.abs(audio) > 10 ** (-45 / 20) * np.abs(audio).max(initial=0))
    audio = audio[loud[0] : loud[-1] + 1] if len(loud) else audio[:0]
    level = np.sqrt(np.mean(np.square(audio[: int(0.4 * rate)]))) if len(audio) else 1
    return audio * np.float32(0.1 / level)


def measure_pitch(audio: np.ndarray, rate: int, label: float) -> float:
    """Measure the pitch (MIDI) of a note within 1.6 semitones of `label` by autocorrelation."""
    window = min(int(0.35 * rate), len(audio))
    energy = np.concatenate([[0], np.cumsum(np.square(audio, dtype=np.float64))])
    start = int(np.argmax(energy[window:] - energy[:-window]))
    x = audio[start : start + window].astype(np.float64)
    spectrum = np.fft.rfft(x, 2 * window)
    corr = np.fft.irfft(np.abs(spectrum) ** 2)[:window] / np.arange(window, 0, -1)

    def peak(low: float, high: float) -> float:
        """Return the lag of the largest correlation, by a parabola through three values."""
        lags = np.arange(max(int(low), 1), min(int(np.ceil(high)), window - 2) + 1)
        at = int(lags[np.argmax(corr[lags])])
        left, mid, right = corr[at - 1 : at + 2]
        bend = left - 2 * mid + right
        return at + (0.5 * (left - right) / bend if bend < 0 else 0.0)

    period = rate / (440 * 2 ** ((label - 69) / 12))
    if window < 4 * period:
        return float(label)
    period = peak(period * 2 ** (-1.6 / 12), period * 2 ** (1.6 / 12))
    count = 1
    while 2 * count * period < min(window / 2, 0.1 * rate):  # long lags are more precise
        count *= 2
        period = peak(count * period - period / 4, count * period + period / 4) / count
    return float(69 + 12 * np.log2(rate / period / 440))


def _sustain(tone: np.ndarray, length: int, rate: int) -> np.ndarray:
    """Hold a note for `length` samples by repeating 35..80 % of it with equal-power crossfades."""
    start, end = int(0.35 * len(tone)), int(0.8 * len(tone))
    fade = min(int(0.12 * rate), (end - start) // 2)
    if length <= end or fade < 1:
        return tone[:length]
    angle = np.linspace(0, np.pi / 2, fade, dtype=np.float32)
    joint = tone[end - fade : end] * np.cos(angle) + tone[start : start + fade] * np.sin(angle)
    period = np.concatenate([tone[start + fade : end - fade], joint])
    times = -(-(length - end + fade) // len(period))
    return np.concatenate([tone[: end - fade], joint, *[period] * times])[:length]
