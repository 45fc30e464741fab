"""Turn notes into sound: soundfonts through midirenderer, recorded notes through numpy.

Every sound has `render(notes, seconds, rate, performance) -> float32 [time]`, mono, a pure
function of its arguments: the same notes give the same samples on every call.
"""

import io
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from gensep.errors import UserError
from gensep.scores import Note

SYNTH_RATE = 48_000  # midirenderer's only rate; one MIDI tick is one sample of it
NOTE_FILE = re.compile(r"^([A-G])(s|#|b)?(-?\d)(?:v\d+)?\.(wav|ogg|mp3|flac)$")
SWELL_KNOT, SWELL_STEP = 0.7, 0.05  # seconds between the random points, and between MIDI events
REFERENCE_VELOCITY = 100


@dataclass(frozen=True)
class Performance:
    """How a rendition departs from the plain sound; the defaults are the plain sound.

    `reverb`, `chorus`, `vibrato` (0..127) act on soundfonts only. `varispeed_semitones` n plays
    the part n higher and as much faster and slows the recording down: pitch and tempo come out
    as written, the resonances n semitones lower. `swell_db` is the depth of slow random swells
    (`seed`), `tilt_db` the gain of a gentle shelf above 1.5 kHz.
    """

    reverb: int = 0
    chorus: int = 0
    vibrato: int = 0
    detune_cents: float = 0.0
    varispeed_semitones: float = 0.0
    swell_db: float = 0.0
    tilt_db: float = 0.0
    seed: int = 0


PLAIN = Performance()


class Sound(Protocol):
    """Anything that plays notes."""

    def render(self, notes: Sequence[Note], seconds: float, rate: int,
               performance: Performance = PLAIN) -> np.ndarray:
        """Play `notes` into `seconds` of mono float32 audio at `rate`."""
        ...


@dataclass(frozen=True)
class SoundFont:
    """One preset of an SF2 font; bank 128 is the drum kits."""

    path: str
    bank: int = 0
    program: int = 0

    def render(self, notes, seconds, rate, performance=PLAIN) -> np.ndarray:
        """Play `notes` into `seconds` of mono float32 audio at `rate`."""
        import soxr

        stretch = 2 ** (performance.varispeed_semitones / 12)
        samples = self._synth(notes, seconds, performance, stretch)
        # the recording is played at 1/stretch of its speed
        samples = soxr.resample(samples, SYNTH_RATE / stretch, rate)
        return _finish(samples, seconds, rate, performance)

    def _synth(self, notes, seconds, performance, stretch) -> np.ndarray:
        import midirenderer
        import soundfile

        font = _font(self.path)
        for volume in (127, 64, 32):  # a dense fortissimo clips the synth's 16 bits: play softer
            midi = self._midi(notes, seconds, performance, stretch, volume)
            try:
                wav = midirenderer.render_wave_from(font, midi)
            except Exception as error:
                reason = " ".join(str(error).split())[:80]
                raise UserError(f"{self.path} cannot be played ({reason}); expected an "
                                "uncompressed .sf2 soundfont") from None
            stereo = soundfile.read(io.BytesIO(wav), dtype="float32")[0]
            if np.abs(stereo).max(initial=0) < 0.999:
                break
        gain = np.float32(0.5 * (127 / volume) ** 2)  # MIDI volume is a square law
        return (stereo[:, 0] + stereo[:, 1]) * gain

    def _midi(self, notes, seconds, performance, stretch, volume) -> bytes:
        """Write a one-track MIDI file of a tick per sample of the synth."""
        channel = 9 if self.bank == 128 else 0
        shift = round(performance.varispeed_semitones)
        bend = performance.detune_cents / 100 + performance.varispeed_semitones - shift
        events = [(0, 0, _control(channel, c, v)) for c, v in (
            (0, self.bank % 128), (32, 0), (7, volume), (10, 64), (1, performance.vibrato),
            (91, performance.reverb), (93, performance.chorus),
            (101, 0), (100, 0), (6, 2), (38, 0))]  # bend range: two semitones
        wheel = min(max(round(8192 + bend * 4096), 0), 16383)
        events += [(0, 1, bytes((0xE0 | channel, wheel & 127, wheel >> 7))),
                   (0, 1, bytes((0xC0 | channel, self.program)))]
        speed = SYNTH_RATE / stretch
        if performance.swell_db:
            curve = _swell(performance, seconds, 1 / SWELL_STEP)
            levels = np.rint(127 * np.sqrt(curve)).astype(int)
            events += [(round(i * SWELL_STEP * speed), 2, _control(channel, 11, int(v)))
                       for i, v in enumerate(levels) if i == 0 or v != levels[i - 1]]
        for note in notes:
            pitch = min(max(round(note.pitch) + shift, 0), 127)
            on, off = round(note.on * speed), round(note.off * speed)
            if off > on:
                events += [(on, 4, bytes((0x90 | channel, pitch, note.velocity))),
                           (off, 3, bytes((0x80 | channel, pitch, 0)))]
        events.append((round(seconds * speed) + 1, 5, _control(channel, 11, 0)))  # sets the length
        return _midi_file(events)


