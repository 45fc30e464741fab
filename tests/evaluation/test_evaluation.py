"""BSSEval against museval and closed forms; scoring and comparing whole folders."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from gensep import compare, evaluate
from gensep.evaluation import bsseval, campaign
from gensep.evaluation.bsseval import bss_eval
from gensep.evaluation.metrics import (
    frames,
    framewise_sdr,
    mel_rmse,
    msdm_gain,
    psnr,
    si_sdr,
)
from gensep.evaluation.statistics import ALL, Row, by_key, difference, friedman, interval
from gensep.runtime import errors
from gensep.runtime.spool import Spool
from helpers import ROOT, load

RATE = 8000


@lru_cache(1)
def museval():
    try:
        return load("scripts/museval_without_ffmpeg.py").import_museval()
    except errors.UserError as error:
        pytest.skip(str(error))


def sources(rng, count, channels, samples):
    """Return coloured noises and estimates: mixed, filtered and noisy, `[source, channel, n]`."""
    noise = rng.normal(size=(count, channels, samples))
    true = np.stack([lfilter([1], [1, -rng.uniform(-0.9, 0.9)], x) for x in noise])
    mixed = np.einsum("ij,jcn->icn", np.eye(count) + 0.2 * rng.normal(size=(count, count)), true)
    room = np.eye(8)[0] + 0.2 * rng.normal(size=8)
    estimates = lfilter(room, [1], mixed) + 0.05 * rng.normal(size=mixed.shape)
    return true.astype(np.float32), estimates.astype(np.float32)


def theirs(true, estimates, win, hop, mode="v4"):
    """Return museval's figures in the order of ours; win and hop in samples."""
    found = museval().metrics.bss_eval(
        true.swapaxes(1, 2).astype(float),
        estimates.swapaxes(1, 2).astype(float),
        window=win,
        hop=hop,
        framewise_filters=mode == "v3",
    )
    return found[:4]


