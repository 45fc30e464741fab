"""Values of many songs: aggregates with intervals, paired differences, tests, and their tables."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

Statistic = Callable[..., np.floating | np.ndarray]  # such as np.mean and np.median


def paired_interval(
    values: Sequence[float] | np.ndarray,
    seed: int = 0,
    level: float = 0.95,
    statistic: Statistic = np.mean,
) -> tuple[float, float, float]:
    """Return (mean, low, high) of one value per piece, with a bootstrap percentile interval.

    To compare two methods, pass their differences per piece. nan (a silent piece) is left out.
    Another statistic than the mean, such as `np.median`, must accept `axis`.
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
    """One value of one song; None where it is not finite."""

    method: str
    song: str
    source: str
    metric: str
    value: float | None


class Interval(NamedTuple):
    """A value with its 95 % bootstrap interval over songs."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.value):
            return "-"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


Key = tuple[str, str, str]  # method, source, metric


def by_key(rows: Iterable[Row]) -> dict[Key, dict[str, float]]:
    """Group values: (method, source, metric) -> song -> value, in the order of the rows.

    With several sources, the source `all` is their mean, for songs in which all have a value.
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


def interval(values: Iterable[float], statistic: Statistic = np.mean) -> Interval:
    """Return a statistic (mean or median) over songs with its bootstrap interval."""
    return Interval(*paired_interval(list(values), statistic=statistic))


class Summary(NamedTuple):
    """A metric of one source by one method over songs."""

    method: str
    source: str
    metric: str
    n: int
    median: Interval
    mean: Interval
    pooled: float | None  # over the frames of all songs


def summarise(
    rows: Sequence[Row], frames: dict[Key, list[float]], pooled: Callable[[str], Statistic]
) -> list[Summary]:
    """Aggregate over songs (median and mean) and over the frames of all songs.

    Args:
        rows: one value per song, itself the median (or mean) over the frames of that song.
        frames: the frames of all songs together, for metrics that have frames.
        pooled: function from a metric to the statistic of its pooled frames.
    """
    lines = []
    for key, songs in by_key(rows).items():
        values, together = list(songs.values()), frames.get(key)
        whole = float(pooled(key[2])(together)) if together else None
        spread = interval(values, np.median), interval(values)
        lines.append(Summary(*key, len(values), *spread, whole))
    return lines


class Difference(NamedTuple):
    """Differences of a method from another on the same songs."""

    n: int
    mean: Interval
    p: float | None  # two-sided Wilcoxon signed-rank test


def difference(first: dict[str, float], second: dict[str, float]) -> Difference:
    """Compare two methods, song -> value each: `second - first` on the songs that both have."""
    from scipy.stats import wilcoxon

    songs = [song for song in first if song in second]
    gains = np.array([second[song] - first[song] for song in songs])
    p = None
    if len(gains):
        p = float(wilcoxon(gains).pvalue) if gains.any() else 1.0
    return Difference(len(gains), interval(gains), p)


def friedman(methods: Sequence[dict[str, float]]) -> tuple[int, float, float] | None:
    """Test whether methods rank alike on their common songs (Friedman): return (n, chi2, p).

    Return None for fewer than three methods or two songs.
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
    """Return a markdown table with columns of even width."""
    cells = [[str(c) for c in line] for line in (header, *lines)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    text = [
        f"| {' | '.join(c.ljust(w) for c, w in zip(line, widths, strict=True))} |" for line in cells
    ]
    return "\n".join([text[0], f"|{'|'.join('-' * (w + 2) for w in widths)}|", *text[1:]])


def aligned(lines: Iterable[Sequence[str]], formats: Sequence[str]) -> str:
    """Return a text table; each column has a format such as "<12" (left) or ">10" (right)."""
    return "\n".join(
        "".join(f"{cell:{how}}" for cell, how in zip(line, formats, strict=True)) for line in lines
    )


def mean_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None, or None without any."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def decibels(value: float | None) -> str:
    """Return a value with two decimals, or - for None."""
    return "-" if value is None else f"{value:.2f}"


def csv_text(rows: Sequence[NamedTuple]) -> str:
    """Return rows of one kind as CSV, with the names of their fields above."""
    text = io.StringIO()
    header = rows[0]._fields if rows else ()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
