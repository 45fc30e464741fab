"""Spectrograms: windows, whole files, uncertainty, and how a sampler meets the mixing law."""

import io
from pathlib import Path

import numpy as np

from gensep.plots.figure import head, plt, save


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
        head(line[0], title)
    save(figure, path)


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
    from gensep.representation.stft import mel_frequencies

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