def agree(ours, other, tolerance=1e-6):
    for name, a, b in zip(ours._fields, ours, other, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(
    ("count", "channels", "samples", "win", "hop", "mode"),
    [
        (2, 2, 14_000, 0.25, 0.25, "v4"),  # with silent frames
        (3, 1, 9_000, 0.2, 0.1, "v4"),  # overlapping frames, silent ones too
        (2, 1, 1_500, 1.0, 1.0, "v4"),  # a track shorter than a frame
        (2, 3, 7_000, 0.3, 0.5, "v4"),  # gaps between frames
        (3, 1, 30_000, np.inf, np.inf, "v4"),  # one frame of several blocks
        (2, 1, 9_000, 0.2, 0.25, "v3"),
    ],
)
def test_bsseval_is_that_of_museval(count, channels, samples, win, hop, mode):
    rng = np.random.default_rng(samples)
    true, estimates = sources(rng, count, channels, samples)
    other = sources(rng, count, channels, samples)[1]
    if samples > 8000 and np.isfinite(win):
        true[0, :, 5000:8500] = 0
        other[1, :, 500:4500] = 0
    ours = bss_eval(true, [estimates, other], RATE, win=win, hop=hop, mode=mode)
    for scores, estimated in zip(ours, (estimates, other), strict=True):
        in_samples = [x if x == np.inf else int(x * RATE) for x in (win, hop)]
        agree(scores, theirs(true, estimated, *in_samples, mode))
    if samples > 8000 and np.isfinite(win):
        assert np.isnan(ours[0].sdr).any()
        assert np.isnan(ours[1].sdr).sum() > np.isnan(ours[0].sdr).sum()


@pytest.mark.parametrize("seed", range(10))
def test_random_pairs_agree_with_museval(seed):
    rng = np.random.default_rng([seed, 7])
    channels, samples = 1 + (seed < 3), int(rng.integers(4000, 9000))
    true, estimates = sources(rng, 2, channels, samples)
    win, hop = int(rng.integers(500, 2000)), int(rng.integers(400, 3000))
    for signals in (true, estimates):
        start = rng.integers(samples - 1000)
        signals[rng.integers(2), :, start : start + rng.integers(1500, 3500)] = 0
    (ours,) = bss_eval(true, [estimates], 1, win=win, hop=hop, threads=1)
    agree(ours, theirs(true, estimates, win, hop))


def test_frames_are_museval_s():
    for samples, win, hop in ((100, 30, 30), (100, 30, 7), (90, 30, 45), (30, 30, 1), (10, 30, 5)):
        framing = museval().metrics.Framing(win, hop, samples)
        assert frames(samples, 1, win, hop) == [(s.start, s.stop) for s in framing]
    assert frames(100, 10, 0.55, 0.29) == [(at, at + 5) for at in range(0, 96, 2)]
    with pytest.raises(ValueError, match="at least a sample"):
        frames(100, 10, 1.0, 0.01)


def test_closed_forms():
    """Filtering within 512 taps costs ISR alone; a second source SIR alone; new noise SAR alone."""
    rng = np.random.default_rng(3)
    true = rng.normal(size=(2, 1, 40_000))
    filtered = np.copy(true)
    filtered[0, 0, 300:] += 0.5 * true[0, 0, :-300]  # energy 0.25 of it
    leaked = true + 0.1 * true[::-1]
    noisy = true + 0.1 * rng.normal(size=true.shape)
    one = {"win": np.inf, "hop": np.inf}
    a, b, c = bss_eval(true, [filtered, leaked, noisy], RATE, **one)
    assert a.isr[0] == pytest.approx(10 * np.log10(4), abs=0.1)
    # not infinite: the tail of 300 samples at the end is cut off
    assert a.sar[0] == pytest.approx(10 * np.log10(1.25 * 40_000 / (0.25 * 300)), abs=1)
    assert a.sir[0] > 40
    assert b.sir == pytest.approx(20, abs=0.2)
    assert b.sar.min() > 200
    assert c.sar == pytest.approx(20, abs=0.3)
    assert min(c.sir.min(), c.isr.min()) > 30
    for scores, estimates in ((a, filtered), (b, leaked), (c, noisy)):
        plain = framewise_sdr(estimates, true, RATE, **one)
        np.testing.assert_allclose(scores.sdr, plain, atol=1e-9)
    assert np.isinf(bss_eval(true, [true], RATE)[0].sdr).all()


def test_what_bsseval_refuses():
    true, estimates = sources(np.random.default_rng(0), 2, 2, 3000)
    with pytest.raises(ValueError, match="throughout, got"):
        bss_eval(true, [estimates[:, :, 1:]], RATE)
    with pytest.raises(ValueError, match="mode must be"):
        bss_eval(true, [estimates], RATE, mode="v5")
    true[1, 1] = -true[1, 0]  # museval adds the channels
    with pytest.raises(ValueError, match="reference 1 is silent throughout"):
        bss_eval(true, [estimates], RATE)
    with pytest.raises(ValueError, match="All the reference"):
        theirs(true, estimates, RATE, RATE)
    with pytest.raises(ValueError, match="estimate 1 is silent throughout"):
        bss_eval(estimates, [true], RATE)


def test_matrices_that_are_not_definite_go_another_way():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(6, 6))
    matrix += matrix.T - 3 * np.eye(6)
    right = rng.normal(size=(6, 2))
    found = bsseval._solve(matrix.reshape(2, 3, 2, 3).copy(), right)
    np.testing.assert_allclose(matrix @ found, right, atol=1e-9)
    singular = np.zeros((2, 3, 2, 3))
    singular[0, 0, 0, 0] = -1
    assert np.isfinite(bsseval._solve(singular, right)).all()
    # a source that is there twice
    true, estimates = sources(rng, 2, 1, 6000)
    twice = np.concatenate([true, true[:1]])
    (scores,) = bss_eval(twice, [np.concatenate([estimates, estimates[:1]])], RATE)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores.sdr[:2], bss_eval(true, [estimates], RATE)[0].sdr)


