"""Published protocols: the old BSSEval against mir_eval and museval, gains, averages, excerpts."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from gensep import compare, evaluate
from gensep.cli.config import help_text
from gensep.datasets.layouts import find_songs
from gensep.evaluation import bsseval, campaign
from gensep.evaluation.bsseval import bss_eval
from gensep.evaluation.excerpts import draw_excerpts
from gensep.evaluation.measures import METRICS, Protocol, SongWaves
from gensep.evaluation.protocols import PROTOCOLS, describe
from gensep.evaluation.scoring import Pair
from gensep.evaluation.statistics import deviation, power_mean
from gensep.runtime import errors
from gensep.runtime.errors import UserError
from gensep.runtime.spool import spooled
from helpers import load

RATE = 500
TAPS = 16
NAMES = ("bass", "drums")


@pytest.fixture(scope="module")
def museval():
    return load("scripts/museval_without_ffmpeg.py").import_museval().metrics.bss_eval


@pytest.fixture
def short_filters(monkeypatch):
    """Fit filters of 16 taps, which is quick; their length is a constant of the module."""
    monkeypatch.setattr(bsseval, "TAPS", TAPS)


def sources(seed, count, channels, samples):
    """Return coloured noises and estimates: leaky, filtered, noisy; float32 `[source, c, n]`."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, channels, samples))
    true = 0.1 * np.stack([lfilter([1], [1, -rng.uniform(-0.9, 0.9)], x) for x in noise])
    leaky = true + 0.2 * true.sum(0) + 0.02 * rng.normal(size=true.shape)
    return true.astype(np.float32), lfilter([1, 0.3], [1], leaky).astype(np.float32)


def theirs(museval, true, estimates, win, hop, *, framewise, as_sources):
    """Return museval's SDR, ISR, SIR and SAR with filters of 16 taps; win and hop in samples."""
    return museval(
        true.swapaxes(1, 2).astype(float),
        estimates.swapaxes(1, 2).astype(float),
        window=win,
        hop=hop,
        filters_len=TAPS,
        framewise_filters=framewise,
        bsseval_sources_version=as_sources,
    )[:4]


@pytest.mark.parametrize("mode", ["v3", "v4"])
@pytest.mark.parametrize(("count", "channels"), [(3, 1), (2, 2)])
def test_sources_are_museval_s(museval, short_filters, count, channels, mode):
    true, estimates = sources(count, count, channels, 3000)
    true[0, :, 900:1700] = 0  # a silent frame
    (ours,) = bss_eval(true, [estimates], 1, win=700, hop=500, mode=mode, target="sources")
    other = theirs(museval, true, estimates, 700, 500, framewise=mode == "v3", as_sources=True)
    for name, a, b in zip(ours._fields, ours, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6, err_msg=name)
    assert np.isnan(ours.sdr).any()
    assert np.isfinite(ours.sdr).any()
    with pytest.raises(ValueError, match="target must be"):
        bss_eval(true, [estimates], 1, target="both")


@pytest.fixture
def mir_eval(monkeypatch, short_filters):
    """Return mir_eval's module, which goes with version 0.9, with filters of 16 taps in it."""
    separation = pytest.importorskip("mir_eval.separation")
    for name in ("_bss_decomp_mtifilt", "_bss_decomp_mtifilt_images"):
        monkeypatch.setattr(separation, name, with_16_taps(getattr(separation, name)))
    return separation


def with_16_taps(decompose):
    return lambda references, estimate, j, _, *rest: decompose(references, estimate, j, TAPS, *rest)


