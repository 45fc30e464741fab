"""Rows of images."""

from pathlib import Path

import numpy as np

from gensep.plots.figure import head, plt, save


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
        head(line[0], title)
    save(figure, path)
