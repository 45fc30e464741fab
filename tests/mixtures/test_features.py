import os
import shutil
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler

import jax
import numpy as np
import pytest
import soundfile

from gensep import make_features as command
from gensep.mixtures import make
from gensep.mixtures.feature_examples import FeatureExamples
from gensep.mixtures.feature_store import (
    StoredSong,
    open_features,
    read_features,
    read_song,
    write_song,
)
from gensep.mixtures.kinds import open_mixtures
from gensep.mixtures.options import Drawing, Reading
from gensep.mixtures.raw_features import map_raw
from gensep.mixtures.scored_songs import ScoreFiles
from gensep.mixtures.segments import Segments, announced, plan, starts
from gensep.rendering.score_text import read_notes
from gensep.representation.magnitude import Spectra
from gensep.runtime.errors import UserError
from gensep.separators.score_masks import NoteGrid, harmonic_masks, note_rows
from helpers import ROOT

pytestmark = pytest.mark.usefixtures("hasty")
RATE = 8000
SPECTRA = Spectra(sample_rate=RATE, n_fft=256, hop_length=64)
TRANSFORM = ["--sample_rate", "8000", "--n_fft", "256", "--hop_length", "64"]


def options(folder, **changed):
    return Drawing(data=(str(folder),), **{"valid_share": 0.0, **changed})


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Three songs, the last one for validation; the mixture is not the sum of the stems."""
    folder, waves = tmp_path_factory.mktemp("songs"), {}
    for i, name in enumerate(["train/a", "train/b", "valid/c"]):
        rng = np.random.default_rng(i)
        waves[name[-1]] = rng.normal(0, 0.1, (3, RATE * (i + 1))).astype(np.float32)
        (folder / name).mkdir(parents=True)
        for stem, wave in zip(["mixture", "bass", "voice"], waves[name[-1]], strict=True):
            soundfile.write(folder / name / f"{stem}.wav", wave, RATE, "FLOAT")
    return folder, waves


@pytest.fixture(scope="module")
def features(songs, tmp_path_factory):
    output = tmp_path_factory.mktemp("features")
    command.main([str(songs[0]), str(output), *TRANSFORM, "--phase"])
    return output


def contents(folder):
    """Return what the files below a folder say; equal records may differ in their bytes."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    said = {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}
    for name in said:
        if "array_record" in name:
            song = StoredSong("", "", 0, (folder / name).parent)
            frames = read_song(song.folder)["frames"]
            said[name] = b"".join(
                song.field(f, 0, frames).tobytes() for f in ("magnitude", "phase")
            )
    return said


# ---------------------------------------------------------------- writing


def test_features_are_the_spectra_of_the_waves(songs, features):
    stored, sources = open_features([str(features)], SPECTRA)
    assert sources == ("bass", "voice")
    assert [(song.name, song.split) for song in stored] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "valid"),
    ]
    for song in stored:
        spectra = np.asarray(SPECTRA.transform(songs[1][song.name]))
        assert song.frames == spectra.shape[1]
        found = song.read(0, song.frames)
        np.testing.assert_allclose(found[:, :, 0], np.abs(spectra).swapaxes(0, 1), atol=1e-4)
        assert found.dtype == np.float32
        assert np.array_equal(song.read(60, 120), found[60:120])
        phase = song.field("phase", 0, song.frames)[:, 0]
        mixture = np.abs(spectra[0]) * np.exp(1j * phase)
        np.testing.assert_allclose(mixture, spectra[0], atol=1e-3)


def test_songs_that_are_up_to_date_are_left(songs, features, capsys):
    before = contents(features)
    times = {p: p.stat().st_mtime_ns for p in features.rglob("songs/*/*")}
    command.main([str(songs[0]), str(features), *TRANSFORM, "--phase"])
    assert "3 songs" in (said := capsys.readouterr().out)
    assert "0 written, 3 were up to date" in said
    assert contents(features) == before
    assert {p: p.stat().st_mtime_ns for p in features.rglob("songs/*/*")} == times