@pytest.mark.filterwarnings("ignore:mir_eval:FutureWarning")
def test_old_measures_are_mir_eval_s(mir_eval):
    """Sources of a whole song, and images frame by frame."""
    true, estimates = sources(0, 2, 1, 4000)
    (ours,) = bss_eval(true, [estimates], 1, win=np.inf, mode="v3", target="sources")
    other = mir_eval.bss_eval_sources(true[:, 0], estimates[:, 0], compute_permutation=False)
    for a, b in zip((ours.sdr, ours.sir, ours.sar), other, strict=False):
        np.testing.assert_allclose(a[:, 0], b, rtol=0, atol=1e-6)
    assert np.isnan(ours.isr).all()
    (ours,) = bss_eval(true, [estimates], 1, win=2000, hop=1000, mode="v3")
    other = mir_eval.bss_eval_images_framewise(
        true.swapaxes(1, 2), estimates.swapaxes(1, 2), 2000, 1000
    )
    for a, b in zip(ours, other, strict=False):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def song_waves(true, estimates, mixture=None):
    """Return waves of a song as metrics get them, the mixture as an estimate among them."""
    shape = true.shape[1:]
    mixed = spooled([[true.sum(0) if mixture is None else mixture]], *shape)
    methods = {"estimate": spooled([[y] for y in estimates], *shape)}
    methods["mixture"] = mixed.select([0] * len(true))
    return SongWaves(NAMES, methods, spooled([[s] for s in true], *shape), mixed, 1)


@pytest.mark.filterwarnings("ignore:mir_eval:FutureWarning")
def test_channels_apart_are_sources_of_mir_eval(mir_eval):
    true, estimates = sources(1, 2, 2, 4000)
    protocol = Protocol(("bsseval",), win=0, mode="v3", channels="apart")
    found = METRICS["bsseval"].measure(song_waves(true, estimates), protocol)
    rows = (x.reshape(4, -1) for x in (true, estimates))
    other = mir_eval.bss_eval_images(*rows, compute_permutation=False)
    for name, values in zip(("SDR", "ISR", "SIR", "SAR"), other, strict=False):
        expected = values.reshape(2, 2).mean(1)  # of the channels
        np.testing.assert_allclose(found["estimate"][name][:, 0], expected, rtol=0, atol=1e-5)


def test_channels_that_are_silent_are_left_out(short_filters):
    true, estimates = sources(2, 2, 2, 2000)
    true[0, 1] = 0
    protocol = Protocol(("bsseval",), win=0, channels="apart")
    song = song_waves(true, estimates)
    got = METRICS["bsseval"].measure(song, protocol)["estimate"]["SDR"][:, 0]
    error = np.sum((estimates - true).astype(float) ** 2, -1)
    sdr = 10 * np.log10(np.sum(true.astype(float)[[0, 1, 1], [0, 0, 1]] ** 2, -1))
    sdr -= 10 * np.log10(error[[0, 1, 1], [0, 0, 1]])
    assert got == pytest.approx([sdr[0], sdr[1:].mean()], abs=1e-6)
    quiet = song_waves(true * [[[1], [0]], [[0], [1]]], estimates * [[[0], [1]], [[1], [0]]])
    assert METRICS["bsseval"].measure(quiet, protocol) == {}


def test_every_channel_of_a_spool():
    wave = np.random.default_rng(0).normal(size=(3, 2, 700)).astype(np.float32)
    spool = spooled([[x] for x in wave], 2, 700).select([2, 0])
    apart = spool.by_channel()
    assert apart.shape == (4, 1, 700)
    np.testing.assert_array_equal(apart[..., 5:90], wave[[2, 0]].reshape(4, 1, 700)[..., 5:90])
    np.testing.assert_array_equal(apart.select([3])[..., :], wave[:1, 1:])
    np.testing.assert_array_equal(np.concatenate(list(apart.blocks(1, 99)), 1), wave[2, 1:])


@pytest.mark.parametrize("target", ["images", "sources"])
def test_gains_are_differences_from_the_mixture(short_filters, target):
    true, estimates = sources(4, 2, 1, 3000)
    noise = 0.01 * np.random.default_rng(0).normal(size=(1, 3000))
    song = song_waves(true, estimates, (true.sum(0) + noise).astype(np.float32))
    protocol = Protocol(("nsdr",), win=1000, hop=500, mode="v3", target=target)
    found = METRICS["nsdr"].measure(song, protocol)
    how = {"win": 1000, "hop": 500, "mode": "v3", "target": target}
    doubled = np.repeat(song.mixture[..., :], 2, axis=0)
    a, b = bss_eval(true, [estimates, doubled], 1, **how)
    assert found["estimate"]["SDR"].shape == (2, 5)
    for name in ("sdr", "sir", "sar"):
        gain = found["estimate"][f"N{name.upper()}"]
        np.testing.assert_allclose(gain, getattr(a, name) - getattr(b, name), atol=1e-9)
        assert not found["mixture"][f"N{name.upper()}"].any()
    assert ("ISR" in found["estimate"]) == (target == "images")
    without = song._replace(methods={"estimate": song.methods["estimate"]})
    alone = METRICS["nsdr"].measure(without, protocol)
    assert alone.keys() == {"estimate"}
    np.testing.assert_array_equal(alone["estimate"]["NSDR"], found["estimate"]["NSDR"])
    silent = song_waves(true, estimates, np.zeros((1, 3000), np.float32))
    assert np.isnan(METRICS["nsdr"].measure(silent, protocol)["estimate"]["NSDR"]).all()