def test_spooled_waves_are_the_array():
    wave = np.random.default_rng(0).normal(size=(2, 2, 5000)).astype(np.float32)
    spool = Spool(3, 2, 6000)
    spool.write(2, [wave[0, :, :700], wave[0, :, 700:]])
    spool.write(1, [wave[1], wave[1]])  # cut at 6000
    whole = np.zeros((3, 2, 6000), np.float32)
    whole[2, :, :5000] = wave[0]
    whole[1] = np.concatenate([wave[1], wave[1, :, :1000]], axis=1)
    np.testing.assert_array_equal(spool[..., :], whole)
    np.testing.assert_array_equal(spool[..., 650:5020], whole[..., 650:5020])
    np.testing.assert_array_equal(spool.select([2, 2, 0])[..., 5:9], whole[[2, 2, 0]][..., 5:9])
    np.testing.assert_array_equal(np.concatenate(list(spool.blocks(2, 999)), 1), whole[2])
    true, estimates = sources(np.random.default_rng(1), 2, 2, 6000)
    (ours,) = bss_eval(true, [estimates], RATE)
    kept = [Spool(2, 2, 6000), Spool(2, 2, 6000)]
    for spool, waves in zip(kept, (true, estimates), strict=True):
        for i in range(2):
            spool.write(i, [waves[i]])
    np.testing.assert_array_equal(bss_eval(kept[0], [kept[1]], RATE)[0], ours)


def test_si_sdr_with_means():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=500) + 2
    estimate = reference + 0.1 * rng.normal(size=500)

    def ratio(estimate, reference):
        a = estimate @ reference / (reference @ reference)
        noise = estimate - a * reference
        return 10 * np.log10(a**2 * (reference @ reference) / (noise @ noise))

    centred = ratio(estimate - estimate.mean(), reference - reference.mean())
    assert si_sdr(estimate, reference) == pytest.approx(centred)
    assert centred < ratio(estimate, reference) - 3  # not without subtracting the means


def test_msdm_windows():
    """12 s: windows begin at 0, 2, 4, 6 and 8 s; those with one sounding source are dropped."""
    rng = np.random.default_rng(0)
    true = 0.1 * rng.normal(size=(2, 1, 12 * RATE))
    true[1, :, : 5 * RATE] = 0  # only the first source sounds in the window at 0
    mixture = true.sum(0, keepdims=True)
    estimates = true + 0.1 * true[::-1]
    gain = msdm_gain(estimates, true, mixture, RATE)
    assert gain.shape == (2, 4)
    assert gain[:, 2:] == pytest.approx(20, abs=0.5)
    quarter = msdm_gain(
        estimates[..., : 6 * RATE], true[..., : 6 * RATE], mixture[..., : 6 * RATE], RATE
    )
    np.testing.assert_allclose(quarter[:, 0], gain[:, 0])
    np.testing.assert_array_equal(
        msdm_gain(np.broadcast_to(mixture, true.shape), true, mixture, RATE), 0
    )


def test_psnr_of_the_best_permutation():
    rng = np.random.default_rng(0)
    true = rng.uniform(size=(3, 8, 8))
    noise = rng.normal(size=(3, 8, 8))
    noise *= (np.array([0.1, 0.01, 0.2]) / np.sqrt(np.mean(noise**2, (1, 2))))[:, None, None]
    expected = [20, 40, -20 * np.log10(0.2)]
    assert psnr(true + noise, true) == pytest.approx(expected)
    assert psnr((true + noise)[[2, 0, 1]], true) == pytest.approx(expected)
    assert psnr(255 * true, 255 * (true + noise), data_range=255) == pytest.approx(expected)
    assert psnr(true[::-1], true, permute=False)[1] == np.inf
    assert psnr(true[::-1], true, permute=False)[0] < 20
    assert np.isinf(psnr(true[::-1], true)).all()


