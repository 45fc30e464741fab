"""Sets of images: every format from files written here, what is refused, and the pixels' units."""

import gzip
import json
import sys
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from gensep.datasets import image_files
from gensep.datasets import images as images_module
from gensep.datasets.image_examples import ImageExamples
from gensep.datasets.images import SETS, ImageSet, load_images
from gensep.datasets.kinds import open_examples
from gensep.representation.image import ImageForm
from gensep.runtime.errors import UserError

TRAIN, VALID, TEST = 12, 4, 10
GREY, COLOUR = (4, 6, 1), (4, 4, 3)
FIRST = (5, 0, 4)


def tiny(shape, *readers):
    return {"set": ImageSet(shape, TRAIN, VALID, TEST, FIRST, readers)}


def arrays(shape, seed=0):
    """Return (training images, labels), (test images, labels) that no format may change."""
    rng = np.random.default_rng(seed)
    parts = [
        (
            rng.integers(256, size=(n, *shape), dtype=np.uint8),
            rng.integers(10, size=n).astype(np.uint8),
        )
        for n in (TRAIN, TEST)
    ]
    parts[0][1][: len(FIRST)] = FIRST
    return parts


def write_idx(folder, parts, *, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, (images, labels) in zip(("train", "t10k"), parts, strict=True):
        for kind, a in (("images-idx3", images[..., 0]), ("labels-idx1", labels)):
            data = bytes([0, 0, 8, a.ndim]) + np.array(a.shape, ">i4").tobytes() + a.tobytes()
            name = f"{prefix}-{kind}-ubyte" + ".gz" * packed
            (folder / name).write_bytes(gzip.compress(data) if packed else data)


def write_binary(folder, parts):
    (train, labels), test = parts
    for i, part in enumerate([(train[:8], labels[:8]), (train[8:], labels[8:]), test]):
        rows = np.c_[part[1][:, None], part[0].transpose(0, 3, 1, 2).reshape(len(part[0]), -1)]
        name = "test_batch.bin" if i == 2 else f"data_batch_{i + 1}.bin"
        (folder / name).write_bytes(rows.astype(np.uint8).tobytes())


def write_sheets(folder, parts):
    (train, labels), (test, test_labels) = parts
    sheets = {"data_batch_1": train[:8], "data_batch_2": train[8:], "test_batch": test}
    for name, images in sheets.items():
        Image.fromarray(images.reshape(len(images), -1, 3)).save(folder / f"{name}.png")
    (folder / "train_lables.json").write_text(json.dumps(labels.tolist()))
    (folder / "test_labels.json").write_text(json.dumps(test_labels.tolist()))


def check(folder, sets, parts):
    (train, labels), (test, test_labels) = parts
    cut = TRAIN - VALID
    for split, images, truth in (
        ("train", train[:cut], labels[:cut]),
        ("test", test, test_labels),
        ("valid", train[cut:], labels[cut:]),
    ):
        found, found_labels = load_images("set", split, folder, sets=sets)
        np.testing.assert_array_equal(found, images)
        np.testing.assert_array_equal(found_labels, truth)
        assert found.dtype == np.uint8


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_of_the_right_set_are_found_among_others(tmp_path, packed):
    sets, parts = tiny(GREY, image_files.read_idx), arrays(GREY)
    other = arrays(GREY, 1)
    other[0][1][: len(FIRST)] = 9  # another set, under the same names
    write_idx(tmp_path / "a", other)
    write_idx(tmp_path / "deep/er", parts, packed=packed)
    check(tmp_path, sets, parts)


def test_binary_records_and_sheets(tmp_path):
    parts = arrays(COLOUR)
    for reader, write in (
        (image_files.read_binary, write_binary),
        (image_files.read_sheets, write_sheets),
    ):
        folder = tmp_path / write.__name__
        folder.mkdir()
        write(folder, parts)
        check(folder, tiny(COLOUR, reader), parts)


def test_lists_by_class_are_split_once_and_for_all(tmp_path):
    rng = np.random.default_rng(0)
    rows = {c: rng.integers(256, size=(3 if c < 2 else 2, 24)).tolist() for c in range(10)}
    for c, images in rows.items():
        data = [*images[:1], [], *images[1:], []] if c == 0 else images
        (tmp_path / f"{c}.json").write_text(json.dumps({"data": data}))
    sets = tiny(GREY, partial(image_files.read_class_lists, test=1))
    loaded = {
        split: load_images("set", split, tmp_path, sets=sets)
        for split in ("train", "valid", "test")
    }
    test = loaded["test"]
    assert sorted(test[1].tolist()) == list(range(10))
    for image, label in zip(*test, strict=True):
        assert image.ravel().tolist() == rows[label][-1]
    kept = [i.ravel().tolist() for s in ("train", "valid") for i in loaded[s][0]]
    assert sorted(kept) == sorted(i for images in rows.values() for i in images[:-1])
    labels = np.r_[loaded["train"][1], loaded["valid"][1]]
    assert labels.tolist() != sorted(labels.tolist())  # a held-out end has every class in it


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    def refused(words, *args, **options):
        with pytest.raises(UserError, match=words) as caught:
            load_images(*args, **options)
        assert "\n" not in str(caught.value)

    sets, parts = tiny(GREY, image_files.read_idx), arrays(GREY)
    refused("expected one of mnist, fashion_mnist", "minst", "train")
    refused("and one of train, valid, test", "mnist", "dev")
    refused("there is no folder", "mnist", "train", tmp_path / "none")
    refused("no complete mnist without a folder; give --data_dir", "mnist", "train")
    refused("no complete cifar10 under", "cifar10", "train", tmp_path)
    short = [parts[0], tuple(a[:3] for a in parts[1])]
    write_idx(tmp_path / "short", short)
    image_files.EXPECTED["set"] = "files"
    refused(
        r"test images are uint8 \[3, 4, 6, 1\], not uint8 \[10",
        "set",
        "test",
        tmp_path / "short",
        sets=sets,
    )
    cut = tmp_path / "short" / "t10k-images-idx3-ubyte"
    cut.write_bytes(cut.read_bytes()[:-1])
    images_module._find.cache_clear()
    refused("its header says", "set", "test", tmp_path / "short", sets=sets)
    cut.write_bytes(b"<html>")
    refused("is not an idx file", "set", "test", tmp_path / "short", sets=sets)


def test_fetching_tells_what_to_do_where_it_cannot(tmp_path, monkeypatch):
    """The data are asked for by tensorflow-datasets, without TensorFlow."""
    import tensorflow_datasets as tfds

    parts = arrays(GREY)

    class Builder:
        def __init__(self, name, data_dir, file_format):
            assert (name, data_dir, file_format) == ("set", str(tmp_path), "array_record")

        def download_and_prepare(self):
            self.there = True

        def as_data_source(self, split):
            assert self.there
            images, labels = parts[split == "test"]
            return [{"image": i, "label": n} for i, n in zip(images, labels, strict=True)]

    monkeypatch.setattr(tfds, "builder", Builder)
    sets = tiny(GREY)
    found, labels = load_images("set", "test", tmp_path, download=True, sets=sets)
    np.testing.assert_array_equal(found, parts[1][0])
    np.testing.assert_array_equal(labels, parts[1][1])

    def offline(*args, **options):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(tfds, "builder", offline)
    with pytest.raises(UserError, match=r"could not fetch mnist \(no route to host\); put train-"):
        load_images("mnist", "train", tmp_path, download=True)


def test_digits_come_with_scikit_learn(monkeypatch):
    pytest.importorskip("sklearn")
    images, labels = load_images("digits", "train")
    assert images.shape == (1350, 8, 8, 1)
    assert images.max() == 255
    assert labels[:10].tolist() == list(range(10))
    counts = [len(load_images("digits", s)[0]) for s in ("train", "valid", "test")]
    assert counts == [1350, 150, 297]
    images_module._find.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match="pip install scikit-learn"):
        load_images("digits", "train")