def test_power_mean_and_deviation_by_hand():
    assert power_mean([10.0, 20.0]) == pytest.approx(10 * np.log10(55))
    table = np.array([[0.0, 10.0], [30.0, 30.0]])
    assert power_mean(table, axis=1) == pytest.approx([10 * np.log10(5.5), 30])
    assert deviation([1.0, 2.0, 3.0, 6.0]) == pytest.approx(np.sqrt(14 / 3))
    assert deviation([1.0]) is None


@pytest.fixture
def corpus(tmp_path, monkeypatch, short_filters):
    """Write three stereo songs of 9 to 13 s, true and estimated, and go there."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abc"):
        true, estimates = sources(seed, 2, 2, (9 + 2 * seed) * RATE)
        for side, waves in (("true", true), ("est", estimates)):
            Path(side, name).mkdir(parents=True)
            for stem, wave in zip(NAMES, waves, strict=True):
                soundfile.write(f"{side}/{name}/{stem}.wav", wave.T, RATE, subtype="FLOAT")
    return {name: sources(i, 2, 2, (9 + 2 * i) * RATE) for i, name in enumerate("abc")}


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


def read_scores(folder):
    """Return the record of a run and its values by (method, song, source, metric)."""
    scores = json.loads(Path(folder, "scores.json").read_text())
    rows = {(r["method"], r["song"], r["source"], r["metric"]): r["value"] for r in scores["rows"]}
    return scores, rows


STATISTIC = {"median": np.nanmedian, "mean": np.mean, "power": power_mean}
EXPECTED = {  # window and hop in samples, filters per frame, sources, over frames, over songs
    "sisec18": (RATE, RATE, False, False, "median", "median"),
    "dsd100": (30 * RATE, 15 * RATE, True, False, "power", "power"),
    "ikala": (np.inf, np.inf, True, True, "mean", "mean"),
    "bach10": (np.inf, np.inf, True, True, "mean", "mean"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_protocols_are_what_the_ancestors_computed(corpus, run, museval, monkeypatch, name):
    """Songs are scored, and averaged, as by museval with the arguments of the protocol."""
    win, hop, framewise, as_sources, over_frames, over_songs = EXPECTED[name]
    shorter = []
    if name == "dsd100":  # songs of 10 s would be one frame: take a tenth of its seconds
        shorter = ["--win", 3, "--hop", 1.5]
        win, hop = win // 10, hop // 10
    code, out, err = run(evaluate, "est", "true", "--protocol", name, *shorter)
    assert code == 0, err
    scores, rows = read_scores("scores/est")
    sdr = {}
    for song, (true, estimates) in corpus.items():
        kind = {"framewise": framewise, "as_sources": as_sources}
        sdr[song] = theirs(museval, true, estimates, win, hop, **kind)[0]
        for source, frames in zip(NAMES, sdr[song], strict=True):
            expected = STATISTIC[over_frames](frames)
            assert rows["estimate", song, source, "SDR"] == pytest.approx(expected, abs=2e-5)
            if name == "ikala":
                mixed = np.repeat(true.sum(0, keepdims=True), 2, axis=0)
                base = theirs(museval, true, mixed, win, hop, **kind)[0]
                gain = expected - base[NAMES.index(source), 0]
                assert rows["estimate", song, source, "NSDR"] == pytest.approx(gain, abs=2e-5)
    summary = {(x["method"], x["source"], x["metric"]): x for x in scores["summary"]}
    line = summary["estimate", "bass", "SDR"]
    values = [rows["estimate", song, "bass", "SDR"] for song in "abc"]
    assert line[over_songs][0] == pytest.approx(STATISTIC[over_songs](values), abs=2e-5)
    assert line["sd"] == pytest.approx(np.std(values, ddof=1), abs=2e-6)
    pooled = STATISTIC[over_frames](np.concatenate([x[0] for x in sdr.values()]))
    assert line["pooled"] == pytest.approx(pooled, abs=2e-5)
    assert (line["power"] is None) == (over_songs != "power")
    frame = json.loads(Path("scores/est/test/a.json").read_text())["targets"][0]["frames"][0]
    assert frame["duration"] == (win / RATE if np.isfinite(win) else 9)
    assert f"| n | {over_songs} " in out
    assert f"protocol {name}: " in out
    assert scores["protocol"] in out
    assert scores["aggregation"] in out
    assert scores["options"]["protocol"] == name
    assert ("; changed: win, hop" in out) == (name == "dsd100")


def test_published_numbers_of_the_rows():
    assert PROTOCOLS.keys() == {*EXPECTED, "mir_eval_excerpts"}
    for name, (win, hop, framewise, as_sources, *over) in EXPECTED.items():
        p = PROTOCOLS[name]
        assert p.protocol == name
        assert p.win == (win / RATE if np.isfinite(win) else 0)
        assert not np.isfinite(hop) or p.hop == hop / RATE
        assert (p.mode == "v3", p.target == "sources") == (framewise, as_sources)
        assert [p.over_frames, p.over_songs] == over
    p = PROTOCOLS["mir_eval_excerpts"]
    assert (p.excerpt, p.excerpts, p.channels, p.win, p.over_songs) == (6, 50, "apart", 0, "mean")


def test_excerpts_are_scored_alone(corpus, run):
    """The scores of an excerpt are those of its samples; a protocol's options can be changed."""
    argv = ("est", "true", "--protocol", "mir_eval_excerpts", "--excerpts", 5, "--excerpt", 2)
    code, out, err = run(evaluate, *argv, "--metrics", "bsseval", "si_sdr")
    assert code == 0, err
    assert "est: 5 excerpts\n" in out
    assert "5 excerpts of 2 s at random, seed 0; changed: metrics, excerpt, excerpts\n" in out
    scores, rows = read_scores("scores/est")
    songs = {song for _, song, _, _ in rows}
    assert sorted(song[0] for song in songs) in (list("aabbc"), list("aabcc"), list("abbcc"))
    assert {f"{song}.json" for song in songs} == {p.name for p in Path("scores/est/test").iterdir()}
    for song in songs:
        start = round(float(song.split()[1]) * RATE)
        true, estimates = (x[:, :, start : start + 2 * RATE] for x in corpus[song[0]])
        assert true.shape[-1] == 2 * RATE
        error = (estimates - true).astype(float)
        sdr = 10 * np.log10(np.sum(true.astype(float) ** 2, -1) / np.sum(error**2, -1))
        for source, expected in zip(NAMES, sdr.mean(1), strict=True):
            assert rows["estimate", song, source, "SDR"] == pytest.approx(expected, abs=2e-5)
    first = Path("scores/est/scores.csv").read_bytes()
    assert run(evaluate, *argv, "--metrics", "bsseval", "si_sdr", "--force")[0] == 0
    assert Path("scores/est/scores.csv").read_bytes() == first
    assert run(evaluate, *argv, "--metrics", "bsseval", "si_sdr", "--seed", 1)[0] == 0
    assert Path("scores/est/scores.csv").read_bytes() != first


