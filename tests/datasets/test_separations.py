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
    write_deviations,
    write_separation,
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


def test_deviations_come_back(tmp_path):
    assert read_deviations(tmp_path) == {}
    values = np.random.default_rng(0).uniform(0, 9, (2, 7, 5))
    write_deviations(tmp_path, ("low", "high"), values)
    found = read_deviations(tmp_path)
    assert list(found) == ["low", "high"]
    np.testing.assert_array_equal(list(found.values()), values.astype(np.float16))
    assert found["low"].dtype == np.float32
    for content in (b"", b"PK no archive", (tmp_path / "uncertainty.npz").read_bytes()[:100]):
        (tmp_path / "uncertainty.npz").write_bytes(content)
        with pytest.raises(UserError, match="holds no uncertainty"):
            read_deviations(tmp_path)
