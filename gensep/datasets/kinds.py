"""Examples by the name of their data: the table of the kinds of data."""

from collections.abc import Callable
from typing import NamedTuple

from gensep.datasets.examples import Examples, Options, Request, Selection
from gensep.datasets.image_examples import open_image_examples, read_image_examples
from gensep.datasets.images import SETS
from gensep.datasets.spectrogram_examples import open_spectrograms, read_spectrograms


class Kind(NamedTuple):
    """A kind of data: which names are its own, and how its examples are read."""

    knows: Callable[[str], bool]  # name of the data -> whether they are of this kind
    open: Callable[[Options], Examples]  # options of a training command -> varied examples
    read: Callable[[str, Request], Selection]  # name of the data -> some unvaried examples


# the first kind that knows a name reads the data
KINDS: dict[str, Kind] = {
    "images": Kind(SETS.__contains__, open_image_examples, read_image_examples),
    "spectrograms": Kind(lambda name: True, open_spectrograms, read_spectrograms),  # any folder
}


def kind_of(data: str) -> Kind:
    """Return the kind of the data set `data`: a set of images by name, or a folder."""
    return next(kind for kind in KINDS.values() if kind.knows(data))


def open_examples(c: Options) -> Examples:
    """Open the data set `c.data` of a training command, or raise UserError if there is none."""
    return kind_of(c.data).open(c)


def read_examples(data: str, request: Request) -> Selection:
    """Read unvaried examples of a data set in model units.

    Raises:
        UserError: if there is no such data set, or its examples are not of the form asked for.
    """
    return kind_of(data).read(data, request)
