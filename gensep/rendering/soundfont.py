"""Notes played by SoundFonts through midirenderer, and sounds that play the same notes together."""

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from gensep.rendering.notation import Note
from gensep.rendering.performance import PLAIN, SWELL_STEP, Performance, Sound, finish, swell
from gensep.runtime.errors import UserError

SYNTH_RATE = 48_000  # the only rate of midirenderer; one MIDI tick is one sample


@dataclass(frozen=True)
class SoundFont:
    """One preset of an SF2 font; bank 128 is the drum kits."""

    path: str
    bank: int = 0
    program: int = 0

    def render(
        self, notes: Sequence[Note], seconds: float, rate: int, performance: Performance = PLAIN
    ) -> np.ndarray:
        """Play `notes` into `seconds` of mono float32 audio at `rate`."""
        import midirenderer
        import soundfile
        import soxr

        font = _font(self.path)
        for volume in (127, 64, 32):  # where the synthesiser's 16 bits clip, play softer
            midi = self._midi(notes, seconds, performance, volume)
            try:
                wav = midirenderer.render_wave_from(font, midi)
            except Exception as error:
                reason = f"{self.path} cannot be played ({' '.join(str(error).split())[:80]})"
                raise UserError(f"{reason}; expected an uncompressed .sf2 soundfont") from None
            stereo = soundfile.read(io.BytesIO(wav), dtype="float32")[0]
            if np.abs(stereo).max(initial=0) < 0.999:
                break
        gain = np.float32(0.5 * (127 / volume) ** 2)  # MIDI volume is a square law
        samples = (stereo[:, 0] + stereo[:, 1]) * gain
        samples = soxr.resample(samples, SYNTH_RATE / performance.stretch, rate)
        return finish(samples, seconds, rate, performance)

    def _midi(
        self, notes: Sequence[Note], seconds: float, performance: Performance, volume: int
    ) -> bytes:
        """Return a one-track MIDI file with one tick per sample of the synthesiser."""
        channel = 9 if self.bank == 128 else 0
        shift = round(performance.varispeed_semitones)
        bend = performance.detune_cents / 100 + performance.varispeed_semitones - shift
        controls = {0: self.bank % 128, 32: 0, 7: volume, 10: 64, 1: performance.vibrato}
        controls |= {91: performance.reverb, 93: performance.chorus}
        controls |= {101: 0, 100: 0, 6: 2, 38: 0}  # the pitch bend's range: two semitones
        events = [(0, 0, _control(channel, c, v)) for c, v in controls.items()]
        wheel = min(max(round(8192 + bend * 4096), 0), 16383)
        events.append((0, 1, bytes((0xE0 | channel, wheel & 127, wheel >> 7))))
        events.append((0, 1, bytes((0xC0 | channel, self.program))))
        speed = SYNTH_RATE / performance.stretch
        if performance.swell_db:
            curve = swell(performance, seconds, 1 / SWELL_STEP)
            levels = np.rint(127 * np.sqrt(curve)).astype(int)
            for i in np.flatnonzero(np.diff(levels, prepend=-1)).tolist():  # where it changes
                message = _control(channel, 11, int(levels[i]))
                events.append((round(i * SWELL_STEP * speed), 2, message))
        for note in notes:
            pitch = min(max(round(note.pitch) + shift, 0), 127)
            on, off = round(note.on * speed), round(note.off * speed)
            if off > on:
                events.append((on, 4, bytes((0x90 | channel, pitch, note.velocity))))
                events.append((off, 3, bytes((0x80 | channel, pitch, 0))))
        events.append((round(seconds * speed) + 1, 5, _control(channel, 11, 0)))  # the end
        return _midi_file(events)


@dataclass(frozen=True)
class Layered:
    """Sounds that play the same notes together, at equal loudness times their weights."""

    sounds: tuple[Sound, ...]
    weights: tuple[float, ...]

    def render(
        self, notes: Sequence[Note], seconds: float, rate: int, performance: Performance = PLAIN
    ) -> np.ndarray:
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


def _control(channel: int, controller: int, value: int) -> bytes:
    return bytes((0xB0 | channel, controller, value))


def _midi_file(events: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Return a type-0 MIDI file, 48000 ticks per second, of (tick, order, message) events."""
    track, now = [], 0
    for tick, _, message in sorted(events, key=lambda e: e[:2]):
        delta, now = tick - now, tick
        size = bytes((delta & 127,))
        while delta := delta >> 7:
            size = bytes((delta & 127 | 128,)) + size
        track.append(size + message)
    body = b"\0\xff\x51\x03" + (500_000).to_bytes(3, "big") + b"".join(track) + b"\0\xff\x2f\0"
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, SYNTH_RATE // 2, b"MTrk", len(body)) + body
