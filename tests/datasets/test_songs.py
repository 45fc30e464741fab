"""Songs are found in every layout, with the right sound behind each name."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from gensep.audio import excerpt as excerpt_module
from gensep.audio.excerpt import Excerpt
from gensep.datasets.layouts import LAYOUTS, STREAMS, find_songs
from gensep.runtime.errors import UserError

RATE = 8000


def put(path, value, channels=1, samples=800):
    """Write a file whose samples all are `value` (channel c: value + c / 10)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.full((samples, channels), value) + np.arange(channels) / 10
    soundfile.write(path, wave, RATE, **({"subtype": "FLOAT"} if path.suffix == ".wav" else {}))


def heard(excerpt):
    """Return the value that `put` wrote."""
    wave, rate = excerpt.read()
    assert rate == RATE
    assert wave.dtype == np.float32
    return round(float(np.median(wave[0])), 3)


def values(song):
    return {name: heard(stem) for name, stem in song.stems.items()}


def hq(root):
    for split, song, base in (("train", "B", 0.1), ("train", "A", 0.2), ("test", "A", 0.3)):
        for i, name in enumerate(("mixture", "vocals", "bass")):
            put(root / split / song / f"{name}.wav", base + i / 100)
        (root / split / song / "cover.png").write_bytes(b"no picture")
        (root / split / song / "notes.json").write_text("{}")
        (root / split / song / ".vocals2.wav").write_bytes(b"dot file")


def test_musdb_hq_tree(tmp_path):
    hq(tmp_path)
    songs = find_songs(tmp_path)
    assert [(s.split, s.name) for s in songs] == [("test", "A"), ("train", "A"), ("train", "B")]
    assert songs == find_songs(tmp_path, "musdb_hq") == find_songs(tmp_path, "tree")
    assert values(songs[0]) == {"bass": 0.32, "vocals": 0.31}
    assert list(songs[0].stems) == ["bass", "vocals"]
    assert heard(songs[0].mixture) == 0.3
    assert find_songs(tmp_path, split="test") == songs[:1]
    assert [s.name for s in find_songs(tmp_path / "train")] == ["A", "B"]
    only = find_songs(tmp_path, split="train", stems=["vocals"])
    assert [list(s.stems) for s in only] == [["vocals"], ["vocals"]]


def test_flat_song_in_other_formats_and_without_mixture(tmp_path):
    put(tmp_path / "song" / "a.flac", 0.25)
    put(tmp_path / "song" / "b.OGG", 0.125)
    put(tmp_path / "song" / "c.mp3", 0.0625)
    put(tmp_path / "song" / "c.wav", 0.5)  # the wav is preferred
    (song,) = find_songs(tmp_path / "song")
    assert song.name == "song"
    assert song.mixture is None
    assert song.stems["c"].path.suffix == ".wav"
    assert values(song) == pytest.approx({"a": 0.25, "b": 0.125, "c": 0.5}, abs=0.02)
    stems, mixture = song.to_disk()
    assert song.shape().rate == RATE
    assert mixture.shape[0] == 1
    np.testing.assert_array_equal(mixture[..., :], stems[..., :].sum(0, keepdims=True))
    put(tmp_path / "song" / "mix.wav", 0.75)
    assert heard(find_songs(tmp_path / "song", "flat")[0].mixture) == 0.75
    # one folder up the same song is a tree's
    assert find_songs(tmp_path) == find_songs(tmp_path / "song")


