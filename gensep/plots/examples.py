"""Rows of examples of any form: the one table of how each is drawn."""

from pathlib import Path

import numpy as np

from gensep.plots.figure import Axes, grid, head, save


def _image(axis: Axes, x: np.ndarray) -> None:
    axis.imshow(np.clip(x, 0, 1), cmap="gray", vmin=0, vmax=1)


def _spectrogram(axis: Axes, x: np.ndarray) -> None:
    axis.imshow(x.T, origin="lower", aspect="auto", cmap="magma", vmin=-1, vmax=1.2)


# `picture` of a form -> width and height of a panel in inches, how an example is drawn
PICTURES = {"images": (1.1, 1.3, _image), "spectrograms": (1.6, 2.3, _spectrogram)}


def plot_examples(path: Path, rows: dict[str, np.ndarray], picture: str) -> None:
    """Draw rows of examples `[n, ...]` in model units under their titles."""
    width, height, show = PICTURES[picture]
    columns = max(len(examples) for examples in rows.values())
    figure, axes = grid(len(rows), columns, width, height)
    for line, (title, examples) in zip(axes, rows.items(), strict=True):
        for axis, example in zip(line, examples, strict=False):
            show(axis, example)
        head(line[0], title)
    save(figure, path)
