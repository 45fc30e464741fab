"""Figures of many songs: aggregates with intervals, paired differences, tests."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np


def paired_interval(
    values: Sequence[float] | np.ndarray,
    seed: int = 0,
    level: float = 0.95,
    statistic: Callable = np.mean,
) -> tuple[float, float, float]:
    """Give (mean, low, high) of figures per piece: the bootstrap percentile interval.

    For two methods give the differences per piece. nan (a silent piece) is left out. Another
    statistic than the mean, e.g. `np.median`, takes `axis`.
    """
    kept = np.asarray(values, np.float64).ravel()
    kept = kept[~np.isnan(kept)]
    if not kept.size:
        return float("nan"), float("nan"), float("nan")
    pick = np.random.default_rng(seed).integers(kept.size, size=(10_000, kept.size))
    tail = 50 * (1 - level)
    low, high = np.percentile(statistic(kept[pick], axis=1), [tail, 100 - tail])
    return float(statistic(kept, axis=0)), float(low), float(high)


ALL = "all"  # the mean over a song's sources


class Row(NamedTuple):
    """One figure of one song; None where it is not finite."""

    method: str
    song: str
    source: str
    metric: str
    value: float | None


class Interval(NamedTuple):
    """A figure with its 95 % bootstrap interval over songs."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.value):
            return "-"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


Key = tuple[str, str, str]  # method, source, metric


def by_key(rows: Iterable[Row]) -> dict[Key, dict[str, float]]:
    """Sort figures: (method, source, metric) -> song -> value, in the order they come.

    Where there are several sources, the source `all` is their mean, of songs that have them all.
    """
    table: dict[Key, dict[str, float]] = {}
    sources: dict[tuple[str, str, str], list[float | None]] = {}
    for row in rows:
        cell = table.setdefault((row.method, row.source, row.metric), {})
        if row.value is not None:
            cell[row.song] = row.value
        sources.setdefault((row.method, row.metric, row.song), []).append(row.value)
    if len({source for _, source, _ in table}) > 1:
        for (method, metric, song), values in sources.items():
            cell = table.setdefault((method, ALL, metric), {})
            known = [value for value in values if value is not None]
            if len(known) == len(values):
                cell[song] = float(np.mean(known))
    return table


def interval(values: Iterable[float], statistic: Callable = np.mean) -> Interval:
    """Give a statistic (mean or median) of figures of songs with its bootstrap interval."""
    return Interval(*paired_interval(list(values), statistic=statistic))


def summarise(
    rows: Sequence[Row], frames: dict[Key, list[float]], pooled: Callable[[str], Callable]
) -> list[dict[str, Any]]:
    """Aggregate figures: over songs the median and the mean, over all frames `pooled(metric)`.

    Args:
        rows: a figure a song, itself the median (or mean) over the frames of that song.
        frames: the frames of all songs together, where a metric has frames.
        pooled: metric -> statistic of the pooled frames.
    """
    lines = []
    for key, songs in by_key(rows).items():
        values = list(songs.values())
        together = frames.get(key)
        line = dict(zip(("method", "source", "metric"), key, strict=True))
        lines.append(
            line
            | {
                "n": len(values),
                "median": interval(values, np.median),
                "mean": interval(values),
                "pooled": float(pooled(key[2])(together)) if together else None,
            }
        )
    return lines


class Difference(NamedTuple):
    """A method against another on the same songs."""

    n: int
    mean: Interval
    p: float | None  # two-sided Wilcoxon signed-rank test


def difference(first: dict[str, float], second: dict[str, float]) -> Difference:
    """Compare `second - first`, song -> value each, on the songs that both have."""
    from scipy.stats import wilcoxon

    songs = [song for song in first if song in second]
    gains = np.array([second[song] - first[song] for song in songs])
    p = None
    if len(gains):
        p = float(wilcoxon(gains).pvalue) if gains.any() else 1.0
    return Difference(len(gains), interval(gains), p)


def friedman(methods: Sequence[dict[str, float]]) -> tuple[int, float, float] | None:
    """Test whether at least three methods rank alike on their common songs: (n, chi2, p).

    None for fewer than three methods or two songs.
    """
    from scipy.stats import friedmanchisquare

    songs = [song for song in methods[0] if all(song in m for m in methods)] if methods else []
    if len(methods) < 3 or len(songs) < 2:
        return None
    values = np.array([[m[song] for song in songs] for m in methods])
    if np.all(values == values[0]):
        return len(songs), 0.0, 1.0
    found = friedmanchisquare(*values)
    return len(songs), float(found.statistic), float(found.pvalue)


def markdown(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Lay out a table as markdown with even columns."""
    cells = [[str(c) for c in line] for line in (header, *lines)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    text = [
        f"| {' | '.join(c.ljust(w) for c, w in zip(line, widths, strict=True))} |" for line in cells
    ]
    return "\n".join([text[0], f"|{'|'.join('-' * (w + 2) for w in widths)}|", *text[1:]])
