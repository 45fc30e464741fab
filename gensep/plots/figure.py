"""A matplotlib figure written to disk, drawn without a display."""

from pathlib import Path
from typing import Any

import matplotlib

from gensep.runtime.files import atomic

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG, atomically, and close it."""
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def head(axis: Any, title: str) -> None:
    """Write the title of a row over its first panel, which it must not widen."""
    axis.set_title(" ", fontsize=10)  # keeps the height free
    axis.text(0, 1.03, title, transform=axis.transAxes, fontsize=10).set_in_layout(False)
