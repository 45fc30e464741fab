"""Compare methods that were scored on the same songs: `python -m gensep.compare RUN RUN ...`.

RUN is an output folder of gensep.evaluate. OUTPUT gets comparison.md, comparison.csv, and for each
metric boxes_METRIC.png and songs_METRIC.png (each song, the first run against the others).
"""

import csv
import dataclasses
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gensep.cli import config
from gensep.cli.options import Positional
from gensep.runtime.errors import UserError, run

BASELINES = ("mixture", "oracle")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of gensep.compare."""

    runs: Positional[tuple[str, ...]] = ()
    """Output folders of gensep.evaluate; the first is compared with each of the others."""
    output: str = "comparison"
    """Folder of the results."""
    metrics: tuple[str, ...] = ()
    """Metrics to show, e.g. SDR si_sdr_gain; by default all."""
    statistic: Literal["median", "mean"] = "median"
    """Statistic over songs that the table shows."""
    picture: bool = True
    """Plot boxes per method and points per song."""


def main(argv: list[str]) -> None:
    """Print the tables and write them with the pictures."""
    c = config.parse(Config, argv)
    if not c.runs:
        raise UserError(
            "expected folders that gensep.evaluate wrote: python -m gensep.compare "
            "scores/A scores/B; see --help"
        )
    from gensep.runtime.files import check_writable, write_atomically

    rows, notes = gather(c.runs)
    metrics = list(dict.fromkeys(row.metric for row in rows))
    if unknown := [name for name in c.metrics if name not in metrics]:
        raise UserError(f"no run has the metric {unknown[0]}; they have {', '.join(metrics)}")
    rows = [row for row in rows if row.metric in (c.metrics or metrics)]
    table, left_out = shared(rows)
    notes += left_out
    check_writable(c.output)
    page, lines = tables(table, c.statistic)
    about = f"{HEAD}\n" + "".join(f"- note: {note}\n" for note in notes)
    write_atomically(Path(c.output) / "comparison.md", f"{about}\n{page}\n{record(c)}")
    text = io.StringIO()
    sheet = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    sheet.writeheader()
    sheet.writerows(lines)
    write_atomically(Path(c.output) / "comparison.csv", text.getvalue())
    if c.picture:
        draw(Path(c.output), table)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(page)
    print(f"\nwritten to {c.output}", file=sys.stderr)


def gather(runs: tuple[str, ...]) -> tuple[list[Any], list[str]]:
    """Read the figures of all runs, each under its method's name; baselines from all of them."""
    from gensep.evaluation.statistics import Row

    found = [_read(Path(folder)) for folder in runs]
    names = [scores["method"] for scores in found]
    if len(set(names)) < len(names):
        names = [Path(folder).resolve().name for folder in runs]
    clash = [n for n in names if names.count(n) > 1 or n in BASELINES]
    if clash:
        raise UserError(f"several methods are called {clash[0]}; evaluate with another --name")
    rows, notes = [], []
    baseline: dict[Any, float | None] = {}
    for name, scores in zip(names, found, strict=True):
        for entry in scores["rows"]:
            row = Row(**entry)
            if row.method not in BASELINES:
                rows.append(row._replace(method=name))
            elif row[:4] not in baseline:
                baseline[row[:4]] = row.value
                rows.append(row)
            elif _differ(baseline[row[:4]], row.value):
                notes.append(
                    f"{name} was scored against other references or with other options: "
                    f"its {row.method} has {row.metric} {row.value} on {row.song}, "
                    f"{row.source}, not {baseline[row[:4]]}"
                )
    order = [*BASELINES, *names]
    return sorted(rows, key=lambda row: order.index(row.method)), list(dict.fromkeys(notes))[:5]


def shared(rows: list[Any]) -> tuple[dict[Any, dict[str, float]], list[str]]:
    """Keep for each metric and source the songs on which every method has a figure."""
    from gensep.evaluation.statistics import by_key

    table = by_key(rows)
    notes = []
    for source, metric in dict.fromkeys((s, m) for _, s, m in table):
        cells = [cell for key, cell in table.items() if key[1:] == (source, metric)]
        common = set.intersection(*map(set, cells))
        extra = len(set.union(*map(set, cells))) - len(common)
        if extra:
            notes.append(
                f"{metric} of {source}: {extra} songs left out that not every method has "
                f"a figure for; {len(common)} kept"
            )
        for cell in cells:
            for song in set(cell) - common:
                del cell[song]
    if not any(table.values()):
        raise UserError("the runs have no song in common; score the same songs")
    return table, notes


