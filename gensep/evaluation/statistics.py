"""Values of many songs: aggregates with intervals, paired differences, tests, and their tables."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

Statistic = Callable[..., np.floating | np.ndarray]  # such as np.mean and np.median


def power_mean(decibels: np.ndarray | Sequence[float], axis: int | None = None) -> np.ndarray:
    """Return the mean of the ratios of energies that values in dB stand for, in dB again."""
    return 10 * np.log10(np.mean(10 ** (np.asarray(decibels, np.float64) / 10), axis=axis))


STATISTICS: dict[str, Statistic] = {"median": np.median, "mean": np.mean, "power": power_mean}

ALL = "all"  # the mean over a song's sources
Key = tuple[str, str, str]  # method, source, metric


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


def interval(
    values: Iterable[float] | np.ndarray, statistic: Statistic = np.mean, seed: int = 0
) -> Interval:
    """Return a statistic of one value per song with its bootstrap percentile interval.

    To compare two methods, pass their differences per song. nan (a silent song) is left out.
    """
    kept = np.array(list(values), np.float64)
    kept = kept[~np.isnan(kept)]
    if not kept.size:
        return Interval(float("nan"), float("nan"), float("nan"))
    pick = np.random.default_rng(seed).integers(kept.size, size=(10_000, kept.size))
    tail = 50 * (1 - 0.95)
    low, high = np.percentile(statistic(kept[pick], axis=1), [tail, 100 - tail])
    return Interval(float(statistic(kept, axis=0)), float(low), float(high))


def by_key(rows: Iterable[Row]) -> dict[Key, dict[str, float]]:
    """Group values: (method, source, metric) -> song -> value, in the order of the rows.

    With several sources, the source `all` is their mean, for songs in which all have a value.
    """
    table: dict[Key, dict[str, float]] = {}
    sources: dict[Key, list[float | None]] = {}  # method, metric, song
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


class Summary(NamedTuple):
    """A metric of one source by one method over songs."""

    method: str
    source: str
    metric: str
    n: int
    median: Interval
    mean: Interval
    sd: float | None  # standard deviation of the songs, None for a single one
    power: Interval | None  # the mean of ratios of energies, where it was asked for
    pooled: float | None  # over the frames of all songs


def summarise(
    rows: Sequence[Row],
    frames: dict[Key, list[float]],
    pooled: Callable[[str], Statistic],
    *,
    power: bool = False,
) -> list[Summary]:
    """Aggregate values over songs, and `frames` of all songs by the statistic `pooled(metric)`.

    With `power` the mean of ratios of energies is one of the aggregates.
    """
    lines = []
    for key, songs in by_key(rows).items():
        values, together = songs.values(), frames.get(key)
        whole = float(pooled(key[2])(together)) if together else None
        spread = interval(values, np.median), interval(values), deviation(values)
        energies = interval(values, power_mean) if power else None
        lines.append(Summary(*key, len(values), *spread, energies, whole))
    return lines


def deviation(values: Iterable[float]) -> float | None:
    """Return the standard deviation (n - 1 in the denominator), None for fewer than two values."""
    known = list(values)
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


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

    values = _common(methods)
    if len(methods) < 3 or values.shape[1] < 2:
        return None
    if np.all(values == values[0]):
        return values.shape[1], 0.0, 1.0
    found = friedmanchisquare(*values)
    return values.shape[1], float(found.statistic), float(found.pvalue)


def conover(methods: Sequence[dict[str, float]]) -> np.ndarray | None:
    """Return p, `[method, method]`, that two methods rank alike on the songs that all have.

    The two-sided test that follows Friedman's, on the t distribution and without a correction for
    several comparisons: Conover, Practical Nonparametric Statistics, 3rd edition 1999, section 5.8.
    Return None where `friedman` does.
    """
    from scipy.stats import rankdata, t

    values = _common(methods)
    k, n = values.shape
    if k < 3 or n < 2:
        return None
    ranks = rankdata(values, axis=0)
    sums, freedom = ranks.sum(axis=1), (n - 1) * (k - 1)
    # rounding may leave a little below 0 where all songs rank the methods alike
    spread = max(0.0, n * (ranks**2).sum() - (sums**2).sum())
    apart = np.abs(sums[:, None] - sums[None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 2 * t.sf(apart / np.sqrt(2 * spread / freedom), freedom)
    return np.where(apart == 0, 1.0, found)


def _common(methods: Sequence[dict[str, float]]) -> np.ndarray:
    """Return the values `[method, song]` of the songs that all methods have."""
    songs = [song for song in methods[0] if all(song in m for m in methods)] if methods else []
    values = [[m[song] for song in songs] for m in methods]
    return np.array(values).reshape(len(methods), len(songs))


def markdown(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return a markdown table with columns of even width."""
    cells = [[str(c) for c in line] for line in (header, *lines)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    rows = [[c.ljust(w) for c, w in zip(line, widths, strict=True)] for line in cells]
    text = [f"| {' | '.join(row)} |" for row in rows]
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


def finite(value: float | np.ndarray | None, digits: int | None = None) -> float | None:
    """Return a number, rounded to `digits` if given, or None for None, nan and infinity."""
    if value is None or not np.isfinite(value):
        return None
    return float(value) if digits is None else round(float(value), digits)


def rounded(found: Interval) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high for a file: six decimals, None for nan."""
    value, low, high = (finite(x, 6) for x in found)
    return value, low, high


def decibels(value: float | None) -> str:
    """Return a value with two decimals, or - for None."""
    return "-" if value is None else f"{value:.2f}"


def csv_text(rows: Sequence[NamedTuple]) -> str:
    """Return rows of one kind as CSV, with the names of their fields above."""
    text = io.StringIO()
    header = rows[0]._fields if rows else ()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
