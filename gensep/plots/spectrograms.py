"""Spectrograms of whole files, their uncertainty, and the residual of a sampler."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gensep.plots.figure import plt, save
from gensep.representation.mel import Representation
from gensep.representation.stft import mel_frequencies


def plot_spectrograms(path: Path, panels: dict[str, np.ndarray], form: Representation) -> None:
    """Draw mel powers `[frames, mel]` under their names, on one scale 70 dB deep."""

    def in_db(power: np.ndarray) -> np.ndarray:
        return 10 * np.log10(np.maximum(power, 1e-10))

    top = max(in_db(_shorter(power)).max() for power in panels.values())
    _plot_panels(path, panels, form, in_db, (top - 70, top), "magma")


def plot_magnitudes(path: Path, panels: dict[str, np.ndarray], rate: int) -> None:
    """Draw STFT magnitudes `[frame, bin]` at `rate` Hz under their names, 70 dB deep.

    Frequencies are linear; panels stand in two columns.
    """
    rows = -(-len(panels) // 2)
    figure, axes = plt.subplots(
        rows, 2, figsize=(11, 2.2 * rows), squeeze=False, layout="constrained"
    )
    levels = {n: 20 * np.log10(np.maximum(x, 1e-6)) for n, x in panels.items()}
    top = max(level.max() for level in levels.values())
    norm = plt.Normalize(top - 70, top)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (name, level) in zip(axes.flat, levels.items(), strict=False):
        box = 0, len(level), 0, rate / 2000
        shown = axis.imshow(level.T, "magma", norm, origin="lower", aspect="auto", extent=box)
        axis.set_title(name, loc="left", fontsize=10)
        axis.set(xlabel="frame", ylabel="kHz")
    figure.colorbar(shown, ax=axes, label="dB", shrink=0.6)
    save(figure, path)


def plot_uncertainty(path: Path, panels: dict[str, np.ndarray], form: Representation) -> None:
    """Draw standard deviations `[frames, mel]` of levels, in dB, under their names."""
    title = "standard deviation over posterior samples"
    shown = {f"{name}: {title}": deviation for name, deviation in panels.items()}
    _plot_panels(path, shown, form, np.asarray, (0, 20), "viridis")


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


def _shorter(values: np.ndarray, most: int = 2000) -> np.ndarray:
    """Average neighbouring frames of `[frames, mel]` so that at most `most` remain."""
    step = -(-len(values) // most)
    edges = np.arange(0, len(values), step)
    return np.add.reduceat(values, edges) / np.diff(np.append(edges, len(values)))[:, None]


def _plot_panels(
    path: Path,
    panels: dict[str, np.ndarray],
    form: Representation,
    in_db: Callable[[np.ndarray], np.ndarray],
    limits: tuple[float, float],
    colours: str,
) -> None:
    """Draw panels `[frames, mel]` below one another on a common time axis."""
    size = 11, 1 + 2 * len(panels)
    figure, axes = plt.subplots(
        len(panels), 1, figsize=size, sharex=True, squeeze=False, layout="constrained"
    )
    ticks, norm = mel_places(form), plt.Normalize(*limits)
    for axis, (name, values) in zip(axes[:, 0], panels.items(), strict=True):
        box = 0, len(values) * form.hop_length / form.sample_rate, 0, values.shape[1]
        level = in_db(_shorter(values)).T
        shown = axis.imshow(
            level, colours, norm, origin="lower", aspect="auto", extent=box, interpolation="nearest"
        )
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_yticks(list(ticks.values()), [f"{t} Hz" for t in ticks], fontsize=8)
    axes[-1, 0].set_xlabel("seconds")
    figure.colorbar(shown, ax=axes, label="dB", shrink=0.6)
    save(figure, path)


def mel_places(
    form: Representation, hertz: tuple[int, ...] = (100, 300, 1000, 3000)
) -> dict[int, float]:
    """Return the positions of frequencies on the mel axis, in bands from its low end."""
    low, high = form.fmin, form.fmax
    centres = mel_frequencies(form.n_mels + 2, low, high)[1:-1]
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
