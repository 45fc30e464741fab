"""What posterior samples do not agree on: files and pictures beside the stems."""

from pathlib import Path
from typing import Any

import numpy as np

from gensep.datasets.separations import write_deviations
from gensep.separation.sampling import Uncertainty

LEVEL = 0.8  # of the intervals


def write_uncertainty(
    folder: Path, names: tuple[str, ...], found: Uncertainty, representation: Any
) -> dict[str, Any]:
    """Write uncertainty.npz (float16 `sd_db [source, frame, mel]`, `names`) and a picture.

    Returns:
        For separation.json, by source: the mean sd of a bin, and the central interval of the
        source's energy in dB against the mixture's, both over the samples.
    """
    from gensep.plots.spectrograms import plot_uncertainty

    write_deviations(folder, names, found.sd_db)
    plot_uncertainty(
        folder / "uncertainty.png", dict(zip(names, found.sd_db, strict=True)), representation
    )
    tails = 0.5 - LEVEL / 2, 0.5 + LEVEL / 2
    rows = {}
    for name, sd, energy in zip(names, found.sd_db, found.energy_db.T, strict=True):
        low, high = np.quantile(energy, tails)
        rows[name] = {
            "mean_sd_db": round(float(sd.mean()), 3),
            "energy_db": [round(float(low), 3), round(float(high), 3)],
        }
    return {"samples": len(found.energy_db), "level": LEVEL, "sources": rows}