def test_pixels_are_dequantised_into_their_cell():
    images = np.arange(256, dtype=np.uint8).reshape(-1, 4, 4, 1)
    examples = ImageExamples(ImageForm("x", 4, 4, 1), images, images[:2])
    a, b = (np.asarray(examples.inputs(jax.random.key(k), images)) for k in (0, 1))
    for x in (a, b):
        np.testing.assert_array_equal(np.floor(x * 256), images)
    u = a * 256 - images
    assert (a != b).mean() > 0.9
    assert u.mean() == pytest.approx(0.5, abs=0.06)
    assert u.std() == pytest.approx(12**-0.5, rel=0.1)
    np.testing.assert_array_equal(examples.held_out(), examples.held_out())


def test_a_batch_depends_on_seed_and_step_only():
    pytest.importorskip("sklearn")
    c = SimpleNamespace(data="digits", data_dir=None, download=False, valid_windows=20)
    examples = open_examples(c)
    np.testing.assert_array_equal(examples.batch(3, 5, 8), examples.batch(3, 5, 8))
    assert (examples.batch(3, 6, 8) != examples.batch(3, 5, 8)).any()
    assert (examples.batch(4, 5, 8) != examples.batch(3, 5, 8)).any()
    assert examples.held_out().shape == (20, 8, 8, 1)
    assert examples.form == ImageForm("digits", 8, 8, 1)


def test_the_table_agrees_with_what_can_be_read():
    for name, known in SETS.items():
        assert name == "digits" or name in image_files.EXPECTED
        assert known.valid < known.train
        assert len(known.shape) == 3
