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
from gensep.datasets.image_files import Arrays, Found
from gensep.runtime.errors import UserError

SPLITS = ("train", "valid", "test")


class ImageSet(NamedTuple):
    """One data set: its shape, its size, and what tells its files from those of another."""

    shape: tuple[int, int, int]  # height, width, channels
    train: int  # images of the training files, including those held out
    valid: int
    test: int
    first_labels: tuple[int, ...]  # of the training files, where their order is fixed
    readers: tuple[Callable[[Path, tuple[int, int, int]], Iterator[Found]], ...]
    classes: tuple[str, ...]


DIGITS = tuple("0123456789")

CLOTHES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# name as in tensorflow-datasets -> the set; a new set is one row, a new format one reader
SETS: dict[str, ImageSet] = {
    "mnist": ImageSet(
        (28, 28, 1), 60000, 5000, 10000, (5, 0, 4, 1, 9, 2, 1, 3), (image_files.read_idx,), DIGITS
    ),
    "fashion_mnist": ImageSet(
        (28, 28, 1),
        60000,
        5000,
        10000,
        (9, 0, 0, 3, 0, 2, 7, 2),
        (image_files.read_idx, image_files.read_class_lists),
        CLOTHES,
    ),
    "cifar10": ImageSet(
        (32, 32, 3),
        50000,
        5000,
        10000,
        (6, 9, 9, 4, 1, 1, 2, 7),
        (image_files.read_sheets, image_files.read_binary),
        OBJECTS,
    ),
    "digits": ImageSet((8, 8, 1), 1500, 150, 297, (), (), DIGITS),
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

    Args:
        name: a key of `sets`; "digits" comes with scikit-learn and needs no folder.
        split: "train", "valid" or "test".
        data_dir: folder with the set's files, at any depth.
        download: let tensorflow-datasets download the set into `data_dir` if it is not there.
        sets: the table of sets.

    Raises:
        UserError: for an unknown name or split, or if no complete set is found.
    """
    if name not in sets or split not in SPLITS:
        raise UserError(
            f"expected one of {', '.join(sets)} and one of {', '.join(SPLITS)}, not "
            f"'{name}' and '{split}'"
        )
    known = sets[name]
    folder = Path(data_dir) if data_dir else None
    found = _find(name, known, folder, download=download)
    cut = known.train - known.valid
    part = {"train": slice(0, cut), "valid": slice(cut, None), "test": slice(None)}[split]
    images, labels = found.test if split == "test" else found.train
    return images[part], labels[part].astype(np.int64)


@lru_cache(maxsize=1)
def _find(name: str, known: ImageSet, folder: Path | None, *, download: bool) -> Found:
    if name == "digits":
        return image_files.bundled_digits(known.train)
    if folder and not folder.is_dir() and not download:
        raise UserError(
            f"there is no folder {folder}; --data_dir names the one with the files of {name}"
        )
    wrong = []
    for found in _candidates(known, folder):
        problem = _problem(found, known)
        if problem is None:
            return found
        wrong.append(problem)
    if download:
        found = image_files.fetch(name, folder)
        problem = _problem(found, known)
        if problem is None:
            return found
        wrong.append(problem)
    seen = f" (found similar files, but {'; '.join(wrong)})" if wrong else ""
    where = f"under {folder}" if folder else "without a folder"
    raise UserError(
        f"no complete {name} {where}{seen}; give --data_dir the folder with "
        f"{image_files.EXPECTED[name]}, or --download to get it by "
        "tensorflow-datasets"
    )


def _candidates(known: ImageSet, folder: Path | None) -> Iterator[Found]:
    for reader in known.readers if folder and folder.is_dir() else ():
        assert folder
        yield from reader(folder, known.shape)


def _problem(found: Found, known: ImageSet) -> str | None:
    """Return what is wrong with the arrays of a set, or None."""
    for (images, labels), what, n in (
        (found.train, "training", known.train),
        (found.test, "test", known.test),
    ):
        if images.shape != (n, *known.shape) or images.dtype != np.uint8:
            return (
                f"its {what} images are {images.dtype} {list(images.shape)}, not uint8 "
                f"{[n, *known.shape]}"
            )
        if labels.shape != (n,) or labels.min() < 0 or labels.max() >= len(known.classes):
            return f"its {what} labels are not {n} numbers below {len(known.classes)}"
    first = found.train[1][: len(known.first_labels)].tolist()
    if found.ordered and first != list(known.first_labels):
        return f"its training labels begin with {first}, not {list(known.first_labels)}"
    return None
