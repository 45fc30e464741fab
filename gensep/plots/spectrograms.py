"""Spectrograms: windows, whole files, uncertainty, and the residual of a sampler."""

import io
from pathlib import Path

import numpy as np

from gensep.plots.figure import grid, head, plt, save
from gensep.representation.mel import Representation
from gensep.representation.stft import mel_frequencies


def plot_windows(path: Path, rows: dict[str, np.ndarray]) -> None:
    """Draw rows of spectrogram windows `[n, frames, mel]` in model units under their titles."""
    columns = max(len(windows) for windows in rows.values())
    figure, axes = grid(len(rows), columns, 1.6, 2.3)
    for line, (title, windows) in zip(axes, rows.items(), strict=True):
        for axis, window in zip(line, windows, strict=False):
            axis.imshow(window.T, origin="lower", aspect="auto", cmap="magma", vmin=-1, vmax=1.2)
        head(line[0], title)
    save(figure, path)


def plot_spectrograms(
    path: Path, panels: dict[str, np.ndarray], representation: Representation
) -> None:
    """Draw mel powers `[frames, mel]` under their names, on one scale 70 dB deep."""
    levels = {name: 10 * np.log10(np.maximum(_shorter(p), 1e-10)) for name, p in panels.items()}
    top = max(level.max() for level in levels.values())
    seconds = [_seconds(p, representation) for p in panels.values()]
    _plot_panels(path, levels, seconds, representation, (top - 70, top), "magma")


def plot_uncertainty(
    path: Path, panels: dict[str, np.ndarray], representation: Representation
) -> None:
    """Draw standard deviations `[frames, mel]` of levels, in dB, under their names."""
    title = "standard deviation over posterior samples"
    shown = {f"{name}: {title}": _shorter(p) for name, p in panels.items()}
    seconds = [_seconds(p, representation) for p in panels.values()]
    _plot_panels(path, shown, seconds, representation, (0, 20), "viridis")


def plot_trace(path: Path, sigmas: np.ndarray, residuals: np.ndarray) -> None:
    """Draw the rms error of the mixing law, in dB, at every noise level of a sampler."""
    figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axis.plot(sigmas, residuals, "o-", ms=4)
    axis.set(
        xlabel="noise level, dB",
        ylabel="mixture - f(denoised sources), dB rms",
        xscale="log",
        ylim=(0, None),
        title="error of the mixing law while the noise level falls",
    )
    ticks = sigmas[:: max(1, len(sigmas) // 6)]
    axis.set_xticks(ticks, [f"{t:.2g}" for t in ticks])
    axis.minorticks_off()
    axis.invert_xaxis()
    axis.grid(alpha=0.3)
    save(figure, path)


def _seconds(values: np.ndarray, representation: Representation) -> float:
    return len(values) * representation.hop_length / representation.sample_rate


def _shorter(values: np.ndarray, most: int = 2000) -> np.ndarray:
    """Average neighbouring frames of `[frames, mel]` so that at most `most` remain."""
    step = -(-len(values) // most)
    edges = np.arange(0, len(values), step)
    return np.add.reduceat(values, edges) / np.diff(np.append(edges, len(values)))[:, None]


def _plot_panels(
    path: Path,
    panels: dict[str, np.ndarray],
    seconds: list[float],
    representation: Representation,
    limits: tuple[float, float],
    colours: str,
) -> None:
    """Draw panels `[frames, mel]` below one another on a common time axis."""
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(11, 1 + 2 * len(panels)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    ticks = mel_places(representation)
    for axis, (name, level), length in zip(axes[:, 0], panels.items(), seconds, strict=True):
        shown = axis.imshow(
            level.T,
            origin="lower",
            aspect="auto",
            cmap=colours,
            vmin=limits[0],
            vmax=limits[1],
            extent=(0, length, 0, level.shape[1]),
            interpolation="nearest",
        )
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_yticks(list(ticks.values()), [f"{t} Hz" for t in ticks], fontsize=8)
    axes[-1, 0].set_xlabel("seconds")
    figure.colorbar(shown, ax=axes, label="dB", shrink=0.6)
    save(figure, path)


def mel_places(
    representation: Representation, hertz: tuple[int, ...] = (100, 300, 1000, 3000)
) -> dict[int, float]:
    """Return the positions of frequencies on the mel axis, in bands from its low end."""
    low, high = representation.fmin, representation.fmax
    centres = mel_frequencies(representation.n_mels + 2, low, high)[1:-1]
    places = np.interp(hertz, centres, np.arange(len(centres)) + 0.5)
    return {h: float(p) for h, p in zip(hertz, places, strict=True) if low < h < high}


def image(values: np.ndarray, low: float, high: float, colours: str = "magma") -> bytes:
    """Return `[frames, mel]` as a PNG, one pixel per value, time to the right, low bands below."""
    from PIL import Image

    index = np.clip((values - low) / (high - low), 0, 1) * 255
    picture = Image.fromarray(np.rint(index).astype(np.uint8).T[::-1])
    palette = plt.get_cmap(colours)(np.arange(256), bytes=True)[:, :3]
    picture.putpalette(palette.tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
