"""Pictures, drawn without a display."""

import io
from pathlib import Path

import matplotlib
import numpy as np

from gensep.runs import atomic

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def save(figure, path: Path) -> None:
    """Write a figure as PNG, atomically, and close it."""
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def plot_windows(path: Path, rows: dict[str, np.ndarray]) -> None:
    """Draw rows of spectrogram windows `[n, frames, mel]` in model units under their titles."""
    columns = max(len(windows) for windows in rows.values())
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(1.6 * columns, 2.3 * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for line, (title, windows) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, window in zip(line, windows, strict=False):
            axis.imshow(window.T, origin="lower", aspect="auto", cmap="magma", vmin=-1, vmax=1.2)
        _head(line[0], title)
    save(figure, path)


def plot_images(path: Path, rows: dict[str, np.ndarray]) -> None:
    """Draw rows of images `[n, height, width, channels]`, 0 to 1, under their titles."""
    columns = max(len(images) for images in rows.values())
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(1.1 * columns, 1.3 * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, picture in zip(line, images, strict=False):
            axis.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1)
        _head(line[0], title)
    save(figure, path)


def _head(axis, title: str) -> None:
    """Write the title of a row over its first panel, which it must not widen."""
    axis.set_title(" ", fontsize=10)  # keeps the height free
    axis.text(0, 1.03, title, transform=axis.transAxes, fontsize=10).set_in_layout(False)


def plot_training(folder: Path, loss_name: str) -> None:
    """Draw training loss, validation loss and the loss of every noise level over the steps."""
    from gensep.training import read_metrics

    rows = read_metrics(folder)
    valid = [row for row in rows if "valid_loss" in row]
    train = [row for row in rows if "loss" in row]
    # log densities are negative where they are high
    values = [row[name] for row in rows for name in row if "loss" in name]
    scale = "log" if all(v > 0 for v in values) else "linear"
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    left.plot([r["step"] for r in train], [r["loss"] for r in train], lw=0.7, label="training")
    left.plot(
        [r["step"] for r in valid],
        [r["valid_loss"] for r in valid],
        "o-",
        ms=3,
        label="validation (averaged weights)",
    )
    left.set(xlabel="step", ylabel=loss_name, yscale=scale)
    left.legend()
    names = [name for name in (valid[0] if valid else {}) if name.startswith("valid_loss_sigma_")]
    for name in names:
        right.plot(
            [r["step"] for r in valid],
            [r[name] for r in valid],
            label=f"sigma {name.rsplit('_', 1)[1]}",
        )
    right.set(xlabel="step", ylabel="validation loss by noise level", yscale=scale)
    if names:
        right.legend(fontsize=8, ncols=2)
    save(figure, folder / "training.png")


def plot_spectrograms(path: Path, panels: dict[str, np.ndarray], representation) -> None:
    """Draw mel powers `[frames, mel]` under their names, on one scale 70 dB deep."""
    levels = {name: 10 * np.log10(np.maximum(_shorter(p), 1e-10)) for name, p in panels.items()}
    top = max(level.max() for level in levels.values())
    seconds = {
        name: len(p) * representation.hop_length / representation.sample_rate
        for name, p in panels.items()
    }
    _plot_panels(path, levels, seconds, representation, (top - 70, top), "magma")


def plot_uncertainty(path: Path, panels: dict[str, np.ndarray], representation) -> None:
    """Draw standard deviations `[frames, mel]` of levels, in dB, under their names."""
    seconds = {
        name: len(p) * representation.hop_length / representation.sample_rate
        for name, p in panels.items()
    }
    shown = {
        f"{name}: standard deviation over posterior samples": _shorter(p)
        for name, p in panels.items()
    }
    _plot_panels(
        path,
        shown,
        dict(zip(shown, seconds.values(), strict=True)),
        representation,
        (0, 20),
        "viridis",
    )


def plot_trace(path: Path, sigmas: np.ndarray, residuals: np.ndarray) -> None:
    """Draw the rms error of the mixing law, in dB, at every noise level of a sampler."""
    figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axis.plot(sigmas, residuals, "o-", ms=4)
    axis.set(
        xlabel="noise level, dB",
        ylabel="mixture - f(denoised sources), dB rms",
        xscale="log",
        ylim=(0, None),
        title="how the mixing law is met while noise falls",
    )
    ticks = sigmas[:: max(1, len(sigmas) // 6)]
    axis.set_xticks(ticks, [f"{t:.2g}" for t in ticks])
    axis.minorticks_off()
    axis.invert_xaxis()
    axis.grid(alpha=0.3)
    save(figure, path)


def _shorter(values: np.ndarray, most: int = 2000) -> np.ndarray:
    """Average frames of `[frames, mel]` together until a picture has room for them."""
    step = -(-len(values) // most)
    edges = np.arange(0, len(values), step)
    return np.add.reduceat(values, edges) / np.diff(np.append(edges, len(values)))[:, None]


def _plot_panels(path, panels, seconds, representation, limits, colours) -> None:
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(11, 1 + 2 * len(panels)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    ticks = mel_places(representation)
    for axis, (name, level) in zip(axes[:, 0], panels.items(), strict=True):
        shown = axis.imshow(
            level.T,
            origin="lower",
            aspect="auto",
            cmap=colours,
            vmin=limits[0],
            vmax=limits[1],
            extent=(0, seconds[name], 0, level.shape[1]),
            interpolation="nearest",
        )
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_yticks(list(ticks.values()), [f"{t} Hz" for t in ticks], fontsize=8)
    axes[-1, 0].set_xlabel("seconds")
    figure.colorbar(shown, ax=axes, label="dB", shrink=0.6)
    save(figure, path)


def mel_places(representation, hertz: tuple[int, ...] = (100, 300, 1000, 3000)) -> dict[int, float]:
    """Give where frequencies within the bands lie on the mel axis, in bands from its low end."""
    from gensep.stft import mel_frequencies

    centres = mel_frequencies(representation.n_mels + 2, representation.fmin, representation.fmax)[
        1:-1
    ]
    places = np.interp(hertz, centres, np.arange(len(centres)) + 0.5)
    return {
        h: float(p)
        for h, p in zip(hertz, places, strict=True)
        if representation.fmin < h < representation.fmax
    }


def image(values: np.ndarray, low: float, high: float, colours: str = "magma") -> bytes:
    """Give `[frames, mel]` as a PNG of one pixel a value, time to the right, low bands below."""
    from PIL import Image

    index = np.clip((values - low) / (high - low), 0, 1) * 255
    picture = Image.fromarray(np.rint(index).astype(np.uint8).T[::-1])
    palette = plt.get_cmap(colours)(np.arange(256), bytes=True)[:, :3]
    picture.putpalette(palette.tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def plot_trade_off(
    path: Path,
    panels: dict[str, dict[str, tuple[float, float]]],
    floors: dict[str, float | None],
    cost: str,
    error: str,
) -> None:
    """Draw error against cost, log-log, for `panels`: title -> label -> (cost, error).

    The line joins what nothing else beats in both; `floors` are the least errors possible. What
    errs more than eight times as much lies on the upper edge.
    """
    labels = list(dict.fromkeys(label for points in panels.values() for label in points))
    columns = min(3, len(panels) + 1)
    lines = -(-(len(panels) + 1) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(4.6 * columns, 4.2 * lines), squeeze=False, layout="constrained"
    )
    for axis, title in zip(axes.flat, panels, strict=False):
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
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for i, label in enumerate(labels):
        axes.flat[len(panels)].plot([], [], "os^Dv"[i // 10 % 5], color=f"C{i % 10}", label=label)
    axes.flat[len(panels)].legend(loc="upper left", fontsize=7.5, ncols=2, frameon=False)
    save(figure, path)


def plot_boxes(path: Path, figures: dict[str, dict[str, list[float]]], label: str) -> None:
    """Draw boxes of figures `method -> source -> values of songs`: a group a source."""
    sources = list(dict.fromkeys(s for cells in figures.values() for s in cells))
    width = 0.8 / len(figures)
    figure, axis = plt.subplots(
        figsize=(2 + 0.45 * len(sources) * len(figures), 4.5), layout="constrained"
    )
    for i, (method, cells) in enumerate(figures.items()):
        shown = [s for s in sources if cells.get(s)]
        places = [sources.index(s) + (i - (len(figures) - 1) / 2) * width for s in shown]
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
        axis.fill_between([], [], color=f"C{i % 10}", label=method)  # for the legend alone
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
    """Draw every song as a dot: figures of `first` against `method -> source -> (x, y)`."""
    sources = list(dict.fromkeys(s for cells in others.values() for s in cells))
    figure, axes = plt.subplots(
        1, len(sources), figsize=(3.4 * len(sources), 3.6), squeeze=False, layout="constrained"
    )
    for axis, source in zip(axes[0], sources, strict=True):
        for i, (method, cells) in enumerate(others.items()):
            axis.plot(*cells.get(source, ([], [])), f"C{i % 10}o", ms=4, alpha=0.7, label=method)
        low, high = axis.dataLim.intervalx if axis.dataLim.width else (0, 1)
        axis.plot([low, high], [low, high], color="grey", lw=0.8)  # equally good
        axis.set(title=source, xlabel=f"{first}: {label}", ylabel=f"the other: {label}")
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    save(figure, path)