def test_excerpts_depend_on_seed_and_name_alone(corpus):
    pairs = [Pair(*songs) for songs in zip(find_songs("est"), find_songs("true"), strict=True)]

    def names(protocol, chosen=pairs):
        return [pair.reference.name for pair in draw_excerpts(chosen, protocol)]

    assert draw_excerpts(pairs, Protocol()) == pairs
    one_each = names(Protocol(excerpt=2.0))
    assert [name[0] for name in one_each] == list("abc")
    assert names(Protocol(excerpt=2.0), pairs[1:]) == one_each[1:]
    assert names(Protocol(excerpt=2.0, seed=1)) != one_each
    assert len(names(Protocol(excerpt=2.0, excerpts=2))) == 2
    many = names(Protocol(excerpt=2.0, excerpts=600))
    assert set(one_each) < set(many)
    starts = np.array([float(name.split()[1]) for name in many if name[0] == "a"])
    assert len(starts) > 190  # hardly any twice
    assert starts.min() < 0.2
    assert 6.8 < starts.max() <= 7  # of 9 s
    assert abs(starts.mean() - 3.5) < 0.6
    whole = draw_excerpts(pairs, Protocol(excerpt=10.0, excerpts=6))
    assert [p.reference.name for p in whole][0] == "a 0.000 s"  # 9 s: taken whole, once
    assert whole[0].estimate.shape().samples == 9 * RATE
    assert {p.reference.shape().samples for p in whole[1:]} == {10 * RATE}
    assert {p.estimate.name == p.reference.name for p in whole} == {True}


