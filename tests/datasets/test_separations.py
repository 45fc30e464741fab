"""The files of a separation are read as they were written, or refused in one line."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from gensep.audio.excerpt import Excerpt
from gensep.datasets.separations import (
    FILE,
    read_deviations,
    read_separation,
    read_uncertainty,
    write_separation,
    write_uncertainty,
)
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of a separation."""

    start: float = 0.0
    """Seconds to skip."""
    duration: float | None = None
    """Seconds to separate."""


def written(folder, c=None, **facts):
    about = {"mixture": "in/mix.wav", "stems": ["low.wav", "high.flac"], **facts}
    write_separation(folder, c or Config(), about)
    return folder


def test_what_is_written_is_read(tmp_path):
    mel = Representation(n_mels=48)
    written(tmp_path, Config(start=0.5, duration=2.0), representation=dataclasses.asdict(mel))
    found = read_separation(tmp_path)
    assert found.stems == {"low": tmp_path / "low.wav", "high": tmp_path / "high.flac"}
    assert found.mixture == Excerpt(Path("in/mix.wav"), 0.5, 2.0)
    assert found.representation == mel
    assert found.options == {"start": 0.5, "duration": 2.0}
    assert {"command", "versions", "commit"} <= set(found.record)
    assert read_separation(tmp_path, "there").mixture.path == Path("there/in/mix.wav")
    # a record may say itself where its paths start
    written(tmp_path, root="..")
    found = read_separation(tmp_path, "there")
    assert found.mixture == Excerpt(tmp_path / "../in/mix.wav")
    assert found.root == tmp_path / ".."


def test_records_of_something_else_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no .*; give a folder that gensep.basis wrote"):
        read_separation(tmp_path)
    good = {"mixture": "m.wav", "stems": ["a.wav"], "options": {"start": 1}}
    (tmp_path / FILE).write_text(json.dumps(good))
    assert read_separation(tmp_path).mixture == Excerpt(Path("m.wav"), 1.0)
    for change in ({"mixture": 3}, {"stems": []}, {"stems": 3}, {"options": {"start": "soon"}}):
        (tmp_path / FILE).write_text(json.dumps(good | change))
        with pytest.raises(UserError, match="is no record of gensep.basis") as error:
            read_separation(tmp_path)
        assert "\n" not in str(error.value)


def arrays(*names, probabilities=3):
    rng = np.random.default_rng(0)
    shapes = {n: (probabilities, 2, 7, 5) if "quantiles" in n else (2, 7, 5) for n in names}
    return {name: rng.uniform(-9, 9, shape) for name, shape in shapes.items()}


def test_uncertainties_come_back(tmp_path):
    assert read_uncertainty(tmp_path) == read_deviations(tmp_path) == {}
    for prefixes in (("",), ("", "judged_")):
        values = arrays(
            *(f"{p}{n}" for p in prefixes for n in ("mean_db", "sd_db", "quantiles_db"))
        )
        write_uncertainty(tmp_path, ("low", "high"), values, (0.1, 0.5, 0.9))
        found = read_uncertainty(tmp_path)
        assert found.keys() == {*values, "names", "probabilities"}
        for name, value in values.items():
            np.testing.assert_array_equal(found[name], value.astype(np.float16), err_msg=name)
            assert found[name].dtype == np.float32
        np.testing.assert_allclose(found["probabilities"], (0.1, 0.5, 0.9), rtol=1e-6)
        deviations = read_deviations(tmp_path)
        assert list(deviations) == found["names"].tolist() == ["low", "high"]
        np.testing.assert_array_equal(list(deviations.values()), found["sd_db"])
    # files of earlier versions
    np.savez(tmp_path / "uncertainty.npz", sd_db=np.ones((2, 7, 5)), names=["low", "high"])
    assert read_uncertainty(tmp_path).keys() == {"sd_db", "names"}


def test_damaged_uncertainties_are_refused(tmp_path):
    path = tmp_path / "uncertainty.npz"
    good = {"names": ["low", "high"], "probabilities": [0.1, 0.5, 0.9]}
    good |= arrays("mean_db", "sd_db", "quantiles_db")
    np.savez(path, **good)
    for content in (b"", b"PK no archive", path.read_bytes()[:100]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="holds no uncertainty"):
            read_deviations(tmp_path)
    for name, value in (
        ("names", ["low"]),
        ("probabilities", [0.5]),
        ("mean_db", np.zeros((2, 6, 5))),
        ("sd_db", np.zeros((7, 5))),
        ("quantiles_db", np.zeros((2, 7, 5))),
        ("judged_sd_db", np.zeros((2, 7, 4))),
        ("sd_db", None),
        ("probabilities", None),
    ):
        wrong = {k: v for k, v in (good | {name: value}).items() if v is not None}
        np.savez(path, **wrong)
        with pytest.raises(UserError, match="holds no uncertainty") as error:
            read_uncertainty(tmp_path)
        assert "\n" not in str(error.value)
