"""Compare methods that were scored on the same songs: tables, paired tests and pictures."""

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.cli.records import Json, commit, versions
from gensep.evaluation import statistics as stats
from gensep.evaluation.campaign import SCORES
from gensep.evaluation.measures import MIXTURE, ORACLE
from gensep.evaluation.statistics import Key, Row, decibels, markdown, rounded
from gensep.runtime.errors import UserError
from gensep.runtime.files import check_writable, write_atomically

BASELINES = (MIXTURE, ORACLE)
Cells = dict[Key, dict[str, float]]  # (method, source, metric) -> song -> value
Table = dict[str, dict[str, dict[str, float]]]  # method -> source -> song -> value, of a metric
HEAD = """# Comparison

Values are in dB, over the songs, or excerpts, that every method was scored on. The value of a song
is the statistic over its frames that the protocol names for framewise metrics (msdm_gain: the mean
over windows). Intervals are bootstraps over songs, sd is the standard deviation of songs. `mixture`
is the unprocessed mixture, `oracle` the ideal mel mask; `all` is the mean over the sources of a
song.
"""


class Line(NamedTuple):
    """A line of comparison.csv."""

    metric: str
    source: str
    method: str
    statistic: str
    n: int
    value: float | None
    low: float | None
    high: float | None
    p: float | None = None


class Comparison(NamedTuple):
    """Methods compared with the first one."""

    page: str  # tables as markdown
    lines: list[Line]
    protocols: list[str]  # by which the methods were scored, in words
    notes: list[str]  # on what was left out


def compare(
    runs: Sequence[str],
    output: str = "comparison",
    metrics: Sequence[str] = (),
    statistic: str | None = None,
    *,
    picture: bool = True,
) -> Comparison:
    """Compare methods, whose scores lie in the folders `runs`, with the first one of them.

    Write OUTPUT/comparison.md, comparison.csv, and with `picture` for each metric bars_METRIC.png,
    boxes_METRIC.png and songs_METRIC.png, for three or more runs
    conover_METRIC.png. The arguments are the options of `gensep.compare`.

    Raises:
        UserError: if a run cannot be read or has no song in common with the others.
    """
    rows, protocols, usual, notes = read_runs(runs)
    statistic = statistic or usual
    known = list(dict.fromkeys(row.metric for row in rows))
    if unknown := [name for name in metrics if name not in known]:
        raise UserError(f"no run has the metric {unknown[0]}; they have {', '.join(known)}")
    cells, left_out = common_songs([row for row in rows if row.metric in (metrics or known)])
    notes += left_out
    check_writable(output)
    tables = _by_metric(cells)
    page, lines = _tables(tables, statistic)
    options = {"runs": runs, "output": output, "metrics": metrics, "statistic": statistic}
    about = {"options": {**options, "picture": picture}, "versions": versions(), "commit": commit()}
    record = f"```json\n{json.dumps(about, allow_nan=False)}\n```\n"
    listed = "".join(f"- {text}\n" for text in protocols)
    listed += "".join(f"- note: {note}\n" for note in notes)
    write_atomically(Path(output) / "comparison.md", f"{HEAD}\n{listed}\n{page}\n{record}")
    write_atomically(Path(output) / "comparison.csv", stats.csv_text(lines))
    if picture:
        _plot(Path(output), tables)
    return Comparison(page, lines, protocols, notes)


class Runs(NamedTuple):
    """What was read from the folders of several methods."""

    rows: list[Row]  # baselines first
    protocols: list[str]  # in words
    statistic: str  # over songs, of the first run's protocol
    notes: list[str]  # on protocols or baselines that differ


