"""The separation of a file as a notebook calls it, and the parts that need no JAX."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from basis import Gaussian
from gensep.audio.excerpt import Excerpt
from gensep.datasets.separations import read_separation
from gensep.priors.files import LoadedPrior
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.separation.run import Outputs, separate_file
from gensep.separation.separate import Posterior, assemble, make_settings, separate

pytestmark = pytest.mark.usefixtures("hasty")

FORM = Representation(n_fft=256, hop_length=128, n_mels=6)
QUICK = {"steps": 3, "samples": 2, "window": 32, "block": 64}


@pytest.fixture(scope="module")
def priors():
    means = np.linspace(-0.5, 0.5, 6, dtype=np.float32)
    levels = jnp.array([2.0, 0.02])
    return [
        LoadedPrior(name, Gaussian(jnp.asarray(mean), jnp.full(6, 0.1), levels), FORM, {})
        for name, mean in (("low", -means), ("high", means))
    ]


def test_a_file_is_separated_without_a_command(priors, tmp_path):
    wave = 0.1 * np.random.default_rng(0).normal(size=(12_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "m.wav", wave, 16000, subtype="FLOAT")
    excerpt = Excerpt(tmp_path / "m.wav", 0.25, 0.25)
    outputs = Outputs(save_masks=True, picture=False)
    method = Posterior(assemble(priors), make_settings("default", QUICK), uncertainty=True)
    done = separate_file(excerpt, method, tmp_path / "out", outputs)
    assert [stem.name for stem in done.stems] == ["low.wav", "high.wav"]
    # the same numbers as those of the call with arrays
    expected = separate(wave[4000:8000].T, 16000, priors=priors, **QUICK)
    for stem in done.stems:
        written = soundfile.read(stem, dtype="float32")[0]
        np.testing.assert_array_equal(written, expected[stem.stem].T)
    assert done.masks.uncertainty.energy_db.shape == (2, 2)
    assert sorted(p.name for p in done.folder.iterdir()) == [
        "high.wav",
        "low.wav",
        "masks.npz",
        "separation.json",
        "uncertainty.npz",
        "uncertainty.png",
    ]
    found = read_separation(done.folder)
    assert found.mixture == excerpt
    assert found.representation == FORM
    record = json.loads((done.folder / "separation.json").read_text())
    assert "command" not in record
    assert record["settings"]["steps"] == 3
    assert record["options"]["save_masks"] is True
    assert set(record["versions"]) >= {"jax", "numpy"}


def test_what_cannot_be_written_leaves_no_folder(priors, tmp_path):
    soundfile.write(tmp_path / "m.wav", np.zeros(3000), 16000)
    method = Posterior(assemble(priors), make_settings("default", QUICK))
    excerpt = Excerpt(tmp_path / "m.wav")
    for outputs, words in (
        (Outputs(ext="doc"), "no audio format"),
        (Outputs(reference=str(tmp_path)), "no reference low"),
    ):
        with pytest.raises(UserError, match=words):
            separate_file(excerpt, method, tmp_path / "a" / "b", outputs)
        assert not (tmp_path / "a").exists()


def test_tables_of_samplers_and_presets_need_no_jax():
    code = (
        "import sys\n"
        "from gensep.separation.judges import JUDGES\n"
        "from gensep.separation.samplers import SAMPLERS\n"
        "from gensep.separation.settings import PRESETS, Settings\n"
        "from gensep.images.settings import IMAGE_PRESETS, ImageSettings\n"
        "Settings(), ImageSettings()\n"
        "print([m for m in ('jax', 'numpy', 'basis', 'score') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
