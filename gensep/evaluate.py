"""Score separated songs against their true stems: `python -m gensep.evaluate ESTIMATES REFERENCES`.

OUTPUT/<split>/<song>.json (split test where there is none) is what museval's aggregation reads;
OUTPUT/scores.csv and scores.json hold the scores of all songs. Songs that are scored already, from
the same files with the same options, are kept.
"""

import sys
from dataclasses import dataclass, fields
from typing import Literal

from gensep.cli import config
from gensep.cli.config import option
from gensep.evaluation.measures import metrics_help
from gensep.runtime.errors import run


@dataclass(frozen=True)
class Config:
    """Options of `gensep.evaluate`."""

    estimates: str = option(..., "folder of separated songs", positional=True)
    references: str = option(..., "folder of songs with their true stems", positional=True)
    output: str = option("scores/{name}", "folder of the results; {name} is the method's")
    name: str | None = option(None, "the method's name; by default that of the folder ESTIMATES")
    metrics: tuple[str, ...] = option(("bsseval", "si_sdr"), metrics_help())
    win: float = option(1.0, "seconds of a frame of bsseval")
    hop: float = option(1.0, "seconds from frame to frame")
    mode: Literal["v4", "v3"] = option("v4", "bsseval's filters: one a track, or one a frame")
    mixture: bool = option(True, "score the mixture as every source too")
    oracle: bool = option(False, "score the 96-mel oracle mask too")
    silent: Literal["skip", "refuse"] = option("skip", "stems silent throughout, for bsseval")
    compat_nan: bool = option(False, "write NaN, as museval does, for null")
    layout: str = option(
        "auto",
        "layout of REFERENCES: auto, musdb_hq, stem_mp4, dsd100, ikala, "
        "bach10, separated, flat, tree",
    )
    estimate_layout: str = option("auto", "layout of ESTIMATES")
    split: str | None = option(None, "score only this split of REFERENCES")
    stems: tuple[str, ...] = option((), "score these stems; by default all that both sides have")
    jobs: int = option(1, "processes, -j for short; 0 for one a core")
    force: bool = option(False, "score again what is there already")

    def __post_init__(self) -> None:
        if self.jobs < 0:
            raise ValueError(f"jobs must be 0 or more, not {self.jobs}")


def main(argv: list[str]) -> None:
    """Score what is not scored yet, then write and print the scores of all songs."""
    argv = ["--jobs" if arg == "-j" else arg for arg in argv]
    c = config.parse(Config, argv, prog="python -m gensep.evaluate", about=__doc__ or "")
    from gensep.evaluation.campaign import AGGREGATION, evaluate
    from gensep.evaluation.measures import Protocol

    found = evaluate(
        c.estimates,
        c.references,
        c.output,
        c.name,
        Protocol(**{field.name: getattr(c, field.name) for field in fields(Protocol)}),
        layout=c.layout,
        estimate_layout=c.estimate_layout,
        split=c.split,
        stems=c.stems,
        jobs=c.jobs,
        force=c.force,
    )
    for note in (*found.unmatched, *found.notes):
        print(f"note: {note}", file=sys.stderr)
    print(f"{found.method}: {len(found.records)} songs. {AGGREGATION}\n")
    print(found.table())
    print(f"\nwritten to {found.output}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
