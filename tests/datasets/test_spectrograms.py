"""Data sets: written from audio, read as windows that depend on seed and step alone."""

import dataclasses
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from gensep import wav_to_spec
from gensep.datasets.ingest import Encoding, encode_file, find_sources, fingerprint, ingest
from gensep.datasets.spectrograms import (
    POWER_FIELDS,
    read_metadata,
    to_int16,
    to_power,
    write_dataset,
)
from gensep.datasets.windows import open_windows
from gensep.representation.analysis import analyse
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.runtime.parallel import prefetch

SMALL = Representation(n_fft=512, hop_length=256, n_mels=8)
OPTIONS = ["--n_fft", "512", "--hop_length", "256", "--n_mels", "8", "--jobs", "2"]


def noise(samples, channels=1, seed=0):
    return 0.1 * np.random.default_rng(seed).normal(size=(samples, channels))


def counting(track, frames):
    """Store the frame number in band 0 and the track in band 1: windows tell their place."""
    stored = np.zeros((frames, 8), np.int16)
    stored[:, 0] = np.arange(frames)
    stored[:, 1] = track
    return f"t{track}", stored


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "toy"
    lengths = (5000, 20, 2048, 1)  # over two records, too short, one record, one frame
    splits = {name: (counting(t, n) for t, n in enumerate(lengths)) for name in ("train", "test")}
    write_dataset(folder, splits, SMALL, lambda: {"source": "toy"})
    return folder


@pytest.fixture
def sounds(tmp_path):
    for split, count in (("train", 3), ("valid", 1), ("test", 1)):
        folder = tmp_path / "in" / "piano" / split
        folder.mkdir(parents=True)
        for i in range(count):
            soundfile.write(folder / f"{i}.flac", noise(20000, 2, i), 22050)
    return tmp_path


def convert(folder, *options):
    wav_to_spec.main([str(folder / "in"), str(folder / "out"), *OPTIONS, *options])


def test_batches_depend_on_seed_and_step_alone(toy):
    first, second = (open_windows(toy, "train", 64) for _ in range(2))
    expected = [first.batch(1, step, 16) for step in range(5)]
    for step in (4, 0, 3, 1, 2):
        np.testing.assert_array_equal(second.batch(1, step, 16), expected[step])
    assert expected[0].shape == (16, 64, 8)
    assert expected[0].dtype == np.int16
    assert not np.array_equal(first.batch(1, 0, 16), first.batch(1, 1, 16))
    assert not np.array_equal(first.batch(1, 0, 16), first.batch(2, 0, 16))


def test_windows_stay_in_their_track_and_short_tracks_are_padded(toy):
    windows = open_windows(toy, "train", 64)
    assert len(windows) == 5000 - 63 + 1 + 2048 - 63 + 1
    got = windows.at(np.arange(len(windows)))
    short = 5000 - 63
    np.testing.assert_array_equal(got[short, :20, 0], np.arange(20))
    assert (got[short, 20:] == -12000).all()
    assert (got[-1, 1:] == -12000).all()
    whole = np.delete(got, [short, len(got) - 1], axis=0)
    assert (np.diff(whole[..., 0], axis=1) == 1).all()
    assert (np.diff(whole[..., 1], axis=1) == 0).all()
    np.testing.assert_array_equal(whole[:4937, 0, 0], np.arange(4937))


def test_windows_longer_than_a_record(toy):
    windows = open_windows(toy, "train", 4500)
    assert len(windows) == 501 + 3
    assert (np.diff(windows.at(np.array([500]))[0, :, 0]) == 1).all()


def test_starts_are_uniform(toy):
    windows = open_windows(toy, "train", 64)
    starts = windows.batch(0, 0, 20000)[:, 0]
    long = starts[starts[:, 1] == 0, 0]
    assert len(long) / 20000 == pytest.approx(4937 / len(windows), abs=0.015)
    assert np.histogram(long, 4, (0, 4937))[0] == pytest.approx(len(long) / 4, rel=0.06)


def test_gathering_is_quick_once_decoded(toy):
    windows = open_windows(toy, "train", 64)
    windows.at(np.arange(len(windows)))
    times = []
    for step in range(20):
        start = time.perf_counter()
        windows.batch(0, step, 256)
        times.append(time.perf_counter() - start)
    assert min(times) < 2e-3


def test_levels_survive_to_a_hundredth_of_a_decibel():
    power = 10 ** np.random.default_rng(0).uniform(-12, 20, (50, 8))
    stored = to_int16(power)
    assert np.abs(stored / 100 - 10 * np.log10(power)).max() <= 0.005 + 1e-9
    assert np.abs(10 * np.log10(to_power(stored) / power)).max() < 0.01
    assert to_int16(np.array([0.0, 1e30])).tolist() == [-12000, 20000]


