import jax
import numpy as np
import pytest
import soundfile
import soxr

from gensep.datasets.songs import Song
from gensep.mixtures.kinds import open_mixtures
from gensep.mixtures.options import Drawing
from gensep.mixtures.splits import MUSDB_VALID, split_songs
from gensep.mixtures.vary import Variation, vary
from gensep.representation.blocks import spectrum_blocks
from gensep.representation.magnitude import Spectra
from gensep.runtime.errors import UserError

pytestmark = pytest.mark.usefixtures("hasty")
RATE = 8000
SPECTRA = Spectra(sample_rate=RATE, channels=2, n_fft=256, hop_length=64)
STILL = {"mix_songs": 0.0, "gain_low": 1.0, "gain_high": 1.0, "swap": 0.0}


def options(folder, **changed):
    return Drawing(data=(str(folder),), seconds=0.5, **(STILL | changed))


def write(path, wave, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave.T, rate, "FLOAT")


def wave(seed, seconds=2.0, rate=RATE, channels=2, loudness=0.1):
    shape = channels, round(seconds * rate)
    return np.random.default_rng(seed).normal(0, loudness, shape).astype(np.float32)


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Three songs for training and one for validation, of two sources, the mixture their sum."""
    folder, waves = tmp_path_factory.mktemp("songs"), {}
    for i, name in enumerate(["train/a", "train/b", "train/c", "valid/d"]):
        stems = {"bass": wave(2 * i), "voice": wave(2 * i + 1)}
        waves[name[-1]] = np.stack(list(stems.values()))
        for source, each in {**stems, "mixture": sum(stems.values())}.items():
            write(folder / name / f"{source}.wav", each)
    return folder, waves


def place(excerpt, whole):
    """Return at which sample of a wave an excerpt begins; None if it is not a part of it."""
    n = excerpt.shape[-1]
    starts = np.flatnonzero(whole[0, : whole.shape[1] - n + 1] == excerpt[0, 0])
    return next((s for s in starts if np.array_equal(whole[:, s : s + n], excerpt)), None)


def where(source, excerpt, waves):
    """Return song and first sample of an excerpt of one source."""
    (found,) = [
        (name, at) for name, w in waves.items() if (at := place(excerpt, w[source])) is not None
    ]
    return found


def test_a_batch_depends_on_seed_and_step_only(songs):
    first, again = (open_mixtures(options(songs[0], mix_songs=0.5), SPECTRA) for _ in range(2))
    batch = first.batch(3, 5, 4)
    assert batch.shape == (4, 2, 2, RATE // 2)
    assert batch.dtype == np.float32
    first.batch(3, 6, 4)
    assert np.array_equal(batch, again.batch(3, 5, 4))
    for other in (again.batch(3, 6, 4), again.batch(4, 5, 4)):
        assert not np.array_equal(batch, other)


def test_stems_are_excerpts_of_one_place_of_the_files(songs):
    folder, waves = songs
    for bass, voice in open_mixtures(options(folder), SPECTRA).batch(0, 0, 6):
        song, at = where(0, bass, waves)
        assert song != "d"  # which validates
        assert (song, at) == where(1, voice, waves)


def test_mixed_songs_are_excerpts_of_independent_places(songs):
    folder, waves = songs
    examples = open_mixtures(options(folder, mix_songs=1.0), SPECTRA)
    found = [[where(i, x[i], waves) for i in (0, 1)] for x in examples.batch(0, 0, 30)]
    assert all(a[1] != b[1] for a, b in found)
    assert {(a[0], b[0]) for a, b in found} == {(a, b) for a in "abc" for b in "abc"}


def test_an_epoch_takes_as_many_excerpts_of_every_song(songs):
    folder, waves = songs
    examples = open_mixtures(options(folder, positions=4), SPECTRA)
    names = [where(0, x[0], waves)[0] for step in range(4) for x in examples.batch(0, step, 6)]
    first, second = names[:12], names[12:]
    assert sorted(first) == sorted(second) == sorted("aaaabbbbcccc")
    assert first != second


def test_inputs_are_magnitudes_of_the_sum_and_of_the_sources(songs):
    examples = open_mixtures(options(songs[0]), SPECTRA)
    raw = examples.batch(0, 0, 2)
    mixture, sources = jax.jit(examples.inputs)(jax.random.key(0), raw)
    np.testing.assert_allclose(mixture, SPECTRA.magnitudes(raw.sum(1)), atol=1e-5)
    np.testing.assert_allclose(sources, SPECTRA.magnitudes(raw), atol=1e-5)


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_windows_of_a_network_hold_no_frame_beyond_the_excerpt(songs, padding):
    spectra = Spectra(RATE, 2, 256, 64, padding=padding)
    examples = open_mixtures(options(songs[0]), spectra, frames=30)
    raw = examples.batch(0, 0, 1)
    mixture, sources = jax.jit(examples.inputs)(jax.random.key(0), raw)
    assert mixture.shape == (1, 2, 30, 129)
    assert sources.shape == (1, 2, 2, 30, 129)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    frames = np.stack([raw[0, 0, :, t * 64 : t * 64 + 256] * window for t in range(30)], 1)
    np.testing.assert_allclose(sources[0, 0], np.abs(np.fft.rfft(frames)), atol=1e-4)


def test_sources_to_be_estimated_come_first(songs):
    examples = open_mixtures(options(songs[0]), SPECTRA, ("voice",))
    assert examples.sources == ("voice", "bass")
    assert where(1, examples.batch(0, 0, 1)[0, 0], songs[1])
    with pytest.raises(UserError, match="no source drums; they have bass, voice"):
        open_mixtures(options(songs[0]), SPECTRA, ("drums",))


# ---------------------------------------------------------------- variation


def varied(**how):
    x = np.random.default_rng(0).normal(size=(64, 3, 2, 40)).astype(np.float32)
    return x, np.asarray(jax.jit(vary, static_argnums=2)(jax.random.key(1), x, Variation(**how)))


def test_without_variation_waves_stay_as_they_are():
    x, y = varied()
    assert np.array_equal(x, y)


def test_gains_are_uniform_and_one_per_source():
    x, y = varied(gain_low=0.25, gain_high=1.25)
    gains = (y / x).reshape(64, 3, -1)
    np.testing.assert_allclose(gains, np.broadcast_to(gains[..., :1], gains.shape), rtol=1e-4)
    assert 0.25 <= gains.min() < 0.35
    assert 1.15 < gains.max() <= 1.25
    assert abs(gains.mean() - 0.75) < 0.08


def test_channels_are_swapped_per_source():
    x, y = varied(swap=0.5)
    swapped, same = (y == x[:, :, ::-1]).all((2, 3)), (y == x).all((2, 3))
    assert (swapped ^ same).all()
    assert 0.35 < swapped.mean() < 0.65


def test_muted_sources_are_silent_and_one_is_left():
    x, y = varied(mute_source=0.7)
    silent, kept = (y == 0).all((2, 3)), (y == x).all((2, 3))
    assert (silent ^ kept).all()
    assert kept.any(1).all()
    assert kept.all(1).any()  # where none would have been left
    assert abs(silent.mean() - (0.7 - 0.7**3)) < 0.08


def test_one_channel_of_a_source_is_muted():
    x, y = varied(mute_channel=0.5)
    silent = (y == 0).all(3)
    assert (silent | (x == y).all(3)).all()
    assert silent.sum(2).max() == 1
    assert 0.35 < silent.any(2).mean() < 0.65
    assert silent[..., 0].any()
    assert silent[..., 1].any()


def test_sources_are_shifted_in_a_circle():
    x, y = varied(shift=3)
    steps = np.stack([(np.roll(x, step, -1) == y).all((2, 3)) for step in range(-3, 4)])
    assert (steps.sum(0) == 1).all()
    assert steps.any((1, 2)).all()


def test_inputs_vary_as_the_options_say(songs):
    examples = open_mixtures(options(songs[0], gain_low=0.5, gain_high=0.5), SPECTRA)
    raw = examples.batch(0, 0, 1)
    mixture, sources = jax.jit(examples.inputs)(jax.random.key(0), raw)
    np.testing.assert_allclose(sources, SPECTRA.magnitudes(raw / 2), atol=1e-5)
    np.testing.assert_allclose(mixture, SPECTRA.magnitudes(raw.sum(1) / 2), atol=1e-5)


# ---------------------------------------------------------------- what is on disk


def test_quiet_mixtures_are_drawn_again(tmp_path):
    loud = wave(0, 2.0)
    loud[:, : RATE * 3 // 2] *= 1e-4
    for source in ("a", "b"):
        write(tmp_path / "song" / f"{source}.wav", loud)

    def levels(**changed):
        c = options(tmp_path, valid_share=0.0, **changed)
        batch = open_mixtures(c, SPECTRA).batch(0, 0, 24).sum(1)
        return 10 * np.log10((batch**2).mean((1, 2)))

    assert (levels(redraws=0) < -60).sum() > 8
    assert (levels(redraws=50) > -60).all()
    assert levels(redraws=50, quietest=0.0).max() < 0  # then takes what it gets


def test_a_missing_stem_is_refused_or_silent(tmp_path):
    for song, stems in {"one": ("bass", "voice"), "two": ("bass",)}.items():
        for i, name in enumerate((*stems, "mixture")):
            write(tmp_path / song / f"{name}.wav", wave(i))
    with pytest.raises(UserError, match="two has no stem voice .*--missing silence"):
        open_mixtures(options(tmp_path), SPECTRA)
    c = options(tmp_path, missing="silence", valid_share=0.0)
    batch = open_mixtures(c, SPECTRA).batch(0, 0, 8)
    silent = (batch == 0).all((2, 3))
    assert not silent[:, 0].any()
    assert silent[:, 1].any()
    assert not silent[:, 1].all()
    assert open_mixtures(options(tmp_path, stems=("bass",)), SPECTRA).sources == ("bass",)


def test_songs_with_one_stem_have_a_residual(tmp_path):
    voice, mixture = wave(0), wave(1)
    write(tmp_path / "train/one/vocals.wav", voice)
    write(tmp_path / "train/one/mixture.wav", mixture)
    examples = open_mixtures(options(tmp_path), SPECTRA)
    assert examples.sources == ("vocals", "residual")
    (x,) = examples.batch(0, 0, 1)
    at = place(x[0], voice)
    np.testing.assert_allclose(x[1], (mixture - voice)[:, at : at + RATE // 2], atol=1e-6)
    shown, sources = next(examples.held_out())
    np.testing.assert_allclose(shown[0], SPECTRA.magnitudes(mixture), atol=1e-4)
    np.testing.assert_allclose(sources[0, 1], SPECTRA.magnitudes(mixture - voice), atol=1e-4)


def test_sources_may_be_channels_of_a_file(tmp_path):
    both = wave(0)
    write(tmp_path / "Wavfile/10161_chorus.wav", both)
    examples = open_mixtures(options(tmp_path), Spectra(RATE, 1, 256, 64))
    assert examples.sources == ("accompaniment", "voice")
    (x,) = examples.batch(0, 0, 1)
    assert place(x[0], both[:1]) == place(x[1], both[1:])
    mixture, sources = next(examples.held_out())
    np.testing.assert_allclose(sources[0, :, 0], SPECTRA.magnitudes(both), atol=1e-4)
    np.testing.assert_allclose(mixture[0, 0], SPECTRA.magnitudes(both.sum(0)), atol=1e-4)


@pytest.mark.parametrize(("rate", "channels"), [(12000, 1), (11025, 2)])
def test_recordings_are_resampled_and_their_channels_adapted(tmp_path, rate, channels):
    low = soxr.resample(wave(0, 2.0, 4000).T, 4000, rate).T  # nothing near either Nyquist frequency
    for source in ("a", "b"):
        write(tmp_path / "song" / f"{source}.wav", low, rate)
    whole = soxr.resample(low.T, rate, RATE).T
    whole = whole if channels == 2 else whole.mean(0, keepdims=True)
    spectra = Spectra(RATE, channels, 256, 64)
    examples = open_mixtures(options(tmp_path, valid_share=0.0), spectra)
    for x in examples.batch(0, 0, 4)[:, 0]:
        n = x.shape[-1]
        errors = [np.abs(whole[:, s : s + n] - x).max() for s in range(whole.shape[1] - n + 1)]
        assert min(errors) < 2e-4
    mixture, sources = next(examples.held_out())
    np.testing.assert_allclose(sources[0, 0], spectra.magnitudes(whole), atol=5e-3)


def test_validation_takes_whole_songs_with_their_own_mixture(songs, monkeypatch):
    folder, waves = songs
    monkeypatch.setattr("gensep.mixtures.song_waves.BLOCK", 1000)
    (one,) = open_mixtures(options(folder, gain_high=9.0, swap=1.0), SPECTRA).held_out()
    mixture, sources = one
    np.testing.assert_allclose(sources[0], SPECTRA.magnitudes(waves["d"]), atol=1e-4)
    np.testing.assert_allclose(mixture[0], SPECTRA.magnitudes(waves["d"].sum(0)), atol=1e-4)


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("samples", [1, 60, 129, 700, 3000])
def test_blocks_are_the_transform_of_the_whole(padding, samples):
    spectra = Spectra(RATE, 2, 256, 64, padding=padding, unitary=True)
    x = wave(0, samples / RATE)
    for size in (50, 1000):
        blocks = [x[:, i : i + size] for i in range(0, samples, size)]
        found = list(spectrum_blocks(spectra, blocks, frames=8))
        assert all(block.shape[1] == 8 for block in found[:-1])
        np.testing.assert_allclose(np.concatenate(found, 1), spectra.transform(x), atol=1e-5)


# ---------------------------------------------------------------- splits


def song(name, split=""):
    return Song(name, None, {}, split)


def names(songs):
    return [song.name for song in songs]


def split(songs, **changed):
    train, valid = split_songs(songs, options("x", **changed))
    return names(train), names(valid)


def test_folders_say_which_songs_validate():
    songs = [song("a", "train"), song("b", "valid"), song("c", "test")]
    assert split(songs) == (["a"], ["b"])
    assert split(songs, valid_split="test") == (["a", "b"], ["c"])
    with pytest.raises(UserError, match="no split 'dev'; they have test, train, valid"):
        split(songs, valid_split="dev")
    with pytest.raises(UserError, match="no songs are left"):
        split(songs[2:])


def test_musdb_validates_on_its_fourteen_songs():
    assert len(MUSDB_VALID) == 14
    songs = [song(name, "train") for name in (*sorted(MUSDB_VALID), *"abc")]
    assert split([*songs, song("t", "test")]) == (list("abc"), sorted(MUSDB_VALID))


def test_a_share_is_held_out_by_name():
    songs = [song(str(i), "Dev") for i in range(30)]
    train, valid = split([*songs, song("x", "Test")])
    assert len(valid) == 3
    assert sorted(train + valid) == sorted(names(songs))
    assert split(songs[::-1])[1] == valid[::-1]
    versions = [song(name, version) for version in ("slow", "fast") for name in "ab"]
    train, valid = split(versions)
    assert train in (["a", "a"], ["b", "b"])
    assert valid in (["a", "a"], ["b", "b"])
    assert train != valid
    assert split(songs[:1]) == (["0"], ["0"])
    assert split(songs, valid_share=0.0) == (names(songs), names(songs))


# ---------------------------------------------------------------- solo recordings


def test_solo_recordings_are_summed_at_random(tmp_path):
    waves = {}
    for i, name in enumerate(
        ["piano/train/x/1", "piano/train/2", "piano/valid/3", "violin/train/4"]
    ):
        waves[name[-1]] = wave(i, 1.0 + i)[None]
        write(tmp_path / f"{name}.wav", waves[name[-1]][0])
    write(tmp_path / "violin/train/5.wav", wave(9))
    waves["5"] = wave(9)[None]
    c = options(tmp_path, valid_excerpts=3, valid_share=0.5)
    examples = open_mixtures(c, SPECTRA)
    assert examples.sources == ("piano", "violin")
    batch = examples.batch(0, 0, 20)
    found = [[where(0, each, waves) for each in x] for x in batch]
    assert {a[0] for a, _ in found} == {"1", "2"}
    heard = {b[0] for _, b in found}
    assert len(heard) == 1  # the other recording of the violin is held out
    assert len({a[1] for a, _ in found}) > 10
    valid = list(examples.held_out())
    assert len(valid) == 3
    for first, second in zip(valid, examples.held_out(), strict=True):
        assert np.array_equal(first[1], second[1])
    mixture, sources = valid[0]
    assert mixture.shape[1:3] == sources.shape[2:4] == (2, SPECTRA.frames(RATE // 2))


def test_folders_of_open_unmix_are_read_as_sources(tmp_path):
    for i, name in enumerate(["train/a/1", "train/b/2", "valid/a/3", "valid/b/4"]):
        write(tmp_path / f"{name}.wav", wave(i))
    c = options(tmp_path, kind="solos", stems=("b", "a"))
    examples = open_mixtures(c, SPECTRA)
    assert examples.sources == ("b", "a")
    with pytest.raises(UserError, match="no recordings of c for training; the sources are a, b"):
        open_mixtures(options(tmp_path, kind="solos", stems=("c",)), SPECTRA)


def test_bad_data_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        open_mixtures(options(tmp_path / "nowhere"), SPECTRA)
    bad = wave(0)
    bad[:, ::500] = np.nan
    write(tmp_path / "song/a.wav", bad)
    write(tmp_path / "song/b.wav", bad)
    with pytest.raises(UserError, match=r"a\.wav holds NaN or Inf at"):
        open_mixtures(options(tmp_path), SPECTRA).batch(0, 0, 1)