def test_the_command_line_names_protocols_and_refuses_others(corpus, run):
    text = " ".join(help_text(evaluate.Config).split())
    assert all(f"{name} is " in text for name in PROTOCOLS)
    for words, argv in (
        (f"protocol must be one of {', '.join(PROTOCOLS)}, not 'mirex'", ("--protocol", "mirex")),
        ("5 excerpts have no length; give --excerpt SECONDS", ("--excerpts", "5")),
        ("metric sdr does not know sources", ("--protocol", "bach10", "--metrics", "sdr")),
        ("over_songs must be one of median, mean, power, not 'max'", ("--over_songs", "max")),
        ("excerpt must be a number", ("--excerpt", "long")),
    ):
        code, out, err = run(evaluate, "est", "true", *argv)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {words}")
        assert len(err.splitlines()) == 1
    assert not Path("scores").exists()
    with pytest.raises(UserError, match="excerpt, excerpts and seed must be at least 0"):
        Protocol(excerpt=-1.0)
    with pytest.raises(UserError, match="channels must be one of together, apart, not 'left'"):
        Protocol(channels="left")
    assert describe(Protocol(("si_sdr",), excerpt=2.0, seed=3)) == (
        "protocol sisec18: metrics si_sdr; an excerpt of each song of 2 s at random, seed 3; "
        "changed: metrics, excerpt, seed"
    )


def test_options_win_over_the_protocol_and_comparisons_name_it(corpus, run):
    """A row of a protocol is a start: what is given explicitly counts."""
    argv = ("est", "true", "--protocol", "bach10", "--output", "one")
    assert run(evaluate, *argv, "--target", "images", "--over_songs", "power", "--win", 2)[0] == 0
    scores, rows = read_scores("one")
    options = scores["options"]
    assert (options["mode"], options["target"], options["win"]) == ("v3", "images", 2)
    assert ("estimate", "a", "bass", "ISR") in rows
    assert "changed: win, target, over_songs" in scores["protocol"]
    campaign.evaluate("est", "true", "two", "second", Protocol(("sdr",)))
    code, out, err = run(compare, "one", "two", "--metrics", "SDR")
    assert code == 0, err
    assert "note: the runs were scored by different protocols; score them by one" in err
    page = Path("comparison/comparison.md").read_text()
    for text in (scores["protocol"], "protocol sisec18: metrics sdr", "SDR: power over 3 songs"):
        assert text in page
        assert text in out
    values = [rows["estimate", song, "bass", "SDR"] for song in "abc"]
    assert f"{np.mean(values):.2f} +- {np.std(values, ddof=1):.2f}" in page
    with open("comparison/comparison.csv", newline="") as file:
        keys = ("source", "method", "statistic")
        lines = {tuple(r[k] for k in keys): float(r["value"]) for r in csv.DictReader(file)}
    assert lines["bass", "est", "power"] == pytest.approx(power_mean(values), abs=1e-5)
    spread = [lines["bass", "est", f"{name} of songs"] for name in ("mean", "sd")]
    assert spread == pytest.approx([np.mean(values), np.std(values, ddof=1)], abs=1e-5)
    assert Path("comparison/bars_SDR.png").stat().st_size > 1000