@dataclass(frozen=True)
class NoteFolder:
    """Recorded notes named like `Fs4.wav`; several folders are layers from soft to loud.

    `tuned` notes are tuned by their measured pitch and sustained by a loop; leave it off for the
    piano and other instruments that ring out.
    """

    paths: tuple[str, ...]
    tuned: bool = True

    def render(self, notes, seconds, rate, performance=PLAIN) -> np.ndarray:
        """Play `notes` into `seconds` of mono float32 audio at `rate`."""
        layers = [_note_folder(path, self.tuned) for path in self.paths]
        release = 0.09 if self.tuned else 0.25  # seconds to fall to 1/e
        tail = int(5 * release * rate)
        out = np.zeros(int(round(seconds * rate)) + 1, np.float32)
        groups: dict[tuple[int, float], list[Note]] = {}
        for note in notes:
            layer = min(note.velocity * len(layers) // 128, len(layers) - 1)
            groups.setdefault((layer, note.pitch), []).append(note)
        for (layer, pitch), group in sorted(groups.items()):
            longest = int(max(n.off - n.on for n in group) * rate) + tail + 1
            tone = self._tone(layers[layer], pitch, longest, rate, performance)
            for note in group:
                start, held = round(note.on * rate), int((note.off - note.on) * rate)
                sound = tone[: min(held + tail, len(out) - start)].copy()
                fade = np.exp(-np.arange(max(len(sound) - held, 0)) / (release * rate))
                sound[held:] *= fade.astype(np.float32)
                # the square law of soundfonts
                out[start : start + len(sound)] += sound * (note.velocity / REFERENCE_VELOCITY) ** 2
        if performance.swell_db:
            curve = _swell(performance, seconds, 1 / SWELL_STEP)
            out *= np.interp(np.arange(len(out)) / rate / SWELL_STEP, np.arange(len(curve)), curve)
        return _finish(out, seconds, rate, performance)

    def _tone(self, samples, pitch, length, rate, performance) -> np.ndarray:
        """The nearest recorded note moved to `pitch`, `length` samples at `rate`."""
        import soxr

        wanted = pitch + performance.varispeed_semitones
        recorded = min(samples, key=lambda p: (abs(p - wanted), p))
        audio, source_rate = samples[recorded]
        speed = 2 ** ((pitch + performance.detune_cents / 100 - recorded) / 12)
        tone = np.array(soxr.resample(audio, source_rate * speed, rate))  # never the cached one
        if self.tuned:
            tone = _sustain(tone, length, rate)
        attack = min(int(0.004 * rate), len(tone))
        tone[:attack] *= np.linspace(0, 1, attack, dtype=np.float32)
        return tone[:length]


@dataclass(frozen=True)
class Layered:
    """Sounds that play the same notes together at equal loudness times `weights`."""

    sounds: tuple[Sound, ...]
    weights: tuple[float, ...]

    def render(self, notes, seconds, rate, performance=PLAIN) -> np.ndarray:
        """Play `notes` into `seconds` of mono float32 audio at `rate`."""
        total = np.zeros(int(round(seconds * rate)), np.float32)
        for sound, weight in zip(self.sounds, self.weights, strict=True):
            part = sound.render(notes, seconds, rate, performance)
            level = np.sqrt(np.mean(np.square(part, dtype=np.float64)))
            total += part * np.float32(weight * 0.05 / max(level, 1e-9))
        return total


@lru_cache(maxsize=8)
def _font(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the soundfont {path}: {error.strerror}") from None


@lru_cache(maxsize=32)
def _note_folder(path: str, tuned: bool) -> dict[float, tuple[np.ndarray, int]]:  # noqa: FBT001
    """Read recorded notes, trimmed and levelled: sounding pitch -> (float32 [time], rate)."""
    import soundfile

    if not Path(path).is_dir():
        raise UserError(f"no folder of recorded notes at {path}")
    notes = {}
    for file in sorted(Path(path).iterdir()):
        if match := NOTE_FILE.match(file.name):
            letter, accidental, octave, _ = match.groups()
            label = 12 * (int(octave) + 1) + dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11),
                                                      strict=True))[letter]
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
        """The lag of the highest value, by the parabola through it and its neighbours."""
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
    while 2 * count * period < min(window / 2, 0.1 * rate):  # many periods fix one finely
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


def _swell(performance: Performance, seconds: float, rate: float) -> np.ndarray:
    """A slow random gain curve in 0..1 at `rate` values a second."""
    rng = np.random.default_rng(performance.seed)
    knots = rng.uniform(-performance.swell_db, 0, int(seconds / SWELL_KNOT) + 2)
    place = np.arange(int(seconds * rate) + 2) / rate / SWELL_KNOT
    i = np.minimum(place.astype(int), len(knots) - 2)
    smooth = (1 - np.cos(np.pi * np.clip(place - i, 0, 1))) / 2
    return 10 ** ((knots[i] * (1 - smooth) + knots[i + 1] * smooth) / 20)


def _finish(audio, seconds, rate, performance) -> np.ndarray:
    """Tilt the spectrum and fit the length."""
    if performance.tilt_db:
        from scipy.signal import lfilter

        # first-order shelf (1 + s r / w) / (1 + s / r / w): half its gain in dB at 1.5 kHz
        r = 10 ** (performance.tilt_db / 40)
        k = np.tan(np.pi * min(1500 / rate, 0.45))
        audio = lfilter([1 + r / k, 1 - r / k], [1 + 1 / (r * k), 1 - 1 / (r * k)], audio)
    length = int(round(seconds * rate))
    audio = np.asarray(audio, np.float32)[:length]
    return np.pad(audio, (0, length - len(audio)))


def _control(channel: int, controller: int, value: int) -> bytes:
    return bytes((0xB0 | channel, controller, value))


def _midi_file(events) -> bytes:
    """Make a type-0 MIDI file at 48000 ticks a second of (tick, order, message) events."""
    track, now = [], 0
    for tick, _, message in sorted(events, key=lambda e: e[:2]):
        delta, now = tick - now, tick
        size = bytes((delta & 127,))
        while delta := delta >> 7:
            size = bytes((delta & 127 | 128,)) + size
        track.append(size + message)
    body = b"\0\xff\x51\x03" + (500_000).to_bytes(3, "big") + b"".join(track) + b"\0\xff\x2f\0"
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, SYNTH_RATE // 2, b"MTrk", len(body)) + body
