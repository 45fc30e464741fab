"""Rows of images."""

from pathlib import Path

import numpy as np

from gensep.plots.figure import grid, head, save


def plot_images(path: Path, rows: dict[str, np.ndarray]) -> None:
    """Draw rows of images `[n, height, width, channels]`, 0 to 1, under their titles."""
    columns = max(len(images) for images in rows.values())
    figure, axes = grid(len(rows), columns, 1.1, 1.3)
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, images, strict=False):
            axis.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1)
        head(line[0], title)
    save(figure, path)
