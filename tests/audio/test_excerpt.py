"""Excerpts of files, channels and MP4 streams: the very samples, also of parts of parts."""

import numpy as np
import pytest
import soundfile

from gensep.audio import excerpt as excerpt_module
from gensep.audio import files
from gensep.audio.excerpt import Excerpt
from gensep.audio.files import Shape
from gensep.runtime.errors import UserError

RATE = 22050


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return a stereo file of three seconds and its samples."""
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 3 * RATE)).astype(np.float32)
    path = tmp_path_factory.mktemp("sound") / "x.wav"
    soundfile.write(path, wave.T, RATE, subtype="FLOAT")
    return path, wave


def same(excerpt, wanted):
    """Check shape, blocks and samples of an excerpt."""
    assert excerpt.shape() == Shape(RATE, *wanted.shape)
    wave, rate = excerpt.read()
    assert (rate, wave.dtype) == (RATE, np.float32)
    np.testing.assert_array_equal(wave, wanted)
    np.testing.assert_array_equal(np.concatenate(list(excerpt.blocks()), 1), wanted)


def test_excerpts_are_the_very_samples(sound, monkeypatch):
    monkeypatch.setattr(files.read_blocks, "__defaults__", (0.0, None, 1000))
    path, wave = sound
    same(Excerpt(path), wave)
    same(Excerpt(path, 0.7, 1.1), wave[:, round(0.7 * RATE) :][:, : round(1.1 * RATE)])
    same(Excerpt(path, 2.5, 99.0), wave[:, round(2.5 * RATE) :])  # stops at the end of the file
    same(Excerpt(path, 0.7, 1.1, channel=1), wave[1:, round(0.7 * RATE) :][:, : round(1.1 * RATE)])
    assert len(list(Excerpt(path).blocks())) > 60


def test_parts_of_parts_begin_at_whole_samples_and_stay_inside(sound):
    path, wave = sound
    whole = Excerpt(path, channel=1)
    assert whole.part() == whole
    rng = np.random.default_rng(1)
    for _ in range(50):
        a, b, c, d = rng.uniform(0, 0.7, 4)
        outer = Excerpt(path, a, 0.7 + b, channel=1)
        assert whole.part(a, 0.7 + b).shape() == outer.shape()
        first, stop = round(a * RATE), round(a * RATE) + round((0.7 + b) * RATE)
        same(outer, wave[1:, first:stop])
        begin = first + round(c * RATE)
        same(outer.part(c), wave[1:, begin:stop])
        same(outer.part(c, d), wave[1:, begin : min(stop, begin + round(d * RATE))])
        same(outer.part(c, 9.0), wave[1:, begin:stop])


def test_spans_are_the_very_samples_without_a_look_at_the_header(sound, monkeypatch):
    path, wave = sound
    part = Excerpt(path, 0.25, channel=1)
    shape, first = part.shape(), round(0.25 * RATE)
    monkeypatch.setattr(excerpt_module, "probe", None)
    np.testing.assert_array_equal(part.span(shape, 70, 900), wave[1:2, first + 70 :][:, :900])
    with pytest.raises(UserError, match="ends at"):
        part.span(shape, shape.samples - 5, 9)


def test_an_excerpt_without_a_sample_is_refused(sound):
    path, _ = sound
    for excerpt, words in (
        (Excerpt(path, 3.0), "lasts 3.000 s; it cannot be read from 3.0 s"),
        (Excerpt(path, -1.0), "cannot be read from -1.0 s"),
        (Excerpt(path, 1.0, 0.0), "a duration of 0.0 s of .* holds no sample"),
        (Excerpt(path, 1.0, 0.5).part(0.5), "holds no sample"),
        (Excerpt(path).part(5.0), "cannot be read from 5.0 s"),
        (Excerpt(path, channel=2), "has 2 channels where channel 3 holds a source"),
        (Excerpt(path.with_name("none.wav")), "there is no file"),
    ):
        for call in (excerpt.shape, excerpt.blocks, excerpt.read):
            with pytest.raises(UserError, match=words):
                call()


def test_the_mean_of_the_channels_at_another_rate(sound):
    path, wave = sound
    excerpt = Excerpt(path, 0.5, 1.0)
    mid = np.concatenate(list(excerpt.mid(RATE)))
    np.testing.assert_array_equal(mid, wave[:, RATE // 2 :][:, :RATE].mean(0))
    assert sum(map(len, excerpt.mid(16000))) == 16000
    one = np.concatenate(list(excerpt._replace(channel=0).mid(RATE)))
    np.testing.assert_array_equal(one, wave[0, RATE // 2 :][:RATE])


def test_streams_of_an_mp4(tmp_path, monkeypatch):
    """Excerpts of any stream are cut from its whole decoding, in blocks of any length."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install '.[stems]'")
    path, time = tmp_path / "x.mp4", np.arange(4 * RATE) / RATE
    with av.open(str(path), "w", format="mp4") as file:
        streams = [file.add_stream("aac", rate=RATE, layout="stereo") for _ in range(2)]
        for i, stream in enumerate(streams):
            tone = 0.3 * np.sin(2 * np.pi * 220 * (i + 1) * time) * np.sin(time)
            for at in range(0, len(tone) - 1024, 1024):
                block = np.stack([tone, 0.5 * tone])[:, at : at + 1024].astype(np.float32)
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", "stereo")
                frame.sample_rate, frame.pts = RATE, at
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    waves = [Excerpt(path, stream=i).read()[0] for i in range(2)]
    assert waves[0].shape == waves[1].shape
    assert np.abs(waves[0] - waves[1]).max() > 0.1
    monkeypatch.setattr(excerpt_module, "MP4_SECONDS", 1)
    for i, wave in enumerate(waves):
        whole = Excerpt(path, stream=i)
        same(whole, wave)
        first, stop = round(0.3 * RATE), round(0.3 * RATE) + round(2.2 * RATE)
        same(whole.part(0.3, 2.2), wave[:, first:stop])
        right = whole._replace(channel=1)
        same(right.part(0.3, 2.2).part(1.0), wave[1:, first + RATE : stop])
        assert len(list(whole.part(0.3, 2.2).blocks())) == 3
        later = right.part(0.5)
        found = later.span(later.shape(), 1000, 3000)
        np.testing.assert_array_equal(found, wave[1:, RATE // 2 + 1000 : RATE // 2 + 4000])
    with pytest.raises(UserError, match="cannot be read from 9.0 s"):
        Excerpt(path, 9.0, stream=0).read()
    with pytest.raises(UserError, match="has 2 audio streams, not 3"):
        Excerpt(path, stream=2).shape()