def read_runs(runs: Sequence[str]) -> Runs:
    """Read the values of all runs, each under the name of its method, and of the baselines.

    Raises:
        UserError: if a run cannot be read or two methods have one name.
    """
    found = [_read(Path(folder)) for folder in runs]
    names = [scores["method"] for scores in found]
    if len(set(names)) < len(names):
        names = [Path(folder).resolve().name for folder in runs]
    if clash := [n for n in names if names.count(n) > 1 or n in BASELINES]:
        raise UserError(f"several methods are called {clash[0]}; evaluate with another --name")
    protocols = list(dict.fromkeys(text for scores in found if (text := scores.get("protocol"))))
    rows, notes = [], []
    if len(protocols) > 1:
        notes.append("the runs were scored by different protocols; score them by one")
    baseline: dict[tuple[str, ...], float | None] = {}
    for name, scores in zip(names, found, strict=True):
        for row in (Row(**entry) for entry in scores["rows"]):
            if row.method not in BASELINES:
                rows.append(row._replace(method=name))
                continue
            if row[:4] not in baseline:
                rows.append(row)
            value = baseline.setdefault(row[:4], row.value)
            a, b = (np.nan if x is None else x for x in (value, row.value))
            if not np.isclose(a, b, rtol=0, atol=1e-3, equal_nan=True):
                what = f"{row.method} has {row.metric} {row.value} on {row.song}, {row.source}"
                cause = "was scored against other references or with other options"
                notes.append(f"{name} {cause}: its {what}, not {value}")
    order = [*BASELINES, *names]
    rows.sort(key=lambda row: order.index(row.method))
    statistic = found[0].get("options", {}).get("over_songs", "median")
    return Runs(rows, protocols, statistic, list(dict.fromkeys(notes))[:5])


def common_songs(rows: Sequence[Row]) -> tuple[Cells, list[str]]:
    """Keep for each metric and source the songs for which every method has a value."""
    table = stats.by_key(rows)
    notes = []
    for source, metric in dict.fromkeys((s, m) for _, s, m in table):
        cells = [cell for key, cell in table.items() if key[1:] == (source, metric)]
        common = set.intersection(*map(set, cells))
        if extra := len(set.union(*map(set, cells))) - len(common):
            left_out = f"{extra} songs left out that not every method has a figure for"
            notes.append(f"{metric} of {source}: {left_out}; {len(common)} kept")
        for cell in cells:
            for song in set(cell) - common:
                del cell[song]
    if not any(table.values()):
        raise UserError("the runs have no song in common; score the same songs")
    return table, notes


def _tables(tables: dict[str, Table], statistic: str) -> tuple[str, list[Line]]:
    """Return the page (markdown) and the lines of the CSV."""
    parts: list[str] = []
    lines: list[Line] = []
    for metric, table in tables.items():
        runs = [method for method in table if method not in BASELINES]
        text, more = _values(metric, table, runs[0], statistic)
        spread, deviations = _spreads(metric, table, runs[0])
        differences, others = _differences(metric, table, runs)
        ranks, tests = _ranks(metric, table, runs)
        parts += [text, spread, *differences, *ranks]
        lines += more + deviations + others + tests
    return "\n\n".join(parts), lines


def _by_metric(cells: Cells) -> dict[str, Table]:
    """Return a full table for each metric."""
    methods, sources, metrics = (list(dict.fromkeys(key[i] for key in cells)) for i in range(3))
    return {
        metric: {m: {s: cells.get((m, s, metric), {}) for s in sources} for m in methods}
        for metric in metrics
    }


def _values(metric: str, table: Table, first: str, statistic: str) -> tuple[str, list[Line]]:
    """Tabulate a statistic of each method and source over songs."""
    over_songs = stats.STATISTICS[statistic]
    rows, lines = [], []
    for method, cells in table.items():
        found = {s: stats.interval(cell.values(), over_songs) for s, cell in cells.items()}
        rows.append((method, *found.values()))
        for s, x in found.items():
            lines.append(Line(metric, s, method, statistic, len(cells[s]), *rounded(x)))
    count = max(len(cell) for cell in table[first].values())
    title = f"## {metric}: {statistic} over {count} songs [95 %]\n\n"
    return title + markdown(("method", *table[first]), rows), lines


def _spreads(metric: str, table: Table, first: str) -> tuple[str, list[Line]]:
    """Tabulate the mean and the standard deviation of each method and source over songs."""
    rows, lines = [], []
    for method, cells in table.items():
        shown = []
        for s, cell in cells.items():
            mean, sd = stats.mean_known(cell.values()), stats.deviation(cell.values())
            shown.append(f"{decibels(mean)} +- {decibels(sd)}")
            for name, value in (("mean", mean), ("sd", sd)):
                x = stats.finite(value, 6)
                lines.append(Line(metric, s, method, f"{name} of songs", len(cell), x, None, None))
        rows.append((method, *shown))
    return f"Mean +- sd over songs\n\n{markdown(('method', *table[first]), rows)}", lines


