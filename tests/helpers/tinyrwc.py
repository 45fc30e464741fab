"""Write a folder like that of the RWC database of instrument sounds, with a few sine notes."""

from pathlib import Path

import numpy as np
import soundfile
from scipy.io import savemat

from helpers.tinyfont import tone

RATE = 44_100
GAP, LEAD = 4410, 2000  # samples of silence between notes, and at the beginning of each


def write_rwc(
    root: Path, instrument: int, musician: int, pitches, dynamics="F", style="NO", seconds=0.5
) -> Path:
    """Write one wav file of notes with its .mat file; return the path of the wav.

    A note begins in silence of LEAD samples. Its level is 0.3 for F, 0.15 for M and 0.075 for P.
    """
    gain = {"F": 1, "M": 0.5, "P": 0.25}[dynamics] * (1 + 0.1 * musician)
    parts, starts, ends, at = [], [], [], 0
    for pitch in pitches:
        note = np.concatenate([np.zeros(LEAD), gain * tone(pitch, seconds, RATE)])
        starts.append(at)
        ends.append(at + len(note))
        parts += [note, np.zeros(GAP)]
        at = ends[-1] + GAP
    name = f"{instrument}{musician}VN{style}{dynamics}.WAV"
    folder = root / "wav" / f"{instrument}{musician}"
    for place in (folder, root / "mat"):
        place.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / name, np.concatenate(parts), RATE, subtype="FLOAT", format="WAV")
    values = {f"f{i:02}": np.zeros((1, 1)) for i in range(18)}
    values["f00"] = {"a": 0.0, "b": 0.0, "c": 0.0, "rate": float(RATE)}
    values |= {"f03": dynamics, "f04": float(instrument), "f06": "Violin", "f07": "VN"}
    values |= {"f09": style, "f14": np.array([pitches], float)}
    values |= {"f15": np.array([starts]), "f16": np.array([ends])}
    savemat(root / "mat" / f"{name.lower()}.mat", {"featureStruct": values})
    return folder / name
