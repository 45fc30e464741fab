"""Examples by the name of their data."""

import jax.numpy as jnp
import numpy as np
import pytest

from gensep.datasets.examples import Request
from gensep.datasets.images import SETS, load_images
from gensep.datasets.kinds import KINDS, kind_of, read_examples
from gensep.datasets.spectrograms import write_dataset
from gensep.representation.image import ImageForm
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError

MEL = Representation(n_fft=512, hop_length=256, n_mels=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a data set of spectrograms with one track per split."""
    path, rng = tmp_path_factory.mktemp("kinds") / "data", np.random.default_rng(0)
    tracks = {s: [(s, rng.integers(-3000, 2000, (40, 5)).astype(np.int16))] for s in KINDS}
    write_dataset(path, dict(zip(("valid", "train"), tracks.values(), strict=True)), MEL)
    return str(path)


def test_names_of_sets_are_images_and_others_folders():
    assert all(kind_of(name) is KINDS["images"] for name in SETS)
    assert kind_of("data/mnist") is KINDS["spectrograms"]


def test_images_are_chosen_by_the_seed_and_dequantised_where_asked():
    pytest.importorskip("sklearn")
    known = {image.tobytes() for image in load_images("digits", "train")[0]}
    middle = read_examples("digits", Request(6, split="train"))
    assert middle.form == ImageForm("digits", 8, 8, 1)
    assert middle.x.dtype == np.float32
    filled = read_examples("digits", Request(6, split="train", dequantise=True)).x
    pixels = np.floor(256 * middle.x)
    np.testing.assert_array_equal(256 * middle.x - pixels, 0.5)
    np.testing.assert_array_equal(np.floor(256 * filled), pixels)
    assert np.ptp(256 * filled - pixels) > 0.9
    assert {image.tobytes() for image in pixels.astype(np.uint8)} <= known
    assert (read_examples("digits", Request(6, 1, "train")).x != middle.x).any()
    assert (read_examples("digits", Request(6)).x != middle.x).any()  # of the test split


def test_windows_are_encoded_in_the_form_asked_for(folder):
    own = read_examples(folder, Request(4, frames=8))
    assert own.form == MEL
    assert own.x.shape == (4, 8, 5)
    other = Representation(n_fft=512, hop_length=256, n_mels=5, floor_db=0.0, span_db=10.0)
    found = read_examples(folder, Request(4, frames=8, form=other))
    assert found.form == other
    np.testing.assert_allclose(
        other.decode(jnp.asarray(found.x)), MEL.decode(jnp.asarray(own.x)), rtol=1e-4, atol=1e-4
    )


def test_examples_of_another_form_are_refused(folder):
    pytest.importorskip("sklearn")
    for data, form, words in (
        (folder, ImageForm("digits", 8, 5, 1), "holds spectrograms of 5 mel bands, not images of"),
        (folder, Representation(n_fft=512, hop_length=256, n_mels=6), "has n_mels = 5"),
        ("digits", MEL, "holds images of 8 x 8 x 1, the prior is of spectrograms of 5"),
        ("digits", ImageForm("x", 8, 8, 3), "the prior is of images of 8 x 8 x 3"),
    ):
        with pytest.raises(UserError, match=words):
            read_examples(data, Request(4, frames=8, form=form))
