"""Sets of small images, read from files in their usual formats, or downloaded on demand.

A folder is searched for the file names of all known formats; TensorFlow is not needed. The last
`valid` images of the training files are held out for validation.
"""

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.datasets import image_files
from gensep.datasets.image_files import (
    Arrays,
    Found,
    Shape,
    read_binary,
    read_class_lists,
    read_idx,
    read_sheets,
)
from gensep.runtime.errors import UserError

SPLITS = ("train", "valid", "test")


class ImageSet(NamedTuple):
    """One data set: its shape, its size, and what tells its files from those of another."""

    shape: Shape
    train: int  # images of the training files, including those held out
    valid: int
    test: int
    first_labels: tuple[int, ...]  # of the training files, where their order is fixed
    readers: tuple[Callable[[Path, Shape], Iterator[Found]], ...]
    classes: int = 10


# name as in tensorflow-datasets -> the set; a new set is one row, a new format one reader
SETS: dict[str, ImageSet] = {
    "mnist": ImageSet((28, 28, 1), 60000, 5000, 10000, (5, 0, 4, 1, 9, 2, 1, 3), (read_idx,)),
    "fashion_mnist": ImageSet(
        (28, 28, 1), 60000, 5000, 10000, (9, 0, 0, 3, 0, 2, 7, 2), (read_idx, read_class_lists)
    ),
    "cifar10": ImageSet(
        (32, 32, 3), 50000, 5000, 10000, (6, 9, 9, 4, 1, 1, 2, 7), (read_sheets, read_binary)
    ),
    "digits": ImageSet((8, 8, 1), 1500, 150, 297, (), ()),
}


def load_images(
    name: str,
    split: str,
    data_dir: str | os.PathLike | None = None,
    *,
    download: bool = False,
    sets: dict[str, ImageSet] = SETS,
) -> Arrays:
    """Load a split as uint8 `[n, height, width, channels]` and integer labels `[n]`.

    The files lie in `data_dir` at any depth, or are downloaded into it by tensorflow-datasets;
    "digits" comes with scikit-learn and needs no folder.

    Raises:
        UserError: for an unknown name or split, or if no complete set is found.
    """
    if name not in sets or split not in SPLITS:
        expected = f"one of {', '.join(sets)} and one of {', '.join(SPLITS)}"
        raise UserError(f"expected {expected}, not '{name}' and '{split}'")
    known = sets[name]
    found = _find(name, known, Path(data_dir) if data_dir else None, download=download)
    cut = known.train - known.valid
    part = {"train": slice(0, cut), "valid": slice(cut, None), "test": slice(None)}[split]
    images, labels = found.test if split == "test" else found.train
    return images[part], labels[part].astype(np.int64)


@lru_cache(maxsize=1)
def _find(name: str, known: ImageSet, folder: Path | None, *, download: bool) -> Found:
    if name == "digits":
        return image_files.bundled_digits(known.train)
    if folder and not folder.is_dir() and not download:
        remedy = f"--data_dir names the one with the files of {name}"
        raise UserError(f"there is no folder {folder}; {remedy}")
    wrong = []
    for found in _candidates(name, known, folder, download=download):
        problem = _problem(found, known)
        if problem is None:
            return found
        wrong.append(problem)
    seen = f" (found similar files, but {'; '.join(wrong)})" if wrong else ""
    where = f"under {folder}" if folder else "without a folder"
    remedy = f"give --data_dir the folder with {image_files.EXPECTED[name]}"
    remedy += ", or --download to get it by tensorflow-datasets"
    raise UserError(f"no complete {name} {where}{seen}; {remedy}")


def _candidates(
    name: str, known: ImageSet, folder: Path | None, *, download: bool
) -> Iterator[Found]:
    """Yield what the readers find in the folder, then what is downloaded."""
    if folder and folder.is_dir():
        for reader in known.readers:
            yield from reader(folder, known.shape)
    if download:
        yield image_files.fetch(name, folder)


def _problem(found: Found, known: ImageSet) -> str | None:
    """Return what is wrong with the arrays of a set, or None."""
    sizes = {"training": known.train, "test": known.test}
    for (images, labels), (what, n) in zip(found[:2], sizes.items(), strict=True):
        shape = [n, *known.shape]
        if list(images.shape) != shape or images.dtype != np.uint8:
            return f"its {what} images are {images.dtype} {list(images.shape)}, not uint8 {shape}"
        if labels.shape != (n,) or labels.min() < 0 or labels.max() >= known.classes:
            return f"its {what} labels are not {n} numbers below {known.classes}"
    first = found.train[1][: len(known.first_labels)].tolist()
    if found.ordered and first != list(known.first_labels):
        return f"its training labels begin with {first}, not {list(known.first_labels)}"
    return None
