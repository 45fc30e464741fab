"""Folders as gensep.basis writes them, of two tones that anybody can tell apart."""

import json
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
REPRESENTATION = {
    "sample_rate": 8000,
    "n_fft": 512,
    "hop_length": 256,
    "n_mels": 16,
    "fmax": 4000.0,
}
HERTZ = {"low": 500, "high": 2000}
LEAK = 0.1


def tones(seconds):
    """Give name -> [samples], in steps of 16 bits, so that files of 16 bits keep them exactly."""
    at = np.arange(round(seconds * RATE)) / RATE
    swell = 0.2 + 0.1 * np.sin(2 * np.pi * at / seconds)
    return {
        name: np.round(swell * np.sin(2 * np.pi * f * at) * 32768) / 32768
        for name, f in HERTZ.items()
    }


def write_run(folder, songs=("song",), seconds=2.0, gain=1.0, leak=LEAK, **changes):
    """Write mixtures, references and a run a song under `folder`; the paths start there."""
    folder = Path(folder)
    for song in songs:
        true = {name: gain * wave for name, wave in tones(seconds).items()}
        low, high = true.values()
        waves = {
            f"{song}.wav": low + high,
            f"true/{song}/low.flac": low,
            f"true/{song}/high.flac": high,
            f"separated/{song}/low.wav": low + leak * high,
            f"separated/{song}/high.wav": (1 - leak) * high,
        }
        for name, wave in waves.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, wave, RATE, subtype="PCM_24" if "flac" in name else "FLOAT")
        record = {
            "mixture": f"{song}.wav",
            "stems": ["low.wav", "high.wav"],
            "seconds": seconds,
            "rate": RATE,
            "channels": 1,
            "representation": REPRESENTATION,
            "sampling_seconds_per_second": 0.5,
            "settings": {"steps": 7, "seed": 3},
            "options": {"preset": "fast", "reference": f"true/{song}", "start": 0.0},
            "versions": {"jax": "1.2.3"},
            "commit": "c" * 40,
            "command": f"python -m gensep.basis {song}.wav </script>",
            **changes,
        }
        (folder / f"separated/{song}/separation.json").write_text(json.dumps(record))
    return folder / "separated"
