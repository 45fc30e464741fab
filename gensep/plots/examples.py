"""Rows of examples of any form: the one table of how each is drawn."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gensep.plots.images import plot_images
from gensep.plots.spectrograms import plot_windows
from gensep.representation.form import Form

# `picture` of a form -> draw rows of examples
PICTURES: dict[str, Callable[[Path, dict[str, np.ndarray]], None]] = {
    "images": plot_images,
    "spectrograms": plot_windows,
}


def plot_examples(path: Path, rows: dict[str, np.ndarray], form: Form) -> None:
    """Draw rows of examples `[n, ...]` of a form under their titles."""
    PICTURES[form.picture](path, rows)