def test_a_killed_run_goes_on_and_leaves_the_same(songs, features, tmp_path, monkeypatch):
    original, calls = make.features_of, []

    def killed(track, making):
        calls.append(track.name)
        for number, block in enumerate(original(track, making)):
            if len(calls) == 2 and number == 1:
                raise KeyboardInterrupt
            yield block

    argv = [str(songs[0]), str(tmp_path), *TRANSFORM, "--phase"]
    monkeypatch.setattr(make, "features_of", killed)
    with pytest.raises(KeyboardInterrupt):
        command.main(argv)
    (tmp_path / "songs" / ".part-x").mkdir()  # what is left by kill -9
    with pytest.raises(UserError, match="is not complete; the same make_features goes on"):
        read_features(tmp_path)
    monkeypatch.setattr(make, "features_of", original)
    calls.clear()
    command.main(argv)
    assert contents(tmp_path) == contents(features)


def test_other_options_or_songs_write_again(songs, tmp_path):
    songs_, out = tmp_path / "songs", tmp_path / "out"
    (songs_ / "a").mkdir(parents=True)
    (songs_ / "b").mkdir()
    for name in ("a/x", "a/y", "b/x", "b/y"):
        soundfile.write(songs_ / f"{name}.wav", np.ones(500) / 4, RATE)
    command.main([str(songs_), str(out), *TRANSFORM])
    command.main([str(songs_), str(out), *TRANSFORM, "--hop_length", "128"])
    assert read_features(out)["spectra"]["hop_length"] == 128
    assert read_features(out)["songs"][0]["frames"] == Spectra(RATE, 1, 256, 128).frames(500)
    for name in ("x", "y"):
        (songs_ / f"b/{name}.wav").unlink()
    command.main([str(songs_), str(out), *TRANSFORM])
    assert [song["name"] for song in read_features(out)["songs"]] == ["a"]
    assert len(list((out / "songs").iterdir())) == 1
    with pytest.raises(UserError, match="exists and holds no features"):
        command.main([str(songs_), str(songs_)])


def test_songs_are_dealt_to_processes(songs, features, tmp_path, monkeypatch):
    def in_turn(work, tasks, jobs):
        assert jobs == 2
        for task in tasks:  # passed on as to another process
            yield work(*ForkingPickler.loads(ForkingPickler.dumps(task)))

    monkeypatch.setattr(make, "results", in_turn)
    command.main([str(songs[0]), str(tmp_path), *TRANSFORM, "--phase", "--jobs", "2"])
    assert contents(tmp_path) == contents(features)


# ---------------------------------------------------------------- segments


