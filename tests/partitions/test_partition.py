"""The file that says which recordings train, validate and test; how it is made from folders."""

import json

import numpy as np
import pytest
import soundfile

from gensep import partition as command
from gensep.audio.excerpt import Excerpt
from gensep.mixtures.kinds import open_mixtures
from gensep.mixtures.options import Drawing
from gensep.partitions.partition import (
    PairedSong,
    Partition,
    Sum,
    read_partition,
    write_partition,
)
from gensep.representation.magnitude import Spectra
from gensep.runtime.errors import UserError

RATE = 8000


def sound(path, seed=0, samples=2000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(seed).normal(0, 0.1, (samples, channels)).astype(np.float32)
    soundfile.write(path, wave, RATE, "FLOAT")
    return wave.T


def touch(folder, *names):
    """Make empty files, where nothing reads the sound."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.wav").touch()


def songs(root, split, count, stems=("bass", "drums", "other", "vocals"), name="song"):
    for i in range(count):
        touch(root / split / f"{name}{i:03d}", "mixture", *stems)


def make(*argv):
    command.main([str(word) for word in argv])


@pytest.fixture
def entry(tmp_path):
    for i, name in enumerate("abcd"):
        sound(tmp_path / f"waves/{name}.wav", i, channels=2)
    song = {"name": "A", "stems": {"x": "waves/a.wav", "y": ["waves/b.wav", "waves/c.wav"]}}
    lists = {
        "mixture": ["waves/d.wav"],
        "x": [30, "waves/c.wav"],
        "y": [{"path": "waves/b.wav", "channel": 1, "start": 0.1, "duration": 0.1}],
    }
    return {
        "sources": ["x", "y"],
        "train_sup": [song],
        "train_unsup": lists,
        "valid": [{"name": "V", "mixture": "waves/d.wav", "stems": {"x": 0, "y": "waves/d.wav"}}],
        "test": [song],
    }


def put(folder, entry):
    path = folder / "p.json"
    path.write_text(json.dumps(entry))
    return path


def test_a_file_is_read_and_written_as_it_was(tmp_path, entry):
    path = put(tmp_path, entry)
    found = read_partition(path)
    a, b, c, d = (Excerpt(tmp_path / f"waves/{name}.wav") for name in "abcd")
    song = PairedSong("A", None, {"x": Sum((a,)), "y": Sum((b, c))})
    part = b._replace(channel=1, start=0.1, duration=0.1)
    assert found == Partition(
        ("x", "y"),
        [song],
        {"mixture": [Sum((d,))], "x": [Sum(silence=30.0), Sum((c,))], "y": [Sum((part,))]},
        [PairedSong("V", Sum((d,)), {"x": Sum(), "y": Sum((d,))})],
        [song],
    )
    assert found.counts() == {"paired": 1, "mixture": 1, "x": 2, "y": 1, "valid": 1, "test": 1}
    write_partition(tmp_path / "deep/er/q.json", found)  # other relative paths, the same sounds
    assert read_partition(tmp_path / "deep/er/q.json") == found
    text = (tmp_path / "deep/er/q.json").read_text()
    assert '"../../waves/a.wav"' in text
    assert str(tmp_path) not in text


def change(entry, keys, value):
    for key in keys[:-1]:
        entry = entry[key]
    if value is None:
        del entry[keys[-1]]
    else:
        entry[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("extra",), 1, "p.json: unknown key extra; known: sources, "),
        (("valid",), None, "p.json: valid is missing; add it"),
        (("valid",), [], r"p.json: valid: expected a list with at least one item, not \[\]"),
        (("train_unsup", "x"), [], "train_unsup.x: expected a list with at least one"),
        (("train_unsup", "x"), None, "train_unsup: x is missing"),
        (("train_unsup", "mixture", 0), 3, r"train_unsup.mixture\[0\]: expected a path, .* not 3"),
        (("train_unsup", "x", 0), -1, r"x\[0\]: expected a number of at least 0, not -1"),
        (("train_unsup", "x", 0), True, r"x\[0\]: expected a number, not true"),
        (("train_unsup", "x", 0), float("inf"), r"x\[0\]: expected a number of at least 0"),
        (("train_unsup", "y", 0, "channel"), 0.5, r"y\[0\].channel: expected a whole number"),
        (("train_unsup", "y", 0, "rate"), 1, r"y\[0\]: unknown key rate; known: path, channel"),
        (("train_sup", 0, "stems", "z"), "a", r"train_sup\[0\].stems: unknown key z; known: x, y"),
        (("train_sup", 0, "stems", "x"), None, r"train_sup\[0\].stems: x is missing"),
        (("train_sup", 0, "stems"), {"x": 1, "y": 2}, "at least one stem that is not silent"),
        (("train_sup", 0, "name"), 5, r"train_sup\[0\].name: expected a text, not 5"),
        (
            ("train_sup", 0, "stems", "x"),
            "no.wav",
            r"sup\[0\].stems.x: there is no file .*no",
        ),
        (("train_sup", 0, "stems", "y", 1), "no.wav", r"stems.y\[1\]: there is no file"),
        (("train_sup", 0), "song", r"train_sup\[0\]: expected an object with name, stems, not"),
        (("sources",), ["mixture"], "sources: expected different names, none of them mixture"),
        (("sources",), ["x", "x"], "sources: expected different names"),
    ],
)
def test_mistakes_are_refused_with_their_place(tmp_path, entry, keys, value, message):
    change(entry, keys, value)
    with pytest.raises(UserError, match=message) as found:
        read_partition(put(tmp_path, entry))
    assert "\n" not in str(found.value)


def test_what_is_no_partition_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot read the partition .*No such file"):
        read_partition(tmp_path / "none.json")
    for text in (b"{", b"\xff\xfe", b"[" * 100_000):
        (tmp_path / "bad.json").write_bytes(text)
        with pytest.raises(UserError, match=r"bad.json is not JSON \(.*gensep.partition"):
            read_partition(tmp_path / "bad.json")
    with pytest.raises(UserError, match=r"p.json: expected an object with sources, .* not \[1\]"):
        read_partition(put(tmp_path, [1]))


def test_paired_songs_are_data_of_separators(tmp_path, entry):
    """Sources with several files are their sum, silent ones are zero, valid songs are whole."""
    path, spectra = put(tmp_path, entry), Spectra(RATE, 2, 256, 64)
    still = {"mix_songs": 0.0, "gain_low": 1.0, "gain_high": 1.0, "swap": 0.0, "seconds": 0.25}
    examples = open_mixtures(Drawing(data=(str(path),), **still), spectra, ("y",))
    assert examples.sources == ("y", "x")
    a, b, c = (sound(tmp_path / "again.wav", i, channels=2) for i in range(3))
    np.testing.assert_allclose(examples.batch(0, 0, 1)[0], [b + c, a], atol=1e-6)
    ((mixture, sources),) = examples.held_out()
    assert mixture.shape == (1, 2, spectra.frames(2000), 129)
    np.testing.assert_array_equal(mixture, sources[:, 0])  # the mixture is the file d
    assert not sources[:, 1].any()
    with pytest.raises(UserError, match="residual is for folders"):
        open_mixtures(Drawing(data=(str(path),), residual="r"), spectra)
    with pytest.raises(UserError, match="expected folders, or one partition"):
        open_mixtures(Drawing(data=(str(path), str(path))), spectra)


def test_files_of_a_song_must_be_alike(tmp_path, entry):
    sound(tmp_path / "waves/b.wav", samples=1000)
    sound(tmp_path / "waves/c.wav", samples=1000)
    with pytest.raises(UserError, match="A: x has 2000 samples at 8000 Hz, y 1000 at 8000"):
        open_mixtures(Drawing(data=(str(put(tmp_path, entry)),)), Spectra(RATE, 1, 256, 64))


def test_dev_is_paired_test_halved_and_other_sets_are_cut_in_thirds(tmp_path, capsys):
    """DSD100 gives 50, 25 and 25 songs; a set without splits a third to each part."""
    for split in ("Dev", "Test"):
        for i in range(50):
            touch(tmp_path / "DSD/Mixtures" / split / f"{split}{i}", "mixture")
            touch(tmp_path / "DSD/Sources" / split / f"{split}{i}", "bass", "drums", "vocals")
    songs(tmp_path / "other", "", 30, ("accompaniment", "voice"), "x")
    make(tmp_path / "DSD", tmp_path / "other", "--output", tmp_path / "p.json")
    found = read_partition(tmp_path / "p.json")
    assert found.counts() == {
        **{"paired": 50, "mixture": 5, "vocals": 5, "accompaniment": 5},
        **{"valid": 25 + 10, "test": 25 + 10},
    }
    assert "| 50     | 5       | 5      | 5             | 35    | 35   |" in capsys.readouterr().out
    assert {song.name[:3] for song in found.train_sup} == {"Dev"}
    song = next(song for song in found.valid if song.name[0] == "T")
    assert [s.path.stem for s in song.stems["accompaniment"].sounds] == ["bass", "drums"]
    assert [s.path.stem for s in song.mixture.sounds] == ["mixture"]
    names = {song.name for part in (found.train_sup, found.valid, found.test) for song in part}
    unpaired = {one.sounds[0].path.parent.name for one in found.train_unsup["mixture"]}
    solos = {one.sounds[0].path.parent.name for one in found.train_unsup["vocals"]}
    assert len(names) == 120
    assert not (names | solos) & unpaired
    assert not names & solos
    assert "voice" in {one.sounds[0].path.stem for one in found.train_unsup["vocals"]}
    make(tmp_path / "DSD", tmp_path / "other", "--disjoint=false", "--output", tmp_path / "p.json")
    counts = read_partition(tmp_path / "p.json").counts()
    assert [counts[x] for x in ("paired", "mixture", "vocals", "accompaniment")] == [50, 10, 10, 10]


def test_shares_are_nested_and_repeat(tmp_path):
    songs(tmp_path / "duo", "train", 40, ("piano", "violin"))
    songs(tmp_path / "duo", "valid", 3, ("piano", "violin"), "v")
    songs(tmp_path / "duo", "test", 5, ("piano", "violin"), "t")
    out = tmp_path / "{seed}/{paired}.json"
    shares = ("--preset", "share", "--paired", 0.05, 0.5, 1, "--seed", 1, 2)
    make(tmp_path / "duo", *shares, "--output", out)
    found = {
        (s, p): read_partition(tmp_path / f"{s}/{p}.json") for s in (1, 2) for p in (0.05, 0.5)
    }
    keys = ("paired", "mixture", "piano", "violin", "valid", "test")
    counts = {key: [x.counts()[name] for name in keys] for key, x in found.items()}
    assert counts[1, 0.05] == counts[2, 0.05] == [2, 19, 19, 19, 3, 5]
    assert counts[1, 0.5] == [20, 10, 10, 10, 3, 5]
    whole = read_partition(tmp_path / "1/1.0.json")  # all songs are paired, and unpaired as well
    assert [whole.counts()[name] for name in keys] == [40, 20, 20, 20, 3, 5]
    small, large, other = (
        {song.name for song in found[key].train_sup} for key in ((1, 0.05), (1, 0.5), (2, 0.5))
    )
    assert small < large
    assert large != other
    text = (tmp_path / "1/0.5.json").read_text()
    make(tmp_path / "duo", *shares, "--output", out)
    assert (tmp_path / "1/0.5.json").read_text() == text
    with pytest.raises(UserError, match="several files need several names"):
        make(tmp_path / "duo", *shares, "--output", tmp_path / "p.json")


def test_songs_without_splits_are_halved_and_quartered(tmp_path):
    songs(tmp_path / "set", "", 8, ("a", "b"))
    make(tmp_path / "set", "--preset", "share", "--output", tmp_path / "p.json")
    counts = read_partition(tmp_path / "p.json").counts()
    assert counts == {"paired": 2, "mixture": 1, "a": 1, "b": 1, "valid": 2, "test": 2}


def test_the_folders_of_dssgan_are_read(tmp_path):
    for part, count in (("train_sup", 3), ("train_valid", 2), ("test", 1)):
        for i in range(count):
            touch(tmp_path / "D" / part / f"{part}{i}", "mix", "drums", "acc")
    for name, count in (("mix", 4), ("drums", 5), ("acc", 2)):
        touch(tmp_path / f"D/train_unsup/unsup_{name}", *(f"{name}{i}" for i in range(count)))
    make(tmp_path / "D", "--preset", "dssgan", "--output", tmp_path / "p.json")
    counts = read_partition(tmp_path / "p.json").counts()
    assert counts == {
        **{"paired": 3, "mixture": 4, "drums": 5, "accompaniment": 2},
        **{"valid": 2, "test": 1},
    }


def test_a_source_that_is_missing_is_refused_or_silent(tmp_path):
    for i, stems in enumerate([("drums", "vocals"), ("drums",), ("drums", "vocals")]):
        for name in (*stems, "mixture"):
            sound(tmp_path / f"set/{'train' if i < 2 else 'valid'}/s{i}/{name}.wav")
    given = (tmp_path / "set", "--preset", "share", "--paired", 1, "--output", tmp_path / "p.json")
    given += ("--sources", "vocals", "accompaniment", "--disjoint=false")
    with pytest.raises(UserError, match=r"s1 has no stem vocals \(it has drums\); see --rest"):
        make(*given)
    make(*given, "--missing", "silence")
    found = read_partition(tmp_path / "p.json")
    stems = {song.name: song.stems for song in found.train_sup}
    assert stems["s1"]["vocals"] == Sum(silence=2000 / RATE)
    assert found.counts()["vocals"] == 1
    assert found.counts()["accompaniment"] == found.counts()["mixture"] == 2
    with pytest.raises(UserError, match="--rest must be one of the sources"):
        make(*given, "--rest", "other")
    with pytest.raises(UserError, match="expects STEM=SOURCE, not x"):
        make(*given, "--rename", "x")
    with pytest.raises(UserError, match="no songs are left for the part paired"):
        make(tmp_path / "set/train", "--output", tmp_path / "p.json")
