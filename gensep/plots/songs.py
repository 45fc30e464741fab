"""Pictures of the scores of separated songs: boxes, scatter plots, error against cost."""

from pathlib import Path

from gensep.plots.figure import grid, plt, save


def plot_trade_off(
    path: Path,
    panels: dict[str, dict[str, tuple[float, float]]],
    floors: dict[str, float | None],
    cost: str,
    error: str,
) -> None:
    """Draw error against cost on logarithmic axes, one panel per title.

    A line joins the points that no other point beats in both error and cost. Errors above eight
    times the floor are drawn on the upper edge.

    Args:
        path: of the PNG.
        panels: title -> label -> (cost, error).
        floors: title -> least possible error, drawn as a dashed line.
        cost: label of the horizontal axes.
        error: label of the vertical axes.
    """
    labels = list(dict.fromkeys(label for points in panels.values() for label in points))
    columns = min(3, len(panels) + 1)
    figure, axes = grid(-(-(len(panels) + 1) // columns), columns, 4.6, 4.2)
    for axis, title in zip(axes.flat, panels, strict=False):
        axis.set_axis_on()
        floor = floors.get(title)
        points = sorted(
            (x, min(y, 8 * floor) if floor else y, label) for label, (x, y) in panels[title].items()
        )
        best = [p for i, p in enumerate(points) if all(p[1] < q[1] for q in points[:i])]
        axis.plot([p[0] for p in best], [p[1] for p in best], color="0.7", lw=1, zorder=1)
        for x, y, label in points:
            i = labels.index(label)
            axis.plot(x, y, "os^Dv"[i // 10 % 5], color=f"C{i % 10}", ms=6, zorder=2)
        if floor:
            axis.axhline(floor, color="0.5", ls="--", lw=1)
        axis.set(title=title, xlabel=cost, ylabel=error)
        if points:
            axis.set(xscale="log", yscale="log")
            axis.margins(0.1)
    for i, label in enumerate(labels):
        axes.flat[len(panels)].plot([], [], "os^Dv"[i // 10 % 5], color=f"C{i % 10}", label=label)
    axes.flat[len(panels)].legend(loc="upper left", fontsize=7.5, ncols=2, frameon=False)
    save(figure, path)


def plot_boxes(path: Path, scores: dict[str, dict[str, list[float]]], label: str) -> None:
    """Draw a box per method, in one group per source, of `method -> source -> values of songs`."""
    sources = list(dict.fromkeys(s for cells in scores.values() for s in cells))
    width = 0.8 / len(scores)
    figure, axis = plt.subplots(
        figsize=(2 + 0.45 * len(sources) * len(scores), 4.5), layout="constrained"
    )
    for i, (method, cells) in enumerate(scores.items()):
        shown = [s for s in sources if cells.get(s)]
        places = [sources.index(s) + (i - (len(scores) - 1) / 2) * width for s in shown]
        boxes = axis.boxplot(
            [cells[s] for s in shown],
            positions=places,
            widths=0.85 * width,
            patch_artist=True,
            flierprops={"markersize": 3},
            medianprops={"color": "black"},
        )
        for box in boxes["boxes"]:
            box.set_facecolor(f"C{i % 10}")
        axis.fill_between([], [], color=f"C{i % 10}", label=method)  # for the legend only
    axis.set_xticks(range(len(sources)), sources)
    axis.set_ylabel(label)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8)
    save(figure, path)


def plot_songs(
    path: Path,
    first: str,
    others: dict[str, dict[str, tuple[list[float], list[float]]]],
    label: str,
) -> None:
    """Draw every song as a dot: scores of `first` and of another method.

    `others` is method -> source -> (scores of `first`, scores of that method).
    """
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