def _differences(metric: str, table: Table, runs: list[str]) -> tuple[list[str], list[Line]]:
    """Tabulate the differences of each run from the first."""
    first, *others = runs
    rows, lines, parts = [], [], []
    for method in others:
        found = {s: stats.difference(cell, table[method][s]) for s, cell in table[first].items()}
        for s, x in found.items():
            what = f"difference from {first}"
            lines.append(Line(metric, s, method, what, x.n, *rounded(x.mean), x.p))
        shown = ("-" if x.p is None else f"{x.mean}, p {x.p:.2g}" for x in found.values())
        rows.append((method, *shown))
    if rows:
        title = f"Paired differences from {first}: mean [95 %], Wilcoxon p\n\n"
        parts.append(title + markdown(("method", *table[first]), rows))
    return parts, lines


def _ranks(metric: str, table: Table, runs: list[str]) -> tuple[list[str], list[Line]]:
    """Test whether all runs rank alike, and every two of them after that."""
    rows, lines, parts = [], [], []
    tests = [(s, stats.friedman([table[m][s] for m in runs])) for s in table[runs[0]]]
    if known := [f"{s}: chi2 {f[1]:.2f}, p {f[2]:.2g}, n {f[0]}" for s, f in tests if f]:
        parts.append(f"Friedman test over {len(runs)} methods: " + "; ".join(known))
    found = _conover(table, runs)
    for i, j in combinations(range(len(runs)), 2):
        for s, p in found.items():
            what, n = f"Conover, against {runs[i]}", len(table[runs[j]][s])
            lines.append(Line(metric, s, runs[j], what, n, None, None, None, float(p[i, j])))
        rows.append((f"{runs[i]} - {runs[j]}", *(f"{p[i, j]:.2g}" for p in found.values())))
    if found:
        title = "Conover's test of every two methods: p, not corrected for several comparisons\n\n"
        parts.append(title + markdown(("methods", *found), rows))
    return parts, lines


def _conover(table: Table, runs: list[str]) -> dict[str, np.ndarray]:
    """Return the p-values of every two runs by source."""
    tests = ((s, stats.conover([table[m][s] for m in runs])) for s in table[runs[0]])
    return {s: p for s, p in tests if p is not None}


def _plot(folder: Path, tables: dict[str, Table]) -> None:
    """Draw bars, boxes, songs and p-values of every metric."""
    from gensep.plots.songs import plot_bars, plot_boxes, plot_p_values, plot_songs

    def common(x: dict[str, float], y: dict[str, float]) -> tuple[list[float], list[float]]:
        songs = [song for song in y if song in x]
        return [x[song] for song in songs], [y[song] for song in songs]

    for metric, table in tables.items():
        runs = [method for method in table if method not in BASELINES]
        first, *others = runs if len(runs) > 1 else [*list(table)[:1], *runs]
        values = {m: {s: list(cell.values()) for s, cell in of.items()} for m, of in table.items()}
        plot_bars(folder / f"bars_{metric}.png", values, f"{metric}, dB: mean and sd")
        plot_boxes(folder / f"boxes_{metric}.png", values, f"{metric}, dB")
        dots = {m: {s: common(table[first][s], y) for s, y in table[m].items()} for m in others}
        plot_songs(folder / f"songs_{metric}.png", first, dots, f"{metric}, dB")
        if tests := _conover(table, runs):
            title = f"{metric}: p of Conover's test"
            plot_p_values(folder / f"conover_{metric}.png", runs, tests, title)


def _read(folder: Path) -> Json:
    path = folder / SCORES
    try:
        scores = json.loads(path.read_text())
        if scores["rows"] and "method" in scores:
            return scores
    except OSError as error:
        remedy = "give an output folder of gensep.evaluate"
        raise UserError(f"cannot read {path} ({error.strerror}); {remedy}") from None
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path} holds no scores of gensep.evaluate; evaluate again")
