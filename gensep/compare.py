"""Compare methods that were scored on the same songs, in tables and plots.

RUN is an output folder of gensep.evaluate. OUTPUT gets comparison.md, comparison.csv, and for each
metric bars_METRIC.png (means and standard deviations), boxes_METRIC.png and songs_METRIC.png (each
song, the first run against the others), for three or more runs also conover_METRIC.png (p that two
of them rank alike). One run alone is shown in the same way.
"""

import sys
from dataclasses import dataclass
from typing import Annotated

from gensep.cli import config
from gensep.cli.options import Positional, choices
from gensep.runtime.errors import UserError, run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of gensep.compare."""

    runs: Positional[tuple[str, ...]] = ()
    """Output folders of gensep.evaluate; the first is compared with each of the others."""
    output: str = "comparison"
    """Folder of the results."""
    metrics: tuple[str, ...] = ()
    """Metrics to show, e.g. SDR si_sdr_gain; by default all."""
    statistic: Annotated[str, choices("gensep.evaluation.statistics:STATISTICS")] | None = None
    """Statistic over songs that the first table shows, by default that of the first run's protocol;
    power is the mean of ratios of energies."""
    picture: bool = True
    """Plot bars and boxes per method, points per song, and p-values of every two methods."""


def main(argv: list[str]) -> None:
    """Print the tables and write them with the pictures."""
    c = config.parse(Config, argv)
    if not c.runs:
        example = "python -m gensep.compare scores/A scores/B"
        raise UserError(f"expected folders that gensep.evaluate wrote: {example}; see --help")
    from gensep.evaluation.comparison import compare

    found = compare(c.runs, c.output, c.metrics, c.statistic, picture=c.picture)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    print(*found.protocols, found.page, sep="\n")
    print(f"\nwritten to {c.output}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
