"""Pictures of the scores of separated songs: boxes and scatter plots."""

from pathlib import Path

from gensep.plots.figure import grid, plt, save

Pairs = tuple[list[float], list[float]]  # scores of the first method, scores of the other


def plot_boxes(path: Path, scores: dict[str, dict[str, list[float]]], label: str) -> None:
    """Draw a box per method, in one group per source, of `method -> source -> values of songs`."""
    sources = list(dict.fromkeys(s for cells in scores.values() for s in cells))
    width = 0.8 / len(scores)
    size = (2 + 0.45 * len(sources) * len(scores), 4.5)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
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
