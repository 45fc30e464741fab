"""Forms: what a prior's examples mean, behind one protocol and in one table."""

import dataclasses

import numpy as np
import pytest

from gensep.plots.examples import PICTURES
from gensep.representation.form import FORMS, is_sound
from gensep.representation.image import ImageForm
from gensep.representation.mel import Representation

MEL, IMAGES = Representation(n_mels=24, span_db=20.0), ImageForm("digits", 8, 6, 3)
BOTH = pytest.mark.parametrize("form", [MEL, IMAGES])


@BOTH
def test_the_table_makes_a_form_from_what_files_store(form):
    assert {type(made) for made in (MEL, IMAGES)} == set(FORMS.values())
    assert FORMS[form.key](**dataclasses.asdict(form)) == form
    assert form.picture in PICTURES
    assert hash(form) == hash(dataclasses.replace(form))


def test_headers_hold_the_fields_of_a_form_and_nothing_else():
    assert dataclasses.asdict(IMAGES) == dict(name="digits", height=8, width=6, channels=3)
    assert list(dataclasses.asdict(MEL))[-4:] == ["floor_db", "center_db", "span_db", "level_db"]


@BOTH
def test_the_last_axis_of_an_example_are_its_features(form):
    assert form.shape(7)[-1] == form.features
    assert (form.shape(7) != form.shape(8)) == form.audible == is_sound(form)
    assert form.describe().startswith(form.picture)


def test_log_densities_in_the_unit_of_the_data():
    """A change of variables y = s x moves a log density by ln s per dimension."""
    nats = np.array([-1.0, 0.5])
    np.testing.assert_allclose(MEL.in_unit(nats), nats + np.log(20))
    np.testing.assert_allclose(IMAGES.in_unit(nats), (nats + np.log(256)) / np.log(2))
    assert (MEL.describe_noise(0.1), IMAGES.describe_noise(0.1)) == ("2.00 dB", "25.60 of 255")


def test_pixels_are_encoded_in_the_middle_of_their_cell_or_filled():
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(IMAGES.encode(pixels), (pixels + 0.5) / 256)
    np.testing.assert_array_equal(np.floor(256 * IMAGES.encode(pixels, np.full(256, 0.9))), pixels)