def test_mel_rmse_in_decibels():
    reference = np.full((4, 5), 2.0)
    assert mel_rmse(reference * 10, reference, 0.0) == pytest.approx(10)
    half = reference.copy()
    half[:2] *= 100
    assert mel_rmse(half, reference, 0.0) == pytest.approx(np.sqrt(0.5) * 20)
    assert mel_rmse(reference * 0, reference, 2.0) == pytest.approx(10 * np.log10(2))


def write_song(folder, waves, rate=RATE):
    folder.mkdir(parents=True, exist_ok=True)
    for name, wave in waves.items():
        soundfile.write(folder / f"{name}.wav", wave.T, rate, subtype="FLOAT")


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Write three songs of two stems, true and estimated, and go there."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("a", "b", "c")):
        rng = np.random.default_rng(i)
        true, estimates = sources(rng, 2, 2, 18_000)
        true *= 0.1
        estimates *= 0.1
        if name == "b":
            true[0, :, 8000:17_000] = 0
        write_song(Path("true") / name, {"bass": true[0], "drums": true[1], "mixture": true.sum(0)})
        write_song(Path("est") / name, {"bass": estimates[0], "drums": estimates[1]})
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    """Return `run(command, *argv) -> (code, stdout, stderr)`, in process."""

    def go(command, *argv):
        monkeypatch.setattr(sys, "argv", ["x", *map(str, argv)])
        capsys.readouterr()
        code = 0
        try:
            errors.run(command.main)
        except SystemExit as done:
            code = done.code or 0
        return code, *capsys.readouterr()

    return go


def tree(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file()
    }


def strict(path):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(Path(path).read_text(), parse_constant=refuse)


def test_evaluation_is_what_museval_aggregates(corpus, run):
    code, out, err = run(evaluate, "est", "true", "--hop", "0.5")
    assert code == 0, err
    assert sorted(tree("scores/est")) == [
        "scores.csv",
        "scores.json",
        "test/a.json",
        "test/b.json",
        "test/c.json",
    ]
    store = museval().EvalStore(frames_agg="median", tracks_agg="median")
    store.add_eval_dir("scores/est")
    assert store.df["score"].isna().any()  # the silent frames of b
    medians = store.agg_frames_tracks_scores()
    scores = strict("scores/est/scores.json")
    summary = {(x["method"], x["source"], x["metric"]): x for x in scores["summary"]}
    for source in ("bass", "drums"):
        for metric in ("SDR", "ISR", "SIR", "SAR"):
            line = summary["estimate", source, metric]
            assert line["n"] == 3
            assert line["median"][0] == pytest.approx(medians[source, metric], abs=1e-5)
            low, high = line["median"][1:]
            assert low <= line["median"][0] <= high
            frames_of = store.df.query("target == @source and metric == @metric")["score"]
            assert line["pooled"] == pytest.approx(frames_of.median(), abs=1e-5)
    # the frames themselves
    read = [
        soundfile.read(f"{k}/a/{s}.wav")[0].T for k in ("true", "est") for s in ("bass", "drums")
    ]
    sdr = theirs(np.stack(read[:2]), np.stack(read[2:]), RATE, RATE // 2)[0]
    listed = strict("scores/est/test/a.json")["targets"]
    assert [t["name"] for t in listed] == ["bass", "drums"]
    assert [f["metrics"]["SDR"] for f in listed[1]["frames"]] == pytest.approx(sdr[1], abs=1e-5)
    assert [f["time"] for f in listed[1]["frames"]] == [0.0, 0.5, 1.0]
    # rows, the mixture among them, and the gain
    with open("scores/est/scores.csv", newline="") as file:
        rows = {tuple(r[:4]): r[4] for r in csv.reader(file)}
    assert rows["method", "song", "source", "metric"] == "value"
    values = [float(rows[m, "c", "drums", "si_sdr"]) for m in ("estimate", "mixture")]
    assert float(rows["estimate", "c", "drums", "si_sdr_gain"]) == pytest.approx(
        values[0] - values[1], abs=1e-5
    )
    assert float(rows["mixture", "c", "drums", "si_sdr_gain"]) == 0
    assert {"numpy", "scipy"} <= set(scores["versions"])
    assert "median over frames" in out
    assert "| estimate | 3 |" in out


def test_finished_songs_are_left_alone_and_restarts_change_nothing(corpus, run, monkeypatch):
    assert run(evaluate, "est", "true", "--metrics", "bsseval", "si_sdr", "msdm")[0] == 0
    first = tree("scores/est")
    scored = []
    real = campaign.write_song_scores
    monkeypatch.setattr(
        campaign,
        "write_song_scores",
        lambda place, *rest: (scored.append(place.stem), real(place, *rest)),
    )
    again = ("est", "true", "--metrics", "bsseval", "si_sdr", "msdm")
    assert run(evaluate, *again)[0] == 0
    assert scored == []
    Path("scores/est/test/b.json").write_text('{"targets": [')  # cut short
    assert run(evaluate, *again)[0] == 0
    assert scored == ["b"]
    assert tree("scores/est") == first
    os.utime("est/c/bass.wav", (1, 1))  # another file in its place
    assert run(evaluate, *again)[0] == 0
    assert scored == ["b", "c"]
    assert run(evaluate, *again, "--win", "0.5")[0] == 0
    assert scored == ["b", "c", "a", "b", "c"]


def test_killed_half_way_and_continued_by_two_processes(corpus):
    command = [sys.executable, "-m", "gensep.evaluate", "est", "true"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "-j", "2"], env=env, check=True, capture_output=True)
    whole = tree("scores/est")
    shutil.rmtree("scores")
    running = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while not Path("scores/est/test/a.json").exists() and time.monotonic() < end:
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    part = tree("scores/est")
    assert "test/a.json" in part
    assert "scores.json" not in part
    subprocess.run(command, env=env, check=True, capture_output=True)
    left = {name: data for name, data in tree("scores/est").items() if ".part" not in name}
    assert left == whole


