"""How far posterior samples differ: files and pictures beside the stems."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gensep.cli.records import Json
from gensep.datasets.separations import write_deviations
from gensep.plots.spectrograms import plot_uncertainty
from gensep.representation.mel import Representation
from gensep.separation.sampling import Uncertainty

SHARE = 0.8  # of the samples that lie within the intervals


def write_uncertainty(
    folder: Path, names: Sequence[str], found: Uncertainty, representation: Representation
) -> Json:
    """Write uncertainty.npz (float16 `sd_db [source, frame, mel]`, `names`) and a picture.

    Returns:
        For separation.json, by source: the mean standard deviation of a bin in dB, and the central
        interval over the samples of the source's energy relative to the mixture's, in dB.
    """
    write_deviations(folder, names, found.sd_db)
    panels = dict(zip(names, found.sd_db, strict=True))
    plot_uncertainty(folder / "uncertainty.png", panels, representation)
    tails = 0.5 - SHARE / 2, 0.5 + SHARE / 2
    rows = {}
    for name, sd, energy in zip(names, found.sd_db, found.energy_db.T, strict=True):
        low, high = np.quantile(energy, tails)
        rows[name] = {
            "mean_sd_db": round(float(sd.mean()), 3),
            "energy_db": [round(float(low), 3), round(float(high), 3)],
        }
    return {"samples": len(found.energy_db), "level": SHARE, "sources": rows}
