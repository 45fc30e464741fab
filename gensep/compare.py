"""Compare methods that were scored on the same songs: `python -m gensep.compare RUN RUN ...`.

RUN is an output folder of gensep.evaluate. OUTPUT gets comparison.md, comparison.csv, and for each
metric boxes_METRIC.png and songs_METRIC.png (each song, the first run against the others).
"""

import sys
from dataclasses import dataclass
from typing import Literal

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import UserError, run


@dataclass(frozen=True)
class Config:
    """Options of `gensep.compare`."""

    runs: tuple[str, ...] = option(
        (),
        "output folders of gensep.evaluate; the others are compared with the first",
        positional=True,
    )
    output: str = option("comparison", "folder of the results")
    metrics: tuple[str, ...] = option((), "metrics to show, e.g. SDR si_sdr_gain; all by default")
    statistic: Literal["median", "mean"] = option("median", "what the table shows over songs")
    picture: bool = option(True, "draw boxes and songs")


def main(argv: list[str]) -> None:
    """Print the tables and write them with the pictures."""
    c = config.parse(Config, argv, prog="python -m gensep.compare", about=__doc__ or "")
    if not c.runs:
        raise UserError(
            "expected folders that gensep.evaluate wrote: python -m gensep.compare "
            "scores/A scores/B; see --help"
        )
    from gensep.evaluation.comparison import compare

    found = compare(c.runs, c.output, c.metrics, c.statistic, picture=c.picture)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    print(found.page)
    print(f"\nwritten to {c.output}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
