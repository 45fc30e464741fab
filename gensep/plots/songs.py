"""Pictures of the scores of separated songs: bars, boxes, scatter plots, p-values."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.plots.figure import Axes, grid, plt, save

Pairs = tuple[list[float], list[float]]  # scores of the first method, scores of the other


Scores = dict[str, dict[str, list[float]]]  # method -> source -> values of songs


def plot_boxes(path: Path, scores: Scores, label: str) -> None:
    """Draw a box per method, in one group per source."""

    def draw(axis: Axes, places: list[float], values: list[list[float]], look: Look) -> None:
        boxes = axis.boxplot(
            values,
            positions=places,
            widths=look.width,
            patch_artist=True,
            flierprops={"markersize": 3},
            medianprops={"color": "black"},
        )
        for box in boxes["boxes"]:
            box.set_facecolor(look.colour)

    _plot_groups(path, scores, label, draw)


def plot_bars(path: Path, scores: Scores, label: str) -> None:
    """Draw the mean over songs as a bar per method, with its standard deviation, by sources."""

    def draw(axis: Axes, places: list[float], values: list[list[float]], look: Look) -> None:
        means = [np.mean(x) for x in values]
        deviations = [np.std(x, ddof=1) if len(x) > 1 else 0.0 for x in values]
        axis.bar(places, means, look.width, yerr=deviations, color=look.colour, capsize=3)

    _plot_groups(path, scores, label, draw)


class Look(NamedTuple):
    """How the marks of a method are drawn."""

    width: float
    colour: str


def _plot_groups(
    path: Path,
    scores: Scores,
    label: str,
    draw: Callable[[Axes, list[float], list[list[float]], Look], None],
) -> None:
    """Draw a mark per method, side by side in one group per source."""
    sources = list(dict.fromkeys(s for cells in scores.values() for s in cells))
    width = 0.8 / len(scores)
    size = (2 + 0.45 * len(sources) * len(scores), 4.5)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    for i, (method, cells) in enumerate(scores.items()):
        shown = [s for s in sources if cells.get(s)]
        places = [sources.index(s) + (i - (len(scores) - 1) / 2) * width for s in shown]
        look = Look(0.85 * width, f"C{i % 10}")
        draw(axis, places, [cells[s] for s in shown], look)
        axis.fill_between([], [], color=look.colour, label=method)  # for the legend only
    axis.set_xticks(range(len(sources)), sources)
    axis.set_ylabel(label)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8)
    save(figure, path)


def plot_songs(path: Path, first: str, others: dict[str, dict[str, Pairs]], label: str) -> None:
    """Draw every song as a dot, for every other method and source."""
    sources = list(dict.fromkeys(s for cells in others.values() for s in cells))
    figure, axes = grid(1, len(sources), 3.4, 3.6)
    for axis, source in zip(axes[0], sources, strict=True):
        axis.set_axis_on()
        for i, (method, cells) in enumerate(others.items()):
            axis.plot(*cells.get(source, ([], [])), f"C{i % 10}o", ms=4, alpha=0.7, label=method)
        low, high = axis.dataLim.intervalx if axis.dataLim.width else (0, 1)
        axis.plot([low, high], [low, high], color="grey", lw=0.8)  # equally good
        axis.set(title=source, xlabel=f"{first}: {label}", ylabel=f"the other: {label}")
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    save(figure, path)


def plot_p_values(path: Path, methods: list[str], tests: dict[str, np.ndarray], title: str) -> None:
    """Draw a heat map of p-values `[method, method]` for every source; small ones are dark."""
    size = 1.2 + 0.55 * len(methods)
    figure, axes = grid(1, len(tests), size, size)
    limits = plt.Normalize(-3, 0)  # of log10 p
    for axis, (source, p) in zip(axes[0], tests.items(), strict=True):
        axis.set_axis_on()
        shown = np.log10(np.maximum(p, 1e-300))
        np.fill_diagonal(shown, np.nan)
        axis.imshow(shown, "viridis", norm=limits)
        for i, j in np.argwhere(~np.eye(len(methods), dtype=bool)):
            colour = "white" if shown[i, j] < -1.5 else "black"
            text = f"{p[i, j]:.2f}" if p[i, j] >= 0.01 else f"{p[i, j]:.0e}"
            axis.text(j, i, text, color=colour, ha="center", va="center", fontsize=7)
        axis.set_title(source, fontsize=10)
        axis.set_xticks(range(len(methods)), methods, rotation=90, fontsize=8)
        axis.set_yticks(range(len(methods)), methods, fontsize=8)
    figure.suptitle(title, fontsize=10)
    save(figure, path)
