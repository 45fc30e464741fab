"""A matplotlib figure written to disk, drawn without a display."""

from pathlib import Path

import matplotlib
import numpy as np

from gensep.runtime.files import atomic

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically, and close it."""
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def head(axis: Axes, title: str) -> None:
    """Write the title of a row above its first panel without widening the panel."""
    axis.set_title(" ", fontsize=10)  # reserves the height
    axis.text(0, 1.03, title, transform=axis.transAxes, fontsize=10).set_in_layout(False)


def grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """Return a figure and its hidden axes `[rows, columns]`, `width` by `height` inches each."""
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes
