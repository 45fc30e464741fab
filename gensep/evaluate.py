"""Score separated songs against their true stems: SDR, SI-SDR and other metrics.

OUTPUT/<split>/<song>.json (split test where there is none) is what museval's aggregation reads;
OUTPUT/scores.csv and scores.json hold the scores of all songs. Songs that are scored already, from
the same files with the same options, are kept.
"""

import sys
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from gensep.cli import config
from gensep.cli.options import Layout, Positional, Range, Short, choices
from gensep.runtime.errors import run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of gensep.evaluate."""

    estimates: Positional[str]
    """Folder of separated songs."""
    references: Positional[str]
    """Folder of songs with their true stems."""
    output: str = "scores/{name}"
    """Folder of the results; {name} is the name of the method."""
    name: str | None = None
    """Name of the method; by default the name of the folder ESTIMATES."""
    metrics: tuple[Annotated[str, choices("gensep.evaluation.measures:METRICS")], ...] = (
        "bsseval",
        "si_sdr",
    )
    """Metrics to compute; sdr is the SDR of bsseval alone, which is much faster."""
    win: float = 1.0
    """Length of a frame of bsseval in seconds."""
    hop: float = 1.0
    """Distance between frames of bsseval in seconds."""
    mode: Literal["v4", "v3"] = "v4"
    """Distortion filters of bsseval: one per track (v4) or one per frame (v3)."""
    mixture: bool = True
    """Score the unprocessed mixture as an estimate of every source as well."""
    oracle: bool = False
    """Score the oracle mask of 96 mel bands as well."""
    silent: Literal["skip", "refuse"] = "skip"
    """What bsseval does with stems that are silent throughout."""
    compat_nan: bool = False
    """Write NaN instead of null, as museval does."""
    layout: Layout = "auto"
    """Layout of the folder REFERENCES."""
    estimate_layout: Layout = "auto"
    """Layout of the folder ESTIMATES."""
    split: str | None = None
    """Score only this split of REFERENCES."""
    stems: tuple[str, ...] = ()
    """Score only these stems; by default all that both sides have."""
    jobs: Annotated[int, Range(0), Short("-j")] = 1
    """Number of processes; 0 means one per core."""
    force: bool = False
    """Score songs again that are scored already."""


def main(argv: list[str]) -> None:
    """Score what is not scored yet, then write and print the scores of all songs."""
    c = config.parse(Config, argv)
    from gensep.evaluation.campaign import AGGREGATION, evaluate
    from gensep.evaluation.measures import Protocol

    protocol = Protocol(**{field.name: getattr(c, field.name) for field in fields(Protocol)})
    folders, layouts = (c.estimates, c.references, c.output), (c.layout, c.estimate_layout)
    found = evaluate(
        *folders, c.name, protocol, *layouts, c.split, c.stems, jobs=c.jobs, force=c.force
    )
    for note in (*found.unmatched, *found.notes):
        print(f"note: {note}", file=sys.stderr)
    print(f"{found.method}: {len(found.records)} songs. {AGGREGATION}\n")
    print(found.table())
    print(f"\nwritten to {found.output}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