def test_parts_are_read_alike_from_files_and_channels(tmp_path):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (1000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", wave, RATE, subtype="FLOAT")
    whole = Excerpt(tmp_path / "x.wav")
    part, _ = whole.part(0.025, 0.05).read()
    np.testing.assert_array_equal(part, wave[200:600].T)
    right, _ = Excerpt(tmp_path / "x.wav", 0.025, channel=1).read()
    np.testing.assert_array_equal(right, wave[200:, 1:].T)
    assert Excerpt(tmp_path / "x.wav", channel=1).shape() == (RATE, 1, 1000)
    with pytest.raises(UserError, match="has 2 channels where channel 3"):
        Excerpt(tmp_path / "x.wav", channel=2).shape()


def test_dsd100(tmp_path):
    for name, value in (("bass", 0.1), ("drums", 0.2)):
        put(tmp_path / f"Sources/Test/001 - X - Y/{name}.wav", value)
        put(tmp_path / f"Sources/Dev/002 - X - Z/{name}.wav", value)
    put(tmp_path / "Mixtures/Test/001 - X - Y/mixture.wav", 0.3)
    dev, test = find_songs(tmp_path)
    assert (dev.name, dev.split, dev.mixture) == ("002 - X - Z", "Dev", None)
    assert values(test) == {"bass": 0.1, "drums": 0.2}
    assert heard(test.mixture) == 0.3
    put(tmp_path / "Mixtures/Test/003 - only/mixture.wav", 0.3)
    with pytest.raises(UserError, match="003 - only .* has no stems"):
        find_songs(tmp_path)


def test_ikala_channels(tmp_path):
    put(tmp_path / "Wavfile/10161_verse.wav", 0.2, channels=2)
    (tmp_path / "PitchLabel").mkdir()
    (song,) = find_songs(tmp_path)
    assert values(song) == {"accompaniment": 0.2, "voice": 0.3}
    mixture = song.to_disk()[1][..., :]
    assert mixture.shape == (1, 1, 800)
    assert mixture == pytest.approx(0.5)


def test_bach10(tmp_path):
    for name, value in (("violin", 0.1), ("saxphone", 0.2)):
        put(tmp_path / f"01-AchGott/01-AchGott-{name}.wav", value)
    put(tmp_path / "01-AchGott/01-AchGott.wav", 0.3)
    (tmp_path / "01-AchGott/violin_b.txt").write_text("")
    put(tmp_path / "Code/example.wav", 0.1)
    (song,) = find_songs(tmp_path)
    assert values(song) == {"saxophone": 0.2, "violin": 0.1}
    assert heard(song.mixture) == 0.3


def separated(folder, mixture, **options):
    for name, value in (("piano", 0.1), ("violin", 0.2)):
        put(folder / f"{name}.wav", value)
    put(folder / "other_run.wav", 0.9)
    (folder / "separation.json").write_text(
        json.dumps(
            {"mixture": str(mixture), "stems": ["piano.wav", "violin.wav"], "options": options}
        )
    )


def test_bach10_by_sibelius(tmp_path):
    for i, version in enumerate(("gt", "fast")):
        for j, name in enumerate(("violin", "saxphone")):
            put(tmp_path / "01-Ach" / f"01-Ach_{version}_{name}.wav", i / 10 + j / 100)
    put(tmp_path / "01-Ach" / "01-Ach_wrong_violin.wav", 0.9)
    fast, gt = find_songs(tmp_path)
    assert (fast.name, fast.split, gt.split) == ("01-Ach", "fast", "gt")
    assert fast.mixture is None
    assert values(fast) == {"saxophone": 0.11, "violin": 0.1}
    assert values(gt) == {"saxophone": 0.01, "violin": 0.0}
    assert find_songs(tmp_path, "bach10_sibelius", split="gt") == [gt]


def test_output_of_a_separation(tmp_path):
    put(tmp_path / "in/tune.wav", 0.3)
    separated(tmp_path / "out/tune", tmp_path / "in/tune.wav", start=0.0, duration=None)
    separated(tmp_path / "out/part", tmp_path / "in/tune.wav", start=1.0, duration=None)
    part, tune = find_songs(tmp_path / "out")
    assert values(tune) == {"piano": 0.1, "violin": 0.2}
    assert heard(tune.mixture) == 0.3
    assert part.mixture is None
    assert find_songs(tmp_path / "out/tune") == [tune]
    (tmp_path / "out/tune/violin.wav").unlink()
    with pytest.raises(UserError, match=r"violin\.wav is missing though separation\.json names it"):
        find_songs(tmp_path / "out")
    (tmp_path / "out/tune/separation.json").write_text("[]")
    with pytest.raises(UserError, match="is no record"):
        find_songs(tmp_path / "out")


@pytest.fixture(scope="module")
def stem_mp4(tmp_path_factory):
    """Return a .stem.mp4 of five stereo streams, written by PyAV, and the tones in it."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install '.[stems]'")
    path = tmp_path_factory.mktemp("mus") / "test" / "Artist - Title.stem.mp4"
    path.parent.mkdir()
    time = np.arange(1024 * 60) / 44100
    tones = [0.3 * np.sin(2 * np.pi * 220 * (i + 1) * time) for i in range(5)]
    with av.open(str(path), "w", format="mp4") as file:
        streams = [
            file.add_stream("aac", rate=44100, layout="stereo", bit_rate=256_000) for _ in tones
        ]
        for stream, tone in zip(streams, tones, strict=True):
            for at in range(0, len(tone), 1024):
                block = np.stack([tone, 0.5 * tone])[:, at : at + 1024].astype(np.float32)
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", "stereo")
                frame.sample_rate, frame.pts = 44100, at
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    return path, tones


def test_stem_mp4(stem_mp4, monkeypatch):
    path, tones = stem_mp4
    (song,) = find_songs(path.parent.parent)
    assert (song.name, song.split) == ("Artist - Title", "test")
    assert find_songs(path.parent)[0].stems == song.stems
    assert list(song.stems) == ["bass", "drums", "other", "vocals"]
    sounds = {"mixture": song.mixture} | song.stems
    for name, tone in zip(STREAMS, tones, strict=True):
        wave, rate = sounds[name].read()
        info = sounds[name].shape()
        assert (rate, wave.shape) == (44100, (info.channels, info.samples))
        assert abs(info.samples - len(tone)) < 2048
        true = np.stack([tone, 0.5 * tone])[:, 4096:-4096]
        error = wave[:, 4096 : true.shape[1] + 4096] - true
        assert np.linalg.norm(error) < 0.05 * np.linalg.norm(true)
    part, _ = song.stems["bass"].part(0.7, 0.2).read()
    whole, _ = song.stems["bass"].read()
    monkeypatch.setattr(excerpt_module, "MP4_SECONDS", 1)
    assert np.abs(np.concatenate(list(song.stems["bass"].blocks()), axis=1) - whole).max() < 1e-6
    assert np.abs(part - whole[:, 30870 : 30870 + 8820]).max() < 1e-6
    with pytest.raises(UserError, match="it cannot be read from 5.0 s"):
        song.stems["bass"].part(5.0).read()


def test_bad_stem_mp4(stem_mp4, tmp_path):
    path, _ = stem_mp4
    with pytest.raises(UserError, match="has 5 audio streams, not 8"):
        Excerpt(path, stream=7).shape()
    (tmp_path / "x.stem.mp4").write_bytes(b"no mp4 at all" * 100)
    with pytest.raises(UserError, match="cannot be decoded .* copy it again"):
        find_songs(tmp_path)[0].mixture.shape()
    shutil.copy(path, tmp_path / "y.stem.mp4")
    data = path.read_bytes()
    (tmp_path / "y.stem.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot be decoded"):
        find_songs(tmp_path, stems=["bass"])[1].stems["bass"].read()


def test_bad_folders_are_told_in_one_line(tmp_path):
    def refused(match, *arguments, **options):
        with pytest.raises(UserError, match=match) as error:
            find_songs(*arguments, **options)
        assert "\n" not in str(error.value)

    refused("there is no folder", tmp_path / "none")
    refused("holds no songs with stems in any layout", tmp_path)
    refused("layout must be one of auto, stem_mp4", tmp_path, "wrong")
    hq(tmp_path)
    refused("holds no songs with stems in the layout ikala", tmp_path, "ikala")
    refused("has no split 'valid'; it has test, train", tmp_path, split="valid")
    refused(r"A in .* has no drums \(it has bass, vocals\)", tmp_path, stems=["bass", "drums"])
    put(tmp_path / "test/A/drums.wav", 0.1, samples=700)
    with pytest.raises(UserError, match="bass has 1 channels of 800 samples at 8000 Hz, drums 1 "):
        find_songs(tmp_path, split="test")[0].to_disk()
    assert set(LAYOUTS) >= {"stem_mp4", "musdb_hq", "dsd100", "ikala", "bach10", "flat"}
