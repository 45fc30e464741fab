"""Open training examples by the name of the data: the one table of their kinds."""

from typing import Any

from gensep.datasets.examples import Examples


def open_examples(c: Any) -> Examples:
    """Open the data set `c.data` of a training config: a known set of images, or a folder.

    Raises:
        UserError: if there is none, or it is not what this version reads.
    """
    from gensep.datasets.image_examples import open_image_examples
    from gensep.datasets.images import SETS
    from gensep.datasets.spectrogram_examples import open_spectrograms

    if c.data in SETS:
        return open_image_examples(c)
    return open_spectrograms(c)