@pytest.mark.parametrize("samples", [1, 100, 511, 256 * 512 - 1, 256 * 512, 256 * 1100 + 77])
def test_chunks_give_the_frames_of_the_whole_file(samples):
    mid = noise(samples)[:, 0].astype(np.float32)
    whole = to_int16(np.asarray(SMALL.mel_power(mid)))
    chunked = to_int16(analyse(np.array_split(mid, 3), SMALL).power)
    assert chunked.shape == (1 + samples // 256, 8)
    assert np.abs(chunked.astype(int) - whole).max() <= 1


def test_command_writes_what_the_files_hold(sounds):
    convert(sounds, "--keep_level")
    windows = open_windows(sounds / "out" / "piano", "train", 10, representation=SMALL)
    assert windows.tracks == ("train/0.flac", "train/1.flac", "train/2.flac")
    signal, _ = soundfile.read(sounds / "in" / "piano" / "train" / "0.flac")
    import soxr

    mid = soxr.resample(signal.mean(axis=1).astype(np.float32), 22050, 16000)
    expected = to_int16(np.asarray(SMALL.mel_power(mid)))[:10]
    assert np.abs(windows.at(np.array([0]))[0].astype(int) - expected).max() <= 2
    metadata = read_metadata(sounds / "out" / "piano")
    assert metadata["source"] == "piano"
    assert metadata["level"] is None
    assert list(metadata["splits"]) == ["train", "valid", "test"]
    assert [p.name for p in (sounds / "out").iterdir()] == ["piano"]


def test_python_writes_what_the_command_writes(sounds):
    convert(sounds, "--level", "-20")
    (sounds / "in" / "piano" / "train" / "text.wav").write_text("no sound")
    lines = []
    bad = ingest(sounds / "in", sounds / "again", Encoding(SMALL, -20.0), report=lines.append)
    assert len(bad) == 1
    assert "text.wav is no audio" in bad[0]
    assert lines == ["piano: train 3 tracks, 0.00 h; valid 1 tracks, 0.00 h; test 1 tracks, 0.00 h"]
    for split in ("train", "valid", "test"):
        stored = [
            open_windows(sounds / out / "piano", split, 10, training=False)
            for out in ("out", "again")
        ]
        first, second = (windows.at(np.arange(len(windows))) for windows in stored)
        np.testing.assert_array_equal(first, second)
    assert (
        ingest(sounds / "in", sounds / "again", Encoding(SMALL, -20.0), report=lines.append) == []
    )
    assert lines[1:] == ["piano: up to date"]
    with pytest.raises(UserError, match=r"text\.wav is no audio.*or use --on_bad skip"):
        ingest(sounds / "in", sounds / "again", Encoding(SMALL, -20.0), skip_bad=False)


def test_an_unreadable_file_is_a_value_and_others_are_arrays(sounds):
    path = sounds / "in" / "piano" / "train" / "0.flac"
    assert encode_file(path, Encoding(SMALL, None)).dtype == np.int16
    path.write_text("no sound")
    assert isinstance(encode_file(path, Encoding(SMALL, None)), UserError)


def test_a_fingerprint_depends_on_files_and_encoding(sounds):
    (source,) = find_sources(sounds / "in")
    same = fingerprint(source, Encoding(SMALL, -26.0))
    assert fingerprint(source, Encoding(dataclasses.replace(SMALL, floor_db=-30.0), -26.0)) == same
    others = {
        fingerprint(source, Encoding(SMALL, None)),
        fingerprint(source, Encoding(SMALL, -20.0)),
        fingerprint(source, Encoding(dataclasses.replace(SMALL, n_mels=9), -26.0)),
        fingerprint(
            source._replace(files={"train": source.files["train"][:2]}), Encoding(SMALL, -26.0)
        ),
    }
    assert len(others | {same}) == 5


def test_level_is_that_of_the_sounding_blocks():
    mid = np.concatenate([noise(16000)[:, 0], np.zeros(48000), noise(100)[:, 0]]).astype(np.float32)
    found = analyse(np.array_split(mid, 7), SMALL)
    assert found.level == pytest.approx(20 * np.log10(mid[:16000].std()), abs=0.1)
    raised = found.at_level(-26.0) / np.maximum(found.power, 1e-20)
    assert 10 * np.log10(raised.max()) == pytest.approx(-26 - found.level, abs=1e-3)
    for silent in (np.zeros(16000, np.float32), 1e-6 * mid, np.zeros(1, np.float32)):
        found = analyse([silent], SMALL)
        assert found.level == -np.inf
        np.testing.assert_array_equal(found.at_level(-26.0), found.power)


def test_bad_files_are_named_and_skipped_or_refused(sounds, capsys):
    folder = sounds / "in" / "piano" / "train"
    (folder / "text.wav").write_text("no sound")
    (folder / "empty.wav").touch()
    nan = noise(1000)
    nan[500] = np.nan
    soundfile.write(folder / "nan.wav", nan, 16000, subtype="FLOAT")
    soundfile.write(folder / "tick.wav", noise(1), 16000)
    (folder / "notes.txt").write_text("ignored")
    with pytest.raises(UserError, match=r"empty\.wav"):
        convert(sounds, "--on_bad", "refuse")
    assert list((sounds / "out").iterdir()) == []
    convert(sounds)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
    assert len(lines) == 3
    for name, line in zip(("empty", "nan", "text"), lines, strict=True):
        assert f"{name}.wav" in line
    metadata = read_metadata(sounds / "out" / "piano")
    assert metadata["splits"]["train"]["train/tick.wav"] == 1
    assert len(metadata["skipped"]) == 3


def test_a_split_of_bad_files_alone_is_refused_whole(sounds):
    path = sounds / "in" / "piano" / "valid" / "0.flac"
    path.write_text("no sound")
    with pytest.raises(UserError, match="'valid' has no readable audio"):
        convert(sounds)
    assert list((sounds / "out").iterdir()) == []


def test_rerun_skips_unless_files_or_options_changed(sounds, capsys):
    def ran():
        capsys.readouterr()
        convert(sounds, *extra)
        return "up to date" not in capsys.readouterr().out

    extra = []
    assert ran()
    assert not ran()
    extra = ["--force"]
    assert ran()
    extra = ["--level", "-20"]
    assert ran()
    assert not ran()
    soundfile.write(sounds / "in" / "piano" / "train" / "9.flac", noise(3000), 16000)
    assert ran()
    assert len(read_metadata(sounds / "out" / "piano")["splits"]["train"]) == 4
    (sounds / "in" / "piano" / "train" / "9.flac").unlink()
    assert ran()


def test_one_source_named_by_its_folder(sounds):
    wav_to_spec.main([str(sounds / "in" / "piano"), str(sounds / "out"), *OPTIONS])
    assert (sounds / "out" / "piano" / "gensep.json").is_file()


def test_a_foreign_folder_is_not_replaced(sounds):
    (sounds / "out" / "piano").mkdir(parents=True)
    (sounds / "out" / "piano" / "diary.txt").write_text("dear")
    with pytest.raises(UserError, match="is no data set"):
        convert(sounds)
    assert (sounds / "out" / "piano" / "diary.txt").read_text() == "dear"


def test_input_without_sound_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no audio in SOURCE/train"):
        wav_to_spec.main([str(tmp_path), str(tmp_path / "out")])
    with pytest.raises(UserError, match="there is no folder"):
        wav_to_spec.main([str(tmp_path / "none"), str(tmp_path / "out")])


def test_opening_refuses_what_does_not_fit(toy, tmp_path):
    with pytest.raises(UserError, match="may not open the split 'test'"):
        open_windows(toy, "test", 64)
    assert len(open_windows(toy, "test", 64, training=False))
    with pytest.raises(UserError, match="no split 'valid'; it has train, test"):
        open_windows(toy, "valid", 64)
    with pytest.raises(UserError, match="is no data set"):
        open_windows(tmp_path, "train", 64)
    with pytest.raises(UserError, match="n_mels = 8, the model wants 96"):
        open_windows(toy, "train", 64, representation=Representation(n_fft=512, hop_length=256))
    # floor and scale are applied after reading
    open_windows(toy, "train", 64, representation=dataclasses.replace(SMALL, floor_db=-30.0))
    with pytest.raises(UserError, match="at least 1 frame"):
        open_windows(toy, "train", 0)


def test_a_failure_leaves_the_old_data_set(toy):
    def broken():
        yield counting(0, 10)
        raise KeyboardInterrupt

    before = (toy / "gensep.json").read_text()
    with pytest.raises(KeyboardInterrupt):
        write_dataset(toy, {"train": broken()}, SMALL)
    assert (toy / "gensep.json").read_text() == before
    assert [p.name for p in toy.parent.iterdir()] == ["toy"]


def test_prefetch_keeps_the_order_and_runs_ahead():
    def slow(step):
        time.sleep(0.02 if step % 2 else 0)
        return step

    assert list(prefetch(slow, 3, 20)) == list(range(3, 20))
    assert list(prefetch(slow, 3, 3)) == []


def test_prefetch_stops_with_its_reader_and_passes_errors_on():
    started = []
    batches = prefetch(lambda step: started.append(step) or step, 0, 1000, depth=3)
    assert next(batches) == 0
    batches.close()
    assert len(started) <= 5
    assert not any(t.name.startswith("ThreadPool") for t in threading.enumerate())
    with pytest.raises(ZeroDivisionError):
        list(prefetch(lambda step: 1 // step, 0, 3))


def test_windows_in_threads_equal_those_without(toy):
    plain, threaded = (open_windows(toy, "train", 64) for _ in range(2))
    for step, batch in enumerate(prefetch(lambda s: threaded.batch(0, s, 32), 0, 20)):
        np.testing.assert_array_equal(batch, plain.batch(0, step, 32))


def test_defaults_are_those_of_the_representation():
    defaults = {f.name: f.default for f in dataclasses.fields(wav_to_spec.Config)}
    for name in POWER_FIELDS:
        assert defaults[name] == getattr(Representation(), name)


def test_reading_needs_neither_tensorflow_nor_librosa(toy):
    code = (
        "import sys, json; from gensep.datasets.windows import open_windows\n"
        f"open_windows({str(toy)!r}, 'train', 64).batch(0, 0, 4)\n"
        "print(json.dumps([m for m in ('tensorflow', 'librosa') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
