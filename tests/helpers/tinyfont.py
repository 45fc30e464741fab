"""Build a soundfont of two sine presets in a few kilobytes, for tests that need no real font."""

import struct

import numpy as np

RATE = 44100


def tone(pitch: float, seconds: float, rate: int = RATE, harmonics: int = 1) -> np.ndarray:
    """A tone of `pitch` (MIDI) whose n-th harmonic has the amplitude .3 / n."""
    t = np.arange(int(seconds * rate)) / rate
    f = 440 * 2 ** ((pitch - 69) / 12)
    return sum(0.3 / n * np.sin(2 * np.pi * n * f * t) for n in range(1, harmonics + 1))


def font_bytes(programs: tuple[int, ...] = (40, 0)) -> bytes:
    """An SF2 with a preset (bank 0) and a looped sample of 441 Hz for each program."""
    gap, samples, headers = np.zeros(46, "<i2"), [], b""
    start = 0
    for i, program in enumerate(programs):
        wave = np.rint(20000 * np.sin(2 * np.pi * np.arange(1000) / 100) / (i + 1)).astype("<i2")
        wave += np.rint(3000 * i * np.sin(2 * np.pi * np.arange(1000) / 50)).astype("<i2")
        samples += [wave, gap]
        headers += struct.pack(
            "<20sIIIIIBbHH",
            b"s%d" % program,
            start,
            start + 1000,
            start + 100,
            start + 900,
            RATE,
            69,
            -4,
            0,
            1,
        )  # 441 Hz: A + 4 cents
        start += 1046
    n = len(programs)
    order = sorted(range(n), key=lambda i: programs[i])
    phdr = b"".join(
        struct.pack("<20sHHHIII", b"p%d" % programs[i], programs[i], 0, k, 0, 0, 0)
        for k, i in enumerate(order)
    ) + struct.pack("<20sHHHIII", b"EOP", 0, 0, n, 0, 0, 0)
    pdta = {
        "phdr": phdr,
        "pbag": b"".join(struct.pack("<HH", k, 0) for k in range(n + 1)),
        "pmod": bytes(10),
        "pgen": b"".join(struct.pack("<HH", 41, i) for i in order) + bytes(4),
        "inst": b"".join(struct.pack("<20sH", b"i%d" % p, k) for k, p in enumerate(programs))
        + struct.pack("<20sH", b"EOI", n),
        "ibag": b"".join(struct.pack("<HH", 2 * k, 0) for k in range(n + 1)),
        "imod": bytes(10),
        "igen": b"".join(struct.pack("<HHHH", 54, 1, 53, i) for i in range(n)) + bytes(4),
        "shdr": headers + struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0),
    }
    info = {"ifil": struct.pack("<HH", 2, 1), "isng": b"EMU8000\0", "INAM": b"tiny\0\0"}
    lists = {"INFO": info, "sdta": {"smpl": np.concatenate(samples).tobytes()}, "pdta": pdta}
    body = b"sfbk"
    for kind, chunks in lists.items():
        inner = kind.encode() + b"".join(_chunk(k.encode(), v) for k, v in chunks.items())
        body += _chunk(b"LIST", inner)
    return _chunk(b"RIFF", body)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content