def test_lengths_silence_and_stray_stems_are_told(corpus, run):
    bass, _ = soundfile.read("est/a/bass.wav")
    soundfile.write("est/a/bass.wav", bass[:-100], RATE, subtype="FLOAT")
    write_song(Path("est/a"), {"choir": bass.T})
    soundfile.write("true/b/bass.wav", 0 * bass, RATE, subtype="FLOAT")
    write_song(Path("est/only"), {"bass": bass.T})
    shutil.rmtree("true/c")
    code, _, err = run(
        evaluate, "est", "true", "--mixture", "false", "--compat_nan", "--output", "s"
    )
    assert code == 0, err
    for note in (
        "a: estimate of bass padded with zeros by 100 samples",
        "a: choir has no reference",
        "b: bass's reference is silent throughout",
        "only has no reference",
        "c has no reference",
    ):
        assert f"note: {note}" in err
    scores = strict("s/scores.json")
    assert {row["method"] for row in scores["rows"]} == {"estimate"}
    values = {(r["song"], r["source"], r["metric"]): r["value"] for r in scores["rows"]}
    assert values["b", "bass", "si_sdr"] is None
    assert ("b", "bass", "SDR") not in values
    assert values["b", "drums", "SAR"] is not None
    # one source alone has no interference
    assert values["b", "drums", "SIR"] is None
    assert "NaN" in Path("s/test/b.json").read_text()
    padded = np.pad(bass[:-100].T, ((0, 0), (0, 100)))
    true, _ = soundfile.read("true/a/bass.wav")
    assert values["a", "bass", "si_sdr"] == pytest.approx(si_sdr(padded, true.T), abs=1e-5)


