"""Audio in and out: every kind of bad file, exact lengths, all stems or none."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from gensep.audio import stems as stems_module
from gensep.audio.excerpt import Excerpt
from gensep.audio.files import mid_stream, probe, read_blocks
from gensep.audio.stems import StemWriter, subtype_for
from gensep.runtime.errors import UserError
from gensep.runtime.files import check_writable, output_folder, write_atomically


def noise(samples, channels=1, seed=0):
    return 0.1 * np.random.default_rng(seed).normal(size=(samples, channels))


def refused(path, words, call=probe):
    with pytest.raises(UserError, match=words) as caught:
        call(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def test_missing_folder_empty_and_no_audio_are_refused(tmp_path):
    refused(tmp_path / "none.wav", "there is no file")
    refused(tmp_path, "is a folder")
    (tmp_path / "zero.wav").touch()
    refused(tmp_path / "zero.wav", "is empty")
    soundfile.write(tmp_path / "header.wav", np.zeros((0, 2)), 16000)
    refused(tmp_path / "header.wav", "0 samples")
    for name in ("text.wav", "text.flac", "text.raw", "text.mp3"):
        (tmp_path / name).write_text("not a sound, " * 50)
        refused(tmp_path / name, "is no audio")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "aiff", "w64", "au", "caf"])
def test_truncated_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, noise(44100), 44100)
    assert probe(path).samples == 44100
    refused(cut(path), "cut short|is no audio")


def test_a_wav_from_a_pipe_is_not_taken_for_cut(tmp_path):
    path = tmp_path / "pipe.wav"
    soundfile.write(path, noise(1000), 16000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[4:8] = content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert probe(path).samples == 1000


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_are_refused_with_their_place(tmp_path, bad):
    signal = noise(16000, 2)
    signal[12000, 1] = bad
    path = tmp_path / "x.wav"
    soundfile.write(path, signal, 8000, subtype="FLOAT")
    refused(path, r"NaN or Inf at 1\.500 s", lambda p: list(read_blocks(p, block=1000)))
    assert len(list(read_blocks(path, duration_s=1.4))) == 1


def test_odd_but_valid_files_are_read(tmp_path):
    for name, subtype, rate, channels, samples in [
        ("8bit.wav", "PCM_U8", 22050, 1, 500),
        ("fast.wav", "PCM_24", 192000, 2, 500),
        ("many.wav", "FLOAT", 48000, 12, 500),
        ("one.wav", "PCM_16", 16000, 1, 1),
    ]:
        signal = noise(samples, channels)
        soundfile.write(tmp_path / name, signal, rate, subtype=subtype)
        assert probe(tmp_path / name) == (rate, channels, samples)
        got, got_rate = Excerpt(tmp_path / name).read()
        assert got_rate == rate
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, signal.T, atol=0.01)


def test_start_and_duration(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(1000), 100, subtype="FLOAT")
    whole, _ = Excerpt(path).read()
    blocks = list(read_blocks(path, 2.0, 3.0, block=70))
    assert [b.shape[1] for b in blocks] == [70] * 4 + [20]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole[:, 200:500])
    assert sum(b.shape[1] for b in read_blocks(path, 9.0, 99.0)) == 100
    for start, duration in ((10.0, 1.0), (-1.0, 1.0), (0.0, 0.0), (0.0, -1.0)):
        with pytest.raises(UserError):
            read_blocks(path, start, duration)


@pytest.mark.parametrize(("rate", "to_rate"), [(44100, 16000), (16000, 44100), (48000, 16000)])
def test_streaming_resample_equals_one_shot(rate, to_rate):
    stereo = noise(50001, 2).T.astype(np.float32)
    blocks = (stereo[:, i : i + 777] for i in range(0, 50001, 777))
    got = np.concatenate(list(mid_stream(blocks, rate, to_rate)))
    assert got.dtype == np.float32
    assert len(got) == round(50001 * to_rate / rate)
    expected = soxr.resample(stereo.mean(axis=0), rate, to_rate)
    n = min(len(got), len(expected))
    np.testing.assert_allclose(got[:n], expected[:n], atol=1e-4)


@pytest.mark.parametrize("samples", [1, 2, 3, 50, 1001])
def test_short_signals_keep_the_exact_length(samples):
    for rate, to_rate in ((44100, 16000), (16000, 44100), (8000, 8000), (192000, 16000)):
        out = list(mid_stream([np.ones((2, samples))], rate, to_rate))
        assert sum(map(len, out)) == round(samples * to_rate / rate)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_stems_are_written_whole(tmp_path, suffix):
    paths = [tmp_path / "new" / f"{name}.{suffix}" for name in "ab"]
    signals = [noise(1000, 2, seed).T for seed in (1, 2)]
    with StemWriter(paths, 16000, 2, 1000) as stems:
        for i, signal in enumerate(signals):
            stems.write(i, signal[:, :600])
            stems.write(i, signal[:, 600:])
        assert not any(path.exists() for path in paths)
    assert sorted((tmp_path / "new").iterdir()) == paths
    for path, signal in zip(paths, signals, strict=True):
        got, rate = Excerpt(path).read()
        assert rate == 16000
        assert got.shape == (2, 1000)
        if suffix != "ogg":
            np.testing.assert_allclose(got, signal, atol=1e-6)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_on_an_exception(tmp_path, error):
    (tmp_path / "a.wav").write_text("old")
    with (  # noqa: PT012
        pytest.raises(error),
        StemWriter([tmp_path / "a.wav", tmp_path / "b.wav"], 16000, 1, 10) as stems,
    ):
        stems.write(0, np.zeros((1, 10)))
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_text() == "old"


def test_a_stem_of_the_wrong_length_is_not_kept(tmp_path):
    with (
        pytest.raises(ValueError, match="got 9 samples, not 10"),
        StemWriter([tmp_path / "a.wav"], 16000, 1, 10) as stems,
    ):
        stems.write(0, np.zeros((1, 9)))
    assert list(tmp_path.iterdir()) == []


def test_formats_are_checked_before_any_work(tmp_path):
    def writer(name, **options):
        given = {"rate": 44100, "channels": 2, "samples": 10} | options
        return StemWriter([tmp_path / name], **given)

    with pytest.raises(UserError, match="cannot have the subtype FLOAT; use .*PCM_16"):
        writer("a.flac", subtype="FLOAT")
    with pytest.raises(UserError, match="no audio format"):
        writer("a.txt")
    with pytest.raises(UserError, match="one name"):
        StemWriter([tmp_path / "a.wav"] * 2, 16000, 1, 1)
    with pytest.raises(UserError, match="12 channels"):
        writer("a.flac", channels=12)
    assert list(tmp_path.iterdir()) == []
    assert writer("a.wav", subtype="pcm_16")._kinds == [("WAV", "PCM_16")]
    assert writer("a.wav", samples=2**30)._kinds == [("RF64", "FLOAT")]
    assert writer("a.aif")._kinds[0][0] == "AIFF"
    assert writer("a.opus", rate=48000)._kinds[0] == ("OGG", "OPUS")


def test_rf64_is_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(stems_module, "_format", lambda *_: ("RF64", "FLOAT"))
    with StemWriter([tmp_path / "a.wav"], 16000, 1, 100) as stems:
        stems.write(0, np.ones((1, 100)))
    assert probe(tmp_path / "a.wav").samples == 100


def test_output_folders_are_named_after_their_inputs():
    assert output_folder("out/{name}/{folder}", name="a", folder=Path("b")) == Path("out/a/b")
    assert output_folder("out", name="a") == Path("out")
    for template in ("{x}", "{}", "{name"):
        with pytest.raises(UserError, match=r"--output knows {name} and {folder}, not what is in"):
            output_folder(template, name="a", folder="b")


def test_folder_that_cannot_be_written_and_atomic_text(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write into"):
        check_writable(tmp_path / "file" / "sub")
    write_atomically(tmp_path / "x.json", "{}")
    assert (tmp_path / "x.json").read_text() == "{}"
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "x.json", None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "x.json"]


def test_integers_are_rounded_to_the_nearest(tmp_path):
    """libsndfile rounds down, so that stems would not add up to the mixture on average."""
    wave = np.random.default_rng(0).uniform(-1.2, 1.2, (1, 5000)).astype(np.float32)
    for subtype, bits in (("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24)):
        with StemWriter([tmp_path / "x.wav"], 8000, 1, 5000, subtype) as writer:
            writer.write(0, wave)
        top = 2 ** (bits - 1)
        want = np.clip(np.rint(wave[0].astype(float) * top), -top, top - 1) / top
        np.testing.assert_array_equal(soundfile.read(tmp_path / "x.wav")[0], want)


def test_stems_may_have_the_sample_format_of_the_mixture(tmp_path):
    for name, subtype in (("a.wav", "PCM_16"), ("b.flac", "PCM_24"), ("c.wav", "DOUBLE")):
        soundfile.write(tmp_path / name, np.zeros(100), 8000, subtype=subtype)
        assert subtype_for(tmp_path / name, "wav", "same") == subtype
        assert subtype_for(tmp_path / name, "wav", None) is None
        assert subtype_for(tmp_path / name, "wav", "PCM_16") == "PCM_16"
    assert subtype_for(tmp_path / "a.wav", ".flac", "same") == "PCM_16"
    assert subtype_for(tmp_path / "c.wav", "flac", "same") is None
    soundfile.write(tmp_path / "d.ogg", np.zeros(100), 8000)
    assert subtype_for(tmp_path / "d.ogg", "wav", "same") is None
    assert subtype_for(tmp_path / "d.ogg", "ogg", "same") is None