def tables(table: dict[Any, dict[str, float]], statistic: str) -> tuple[str, list[dict[str, Any]]]:
    """Give the page (markdown) and the lines of the CSV."""
    import numpy as np

    from gensep.evaluation.statistics import friedman, interval, markdown

    methods, sources, metrics = (list(dict.fromkeys(key[i] for key in table)) for i in range(3))
    runs = [m for m in methods if m not in BASELINES]
    parts, lines = [], []
    for metric in metrics:
        cells = {m: {s: table.get((m, s, metric), {}) for s in sources} for m in methods}
        figures = {
            (m, s): interval(cells[m][s].values(), getattr(np, statistic))
            for m in methods
            for s in sources
        }
        count = max(len(cells[runs[0]][s]) for s in sources)
        parts.append(
            f"## {metric}: {statistic} over {count} songs [95 %]\n\n"
            + markdown(
                ("method", *sources), [(m, *(figures[m, s] for s in sources)) for m in methods]
            )
        )
        lines += [
            _line(metric, s, m, statistic, len(cells[m][s]), figures[m, s])
            for m in methods
            for s in sources
        ]
        against = _differences(cells, runs, sources, metric, lines)
        if against:
            parts.append(
                f"Paired differences from {runs[0]}: mean [95 %], Wilcoxon p\n\n"
                + markdown(("method", *sources), against)
            )
        ranks = [(s, friedman([cells[m][s] for m in runs])) for s in sources]
        known = [f"{s}: chi2 {f[1]:.2f}, p {f[2]:.2g}, n {f[0]}" for s, f in ranks if f]
        if known:
            parts.append(f"Friedman test over {len(runs)} methods: " + "; ".join(known))
    return "\n\n".join(parts), lines


def _differences(cells, runs, sources, metric, lines) -> list[list[str]]:
    """Give a table line for every run but the first; add to the lines of the CSV."""
    from gensep.evaluation.statistics import difference

    table = []
    for method in runs[1:]:
        shown = [method]
        for source in sources:
            found = difference(cells[runs[0]][source], cells[method][source])
            lines.append(
                _line(
                    metric,
                    source,
                    method,
                    f"difference from {runs[0]}",
                    found.n,
                    found.mean,
                    found.p,
                )
            )
            shown.append("-" if found.p is None else f"{found.mean}, p {found.p:.2g}")
        table.append(shown)
    return table


def _line(metric, source, method, statistic, n, interval, p=None) -> dict[str, Any]:
    """Give one line of the CSV."""
    value, low, high = (round(x, 6) if x == x else None for x in interval)
    return {
        "metric": metric,
        "source": source,
        "method": method,
        "statistic": statistic,
        "n": n,
        "value": value,
        "low": low,
        "high": high,
        "p": p,
    }


def draw(folder: Path, table: dict[Any, dict[str, float]]) -> None:
    """Draw boxes and songs of every metric."""
    from gensep.plots.songs import plot_boxes, plot_songs

    methods, sources, metrics = (list(dict.fromkeys(key[i] for key in table)) for i in range(3))
    runs = [m for m in methods if m not in BASELINES]
    first, *others = runs if len(runs) > 1 else [*methods[:1], *runs]
    for metric in metrics:

        def cell(method: str, source: str, metric: str = metric) -> dict[str, float]:
            return table.get((method, source, metric), {})

        label = f"{metric}, dB"
        plot_boxes(
            folder / f"boxes_{metric}.png",
            {m: {s: list(cell(m, s).values()) for s in sources} for m in methods},
            label,
        )
        plot_songs(
            folder / f"songs_{metric}.png",
            first,
            {
                m: {
                    s: (
                        [cell(first, s)[song] for song in cell(m, s) if song in cell(first, s)],
                        [x for song, x in cell(m, s).items() if song in cell(first, s)],
                    )
                    for s in sources
                }
                for m in others
            },
            label,
        )


def record(c: Config) -> str:
    """Tell the options, versions and commit that made the page."""
    from gensep.cli.records import commit, versions

    about = {"options": dataclasses.asdict(c), "versions": versions(), "commit": commit()}
    return f"```json\n{json.dumps(about, allow_nan=False)}\n```\n"


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "scores.json"
    try:
        scores = json.loads(path.read_text())
        if scores["rows"] and "method" in scores:
            return scores
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}); give an output folder of gensep.evaluate"
        ) from None
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path} holds no scores of gensep.evaluate; evaluate again")


def _differ(a: float | None, b: float | None) -> bool:
    return (a is None) != (b is None) or (a is not None and b is not None and abs(a - b) > 1e-3)


HEAD = """# Comparison

Figures are in dB, of songs that every method was scored on. Of framewise metrics a song's figure is
the median over its frames (msdm_gain: the mean over windows). Intervals are bootstraps over songs.
`mixture` is the unprocessed mixture, `oracle` the ideal 96-mel mask; `all` is the mean over the
sources of a song.
"""


if __name__ == "__main__":
    run(main)