def test_all_metrics_and_the_oracle(corpus, run):
    code, _, err = run(
        evaluate,
        "est/a",
        "true/a",
        "--metrics",
        "sdr",
        "si_sdr",
        "mel",
        "msdm",
        "--oracle",
        "--name",
        "mine",
    )
    assert code == 0, err
    values = {
        (r["method"], r["source"], r["metric"]): r["value"]
        for r in strict("scores/mine/scores.json")["rows"]
    }
    assert {m for m, _, _ in values} == {"estimate", "mixture", "oracle"}
    assert {m for _, _, m in values} == {"SDR", "si_sdr", "si_sdr_gain", "mel_rmse", "msdm_gain"}
    for source in ("bass", "drums"):
        assert values["mixture", source, "msdm_gain"] == 0
        assert values["oracle", source, "mel_rmse"] < values["mixture", source, "mel_rmse"]
        assert values["oracle", source, "si_sdr_gain"] > 0
        frames_of = framewise_sdr(
            *(
                np.stack(
                    [
                        soundfile.read(f"{k}/a/{s}.wav", dtype="float32")[0].T
                        for s in ("bass", "drums")
                    ]
                )
                for k in ("est", "true")
            ),
            RATE,
        )
        assert values["estimate", source, "SDR"] == pytest.approx(
            np.median(frames_of[("bass", "drums").index(source)]), abs=1e-5
        )


def test_bad_input_is_one_line_and_leaves_nothing(corpus, run):
    def refused(words, command, *argv):
        code, out, err = run(command, *argv)
        assert code == 2
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1
        assert words in err
        assert out == ""
        assert not Path("scores").exists()
        assert not Path("comparison").exists()

    refused("there is no folder none", evaluate, "est", "none")
    refused("metrics must be one of bsseval, sdr", evaluate, "est", "true", "--metrics", "pesq")
    refused("win and hop must be positive", evaluate, "est", "true", "--hop", "0")
    refused("--output knows {name}", evaluate, "est", "true", "--output", "{x}")
    refused("has no split", evaluate, "est", "true", "--split", "test")
    shutil.copytree("est/a", "other/z")
    refused("no song of other (z) is called like one of true (a, b, c)", evaluate, "other", "true")
    soundfile.write("est/b/drums.wav", np.ones((100, 2)), 2 * RATE)
    refused(
        "b: the estimate of drums has 2 channels of 100 samples at 16000 Hz, the references 2 "
        "channels of 18000 samples at 8000 Hz",
        evaluate,
        "est",
        "true",
    )
    refused("expected folders that gensep.evaluate wrote", compare)
    refused("cannot read est/scores.json", compare, "est")
    Path("est/scores.json").write_text("{}")
    refused("holds no scores", compare, "est")


def test_splits_keep_songs_of_one_name_apart(corpus, run):
    for side in ("true", "est"):
        Path(side, "train").mkdir()
        Path(side, "test").mkdir()
        shutil.move(f"{side}/a", f"{side}/train/a")
        shutil.move(f"{side}/b", f"{side}/test/a")
        shutil.rmtree(f"{side}/c")
    code, _, err = run(evaluate, "est", "true", "--metrics", "si_sdr")
    assert code == 0, err
    assert {"train/a.json", "test/a.json"} <= set(tree("scores/est"))
    shutil.rmtree("scores")
    code, _, err = run(evaluate, "est", "true", "--metrics", "si_sdr", "--split", "train")
    assert code == 0, err
    assert "test/a.json" not in tree("scores/est")
    assert "note" not in err
    code, _, err = run(evaluate, "est/test", "true", "--metrics", "si_sdr")
    assert code == 2
    assert "has 2 songs a, in test, train; choose one with --split" in err


def test_figures_by_key_and_their_mean_over_sources():
    rows = [
        Row("m", song, source, "SDR", value)
        for song, source, value in (
            ("x", "a", 1.0),
            ("x", "b", 3.0),
            ("y", "a", 5.0),
            ("y", "b", None),
        )
    ]
    table = by_key(rows)
    assert table["m", "a", "SDR"] == {"x": 1, "y": 5}
    assert table["m", ALL, "SDR"] == {"x": 2}