@pytest.mark.parametrize("frames", [1, 29, 30, 31, 35, 36, 100, 1000])
@pytest.mark.parametrize(("context", "overlap"), [(30, 25), (30, 0), (10, 5), (30, 30), (9, 99)])
def test_segments_are_counted_as_by_deepconvsep(frames, context, overlap):
    step = context - (overlap if overlap < context else context // 2)
    wanted, start = [], 0
    while start + context < frames:
        wanted.append(start)
        start += step
    assert list(starts(frames, context, overlap)) == (wanted or [0])
    every = starts(frames, context, overlap, padded=True)
    covered = {t for s in every for t in range(s, s + context)}
    assert covered >= set(range(frames))
    assert every[-1] == 0 or every[-1] - step + context < frames


def test_announced_counts():
    assert announced(20, 30, 25) == 1
    assert announced(300, 30, 25) == (300 + 10 * 25) // 30 == 18
    assert announced(100, 10, 0) == 10


def test_an_epoch_takes_every_segment_once_block_by_block():
    segments = Segments([100, 5, 64], 10, 4)
    assert len(segments) == 15 + 1 + 9
    assert [segments.of(i) for i in (0, 14, 15, 16, 24)] == [
        (0, 0),
        (0, 84),
        (1, 0),
        (2, 0),
        (2, 48),
    ]
    plan_ = plan(segments, 4, 64)
    assert plan_.blocks.tolist() == [0, 8, 16, 25]
    for seed in (0, 1):
        taken = [plan_.at(seed, step) for step in range(6)]
        numbers = [n for _, batch in taken for n in batch]
        assert len(set(numbers)) == 24  # the 25th makes no batch
        for block, batch in taken:
            assert {np.searchsorted([8, 16], n, side="right") for n in batch} == {block}
        order = [block for block, _ in taken]
        assert order[::2] == order[1::2]  # a block is used up before the next
    epochs = [np.concatenate([plan_.at(0, 6 * e + i)[1] for i in range(6)]) for e in range(3)]
    assert not np.array_equal(epochs[0], epochs[1])
    assert len({tuple(plan_.at(0, 6 * e + i)[0] for i in range(6)) for e in range(9)}) > 1
    few = plan(Segments([5], 10, 0), 4, 64)
    assert few.at(0, 3)[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("limit", [40, 64, 1000])
def test_blocks_fit_in_memory(limit):
    segments = Segments([100, 5, 64, 300, 12, 12, 12], 10, 7)
    edges = plan(segments, 2, limit).blocks
    sizes = [
        sum(s.stop - s.first for s in segments.spans(a, b))
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]
    assert max(sizes) <= limit + 20  # the last block takes what makes no whole batch
    assert all(n % 2 == 0 for n in np.diff(edges)[:-1])
    assert sum(sizes) >= min(limit, 400)


# ---------------------------------------------------------------- reading


def test_batches_are_segments_of_the_songs(songs, features):
    examples = open_mixtures(options(features, overlap=4, memory=1), SPECTRA, ("voice",), 10)
    assert examples.sources == ("voice", "bass")
    batch = examples.batch(2, 7, 5)
    assert batch.shape == (5, 3, 1, 10, 129)
    again = open_mixtures(options(features, overlap=4, memory=1), SPECTRA, ("voice",), 10)
    again.batch(2, 8, 5)
    assert np.array_equal(again.batch(2, 7, 5), batch)
    assert not np.array_equal(batch, examples.batch(3, 7, 5))
    wholes = {n: np.asarray(SPECTRA.magnitudes(w))[[0, 2, 1]] for n, w in songs[1].items()}
    found = []
    for x in batch[:, :, 0]:
        places = [
            (name, at)
            for name, whole in wholes.items()
            for at in range(0, whole.shape[1] - 10, 6)
            if np.allclose(whole[:, at : at + 10], x, atol=1e-4)
        ]
        assert len(places) == 1
        found += places
    assert len(set(found)) == 5
    assert {name for name, _ in found} <= {"a", "b"}  # c validates
    mixture, sources = examples.inputs(jax.random.key(0), batch)
    assert np.array_equal(mixture, batch[:, 0])
    assert np.array_equal(sources, batch[:, 1:])


def test_a_song_shorter_than_a_segment_is_filled_up(features):
    examples = open_mixtures(options(features), SPECTRA, (), 1000)
    (x,) = examples.batch(0, 0, 1)
    assert x[..., :127, :].any()
    assert not x[..., 260:, :].any()


def test_sources_of_other_examples_are_summed(features):
    examples = open_mixtures(options(features, mix_features=0.5), SPECTRA, (), 10)
    raw = examples.batch(0, 0, 16)
    mixture, sources = map(np.asarray, jax.jit(examples.inputs)(jax.random.key(0), raw))
    mixed = np.abs(mixture - sources.sum(1)).max((1, 2, 3)) < 1e-3
    assert 2 < mixed.sum() < 14  # the magnitudes of the recorded mixtures are no sums
    assert np.array_equal(mixture[~mixed], raw[~mixed, 0])
    assert np.array_equal(sources[~mixed], raw[~mixed, 1:])
    for j in (0, 1):
        origin = [[np.array_equal(s, r) for r in raw[:, 1 + j]] for s in sources[:, j]]
        assert np.array(origin).any(1).all()


def test_validation_takes_whole_songs_of_features(songs, features):
    (one,) = open_mixtures(options(features), SPECTRA, (), 10).held_out()
    wanted = SPECTRA.magnitudes(songs[1]["c"])
    np.testing.assert_allclose(one[0][0, 0], wanted[0], atol=1e-4)
    np.testing.assert_allclose(one[1][0, :, 0], wanted[1:], atol=1e-4)


def test_features_of_another_transform_or_of_other_sources_are_refused(features):
    with pytest.raises(UserError, match="hop_length = 64, the network wants 128; .* --hop_length"):
        open_mixtures(options(features), Spectra(RATE, 1, 256, 128))
    with pytest.raises(UserError, match="has the sources bass, voice, not bass"):
        open_mixtures(options(features, stems=("bass",)), SPECTRA)
    with pytest.raises(UserError, match="mute_source changes waves, but .* holds features"):
        open_mixtures(options(features, mute_source=0.1), SPECTRA)
    with pytest.raises(UserError, match="no source drums"):
        open_mixtures(options(features), SPECTRA, ("drums",))


def test_nan_is_refused_by_its_place(tmp_path):
    magnitude = np.zeros((20, 3, 1, 129), np.float32)
    magnitude[7, 1, 0, 9] = np.nan
    write_song(tmp_path / "x", [{"magnitude": magnitude}], {})
    song = StoredSong("x", "", 20, tmp_path / "x")
    c = Reading(data=())
    examples = FeatureExamples(SPECTRA, ("a", "b"), (0, 1, 2), [song], [song], c, 10)
    with pytest.raises(UserError, match="x holds NaN or Inf in frame 7"):
        examples.batch(0, 0, 2)
    with pytest.raises(UserError, match="frame 7"):
        list(examples.held_out())


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    class Full:
        def add_examples(self, examples):
            raise RuntimeError("write() failed: No space left on device; writing x; at byte 7")

    monkeypatch.setattr("gensep.mixtures.feature_store._writer", lambda folder, block: Full())
    block = {"magnitude": np.zeros((20, 3, 1, 129), np.float32)}
    with pytest.raises(UserError, match=r"cannot write .*x: No space left on device; free some"):
        write_song(tmp_path / "x", [block], {})
    assert not list(tmp_path.iterdir())


def test_damaged_features_are_refused(features, tmp_path):
    song = StoredSong("x", "", 20, tmp_path / "nothing")
    with pytest.raises(UserError, match="nothing is damaged"):
        song.read(0, 5)
    stored, _ = open_features([str(features)], SPECTRA)
    with pytest.raises(UserError, match="have no roll"):
        stored[0].field("roll", 0, 5)


# ---------------------------------------------------------------- scores


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Two pieces in the layout of Bach10, with scores, and their features."""
    folder, output = tmp_path_factory.mktemp("bach10"), tmp_path_factory.mktemp("scored")
    notes = {
        "violin": "0.1,0.4,A4\n0.4,0.9,B4 ! a comment\n2,2.4,C#5\n",
        "saxphone": "0,0.8,Bb3\n1,1.3,?\n",
    }
    for i, name in enumerate(("01-Ach", "02-Christ")):
        (folder / name).mkdir()
        for j, source in enumerate(notes):
            wave = np.random.default_rng(2 * i + j).normal(0, 0.1, 3 * RATE).astype(np.float32)
            soundfile.write(folder / name / f"{name}-{source}.wav", wave, RATE, "FLOAT")
            (folder / name / f"{source}_b.txt").write_text(notes[source])
    command.main([str(folder), str(output), *TRANSFORM, "--scores", "auto"])
    return folder, output


@pytest.fixture(scope="module")
def filtered(scored):
    """The mixture of piece 01 filtered by the scores of saxophone and violin, and the sources."""
    folder, _ = scored
    names = ("saxphone", "violin")
    stems = [soundfile.read(folder / f"01-Ach/01-Ach-{n}.wav", dtype="float32")[0] for n in names]
    sources = np.asarray(SPECTRA.magnitudes(np.stack(stems)))
    mixture, grid = np.asarray(SPECTRA.magnitudes(sum(stems))), NoteGrid(RATE, 64, 256)
    notes = [read_notes(folder / f"01-Ach/{name}_b.txt") for name in names]
    rows = [note_rows(each, grid, len(mixture)) for each in notes]
    return mixture * harmonic_masks(rows, grid, len(mixture)), sources


def test_the_planes_are_the_mixture_filtered_by_the_scores(scored, filtered):
    planes, truth = filtered
    c = options(scored[1], overlap=5)
    examples = open_mixtures(c, SPECTRA, ("violin", "saxophone"), 375, scored=True)
    assert examples.sources == ("violin", "saxophone")
    raw = examples.batch(0, 0, 2)
    mixture, sources = examples.inputs(jax.random.key(0), raw)
    assert mixture.shape == (2, 2, 375, 129)
    assert sources.shape == (2, 2, 1, 375, 129)
    (one,) = [i for i in (0, 1) if np.allclose(sources[i, ::-1, 0], truth[:, :375], atol=1e-4)]
    np.testing.assert_allclose(mixture[one, ::-1], planes[:, :375], atol=1e-4)
    shown, sources = next(examples.held_out())
    np.testing.assert_allclose(shown[0, ::-1], planes, atol=1e-4)
    np.testing.assert_allclose(sources[0, ::-1, 0], truth, atol=1e-4)


def test_what_scores_need_is_refused_where_it_is_missing(scored, features, songs, tmp_path):
    folder, output = scored
    names = ("violin", "saxophone")
    for wrong in (songs[0], features):
        with pytest.raises(UserError, match="make_features --scores auto"):
            open_mixtures(options(wrong), SPECTRA, scored=True)
    with pytest.raises(UserError, match="leave out --mix_features"):
        open_mixtures(options(output, mix_features=0.5), SPECTRA, names, 30, scored=True)
    with pytest.raises(UserError, match="01-Ach lacks the score saxophone_g.txt"):
        command.main([str(folder), str(tmp_path), *TRANSFORM, "--scores", "_g"])


def test_a_changed_score_is_noticed(scored, tmp_path, capsys):
    folder = tmp_path / "songs"
    shutil.copytree(scored[0], folder)
    argv = [str(folder), str(tmp_path / "out"), *TRANSFORM, "--scores", "auto"]
    command.main(argv)
    (folder / "01-Ach/violin_b.txt").write_text("0,1,C5\n1,2,D5\n")
    command.main(argv)
    assert "1 written, 1 were up to date" in capsys.readouterr().out
    assert ScoreFiles("auto").of("fast") == "_g_fast20"


# ---------------------------------------------------------------- raw features


def write_raw(path, values, text=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    values.astype(np.float64).tofile(path)
    sizes = "\t".join(map(str, values.shape))
    path.with_suffix(".shape").write_text(f"#{sizes}" if text is None else text)


def test_raw_features_of_deepconvsep_are_read(tmp_path):
    x = np.random.default_rng(0).random((3, 40, 129))
    write_raw(tmp_path / "one_dsd_m_.data", x)
    write_raw(tmp_path / "one_dsd_p_.data", x[0])
    assert np.array_equal(map_raw(tmp_path / "one_dsd_p_.data"), x[0])
    examples = open_mixtures(options(tmp_path, stems=("a", "b")), SPECTRA, ("b",), 40)
    assert examples.sources == ("b", "a")
    (batch,) = examples.batch(0, 0, 1)
    np.testing.assert_array_equal(batch[:, 0], x[[0, 2, 1]].astype(np.float32))
    assert open_mixtures(options(tmp_path), SPECTRA).sources == ("source1", "source2")
    stereo = Spectra(RATE, 2, 256, 64)
    write_raw(tmp_path / "stereo/s_m_.data", np.arange(4 * 5 * 129).reshape(4, 5, 129))
    (both,) = open_mixtures(options(tmp_path / "stereo"), stereo, (), 5).batch(0, 0, 1)
    np.testing.assert_array_equal(both.reshape(4, 5, 129).ravel(), np.arange(4 * 5 * 129))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("#3\t41\t129", "has 123840 bytes, 126936 were expected for 3 x 41 x 129"),
        ("#3\t39\t129", "has 123840 bytes, 120744 were expected"),
        ("#3 40 129", "does not state sizes"),
        ("", "does not state sizes"),
        ("#-3\t-40\t129", "does not state sizes"),
        ("#120\t129", r"is \[120, 129\], expected"),
        ("#40\t3\t129", r"expected \[3 x 1 channels, frames, 129 bins\]"),
        ("#3\t129\t40", r"is \[3, 129, 40\], expected"),
    ],
)
def test_raw_features_of_wrong_sizes_are_refused(tmp_path, text, problem):
    write_raw(tmp_path / "one_m_.data", np.zeros((3, 40, 129)), text)
    with pytest.raises(UserError, match=problem):
        open_mixtures(options(tmp_path, stems=("a", "b")), SPECTRA)


LARGE = """
import resource, sys
import numpy as np
from gensep.mixtures.kinds import open_mixtures
from gensep.mixtures.options import Drawing
from gensep.representation.magnitude import Spectra

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
c = Drawing(data=(sys.argv[1],), overlap=25, memory=64, valid_share=0.0)
examples = open_mixtures(c, Spectra(n_fft=1024, hop_length=256), (), 30)
for step in range(0, 40000, 16000):
    batch = examples.batch(0, step, 32)
    assert batch.shape == (32, 5, 1, 30, 513)
frames = sum(song.frames for song in examples.train)
assert frames * 5 * 513 * 8 > 20e9
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_twenty_gigabytes_are_read_with_little_memory(tmp_path):
    frames = 500_000
    for name in ("one", "two"):
        path = tmp_path / f"{name}_m_.data"
        path.touch()
        os.truncate(path, 5 * frames * 513 * 8)
        if path.stat().st_blocks * 512 > 1e9:
            pytest.skip("the file system keeps no sparse files")
        path.with_suffix(".shape").write_text(f"#5\t{frames}\t513")
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert int(done.stdout.split()[-1]) < 1e6  # kilobytes