def test_statistics_on_known_data():
    rng = np.random.default_rng(0)
    values = rng.normal(1, 1, 300)
    median = interval(values, np.median)
    assert median.value == np.median(values)
    # the standard error of a normal median is sqrt(pi / 2 n)
    half = 1.96 * np.sqrt(np.pi / 600)
    assert (median.low, median.high) == pytest.approx((1 - half, 1 + half), abs=0.1)
    first = {str(i): float(v) for i, v in enumerate(values)}
    better = {song: value + 0.5 for song, value in first.items() if song != "7"}
    found = difference(first, better)
    assert found.n == 299
    assert found.mean == pytest.approx((0.5, 0.5, 0.5))
    assert found.p < 1e-40
    assert difference(first, first).p == 1
    # five songs, all better: p = 2 / 2^5
    few = {str(i): float(i) for i in range(5)}
    assert difference(few, {s: v + 1 + v / 10 for s, v in few.items()}).p == pytest.approx(1 / 16)
    # Friedman: k = 3 methods in one order on n = 4 songs, chi2 = n (k - 1)
    methods = [{str(i): i + 10.0 * m for i in range(4)} for m in range(3)]
    n, chi2, p = friedman(methods)
    assert (n, chi2) == (4, pytest.approx(8))
    assert p == pytest.approx(np.exp(-4))  # two degrees of freedom
    assert friedman(methods[:2]) is None
    assert friedman([methods[0]] * 3) == (4, 0, 1)


def scores_of(folder, method, shift, songs="abcdefgh"):
    """Write what evaluate would have: SDR of two sources."""
    rows = [
        {
            "method": who,
            "song": song,
            "source": source,
            "metric": "SDR",
            "value": base + i + (0.0 if who == "mixture" else shift + 0.1 * i),
        }
        for who in ("estimate", "mixture")
        for i, song in enumerate(songs)
        for source, base in (("bass", 10.0), ("drums", 5.0))
    ]
    Path(folder).mkdir(parents=True)
    Path(folder, "scores.json").write_text(json.dumps({"method": method, "rows": rows}))


def test_comparison(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    scores_of("runs/x", "x", 0.0)
    scores_of("runs/y", "y", 2.0)
    scores_of("runs/z", "z", 1.0, "abcdefg")
    code, out, err = run(compare, "runs/x", "runs/y", "runs/z")
    assert code == 0, err
    assert "SDR of bass: 1 songs left out that not every method has a figure for; 7 kept" in err
    assert "chi2 14.00" in out  # 7 songs, three methods, always in one order
    assert sorted(tree("comparison")) == [
        "bars_SDR.png",
        "boxes_SDR.png",
        "comparison.csv",
        "comparison.md",
        "conover_SDR.png",
        "songs_SDR.png",
    ]
    page = Path("comparison/comparison.md").read_text()
    assert "| mixture |" in page
    assert "2.00 [2.00, 2.00], p 0.016" in page  # 2 / 2^7
    with open("comparison/comparison.csv", newline="") as file:
        lines = {(r["source"], r["method"], r["statistic"]): r for r in csv.DictReader(file)}
    assert float(lines["bass", "x", "median"]["value"]) == pytest.approx(13.3)
    assert float(lines["all", "mixture", "median"]["value"]) == pytest.approx(10.5)
    gain = lines["drums", "z", "difference from x"]
    assert [float(gain[k]) for k in ("n", "value", "low", "high")] == pytest.approx([7, 1, 1, 1])
    code, out, _ = run(
        compare, "runs/x", "--statistic", "mean", "--picture", "false", "--output", "one"
    )
    assert code == 0
    assert "mean over 8 songs" in out
    assert "Paired" not in out
    code, _, err = run(compare, "runs/x", "--metrics", "SIR")
    assert (code, err) == (2, "error: no run has the metric SIR; they have SDR\n")
    scores_of("runs2/x", "x", 1.0)
    assert run(compare, "runs/x", "runs2/x")[0] == 2
