"""The listening page without a browser: every track to the sample, one line per mistake."""

import base64
import io
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from gensep import report
from gensep.cli import config
from gensep.cli.records import command
from gensep.evaluation.metrics import si_sdr
from gensep.listening import page, tracks
from gensep.listening.report import make_report
from gensep.plots.spectrograms import image, mel_places
from gensep.representation.mel import Representation
from gensep.runtime import errors
from gensep.runtime.errors import UserError
from helpers import load, tinyrun

RATE = tinyrun.RATE
ORDER = [
    ("mixture", ""),
    *((role, name) for name in ("low", "high") for role in ("estimate", "reference", "oracle")),
]


@pytest.fixture
def made(tmp_path, monkeypatch, capfd):
    """Return `made(*argv) -> (code, stderr)`, which runs the command in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def command(*argv):
        monkeypatch.setattr(sys, "argv", ["report", *map(str, argv)])
        capfd.readouterr()
        code = 0
        try:
            errors.run(report.main)
        except SystemExit as done:
            code = done.code or 0
        return code, capfd.readouterr().err

    return command


def strict(text):
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def block(html, name):
    """Return the JSON in a script element of the page."""
    found = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.S)
    assert len(found) == 1
    return strict(found[0])


def waves(files):
    """Decode base64 FLAC to integers of 16 bits `[track, samples]`."""
    decoded = [soundfile.read(io.BytesIO(base64.b64decode(f)), dtype="int16") for f in files]
    assert {rate for _, rate in decoded} == {RATE}
    return np.array([wave for wave, _ in decoded])


def left(folder):
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


def refused(result, words):
    """Check for code 2, one line with `words`, and that no page and no part of one remains."""
    code, err = result
    assert code == 2, err
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert not [name for name in left(".") if ".making" in name or "report" in name]


def test_one_file_holds_every_track_to_the_sample(made, tmp_path):
    run = tinyrun.write_run(tmp_path)
    code, err = made("separated/song")
    assert code == 0, err
    assert "separated/song/report.html: 1 song" in err
    html = (run / "song/report.html").read_text()
    song = block(html, "data")["songs"][0]
    assert [(t["role"], t["source"]) for t in song["tracks"]] == ORDER
    low, high = tinyrun.tones(2.0).values()
    audio = waves(block(html, "audio-0"))
    exact = [low + high, low + 0.1 * high, low, None, 0.9 * high, high, None]
    for wave, true in zip(audio, exact, strict=True):
        if true is not None:  # at most the rounding of 16 bits; none for what had 16 bits
            limit = 0 if true is low or true is high else 0.5
            assert np.abs(wave - true * 32768).max() <= limit + 1e-9
    oracles = audio[3].astype(int) + audio[6]
    assert np.abs(oracles - audio[0]).max() <= 2  # masks sum to one
    assert (song["seconds"], song["whole"], song["gain_db"]) == (2.0, True, 0.0)


def test_the_page_asks_for_nothing_outside_itself(made, tmp_path):
    run = tinyrun.write_run(tmp_path)
    assert made("separated")[0] == 0
    html = (run / "report.html").read_text()
    assert not re.findall(r"https?:|wss?:|fetch\(|XMLHttp|@import|url\(", html)
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", html)
    assert "default-src 'none'" in html
    assert "{{" not in html
    # what a record says cannot end the script that it stands in
    assert html.count("</script>") == html.count("<script")
    assert block(html, "data")["songs"][0]["runs"][0]["command"].endswith("</script>")


def test_figures_and_how_they_came(made, tmp_path):
    row = {"si_sdr": 1.5, "si_sdr_gain": None, "oracle_si_sdr_gain": 2.0}
    recorded = {"low": row, "high": row}
    run = tinyrun.write_run(tmp_path, scores=recorded)
    assert made("separated", "--duration", "1")[0] == 0
    data = block((run / "report.html").read_text(), "data")
    assert data["songs"][0]["scores"] == {"": recorded}
    told = data["songs"][0]["runs"][0]
    assert ["preset", "fast"] in told["facts"]
    assert ["noise levels", "7"] in told["facts"]
    assert ["seed", "3"] in told["facts"]
    assert ["sampling time", "0.50 s per second of audio"] in told["facts"]
    assert (told["versions"], told["commit"]) == ({"jax": "1.2.3"}, "c" * 40)
    assert data["command"] == "python -m gensep.report separated --duration 1.0"
    assert {"python", "numpy"} <= set(data["versions"])


def test_older_records_name_scores_otherwise_and_are_shown_without(made, tmp_path):
    row = {"si_sdr": 1.5, "gain": 0.5, "oracle_gain": 2.0}
    run = tinyrun.write_run(tmp_path, songs=("a", "b"), scores={"low": row, "high": row})
    assert made("separated", "--duration", "1")[0] == 0
    data = block((run / "report.html").read_text(), "data")
    assert data["songs"][0]["scores"] == {"": {"low": row, "high": row}}
    assert data["overview"]["rows"][1] == {"name": "b", "oracle": None, "gains": [None]}
    assert (data["overview"]["oracle"], data["overview"]["mean"]) == (None, [None])


def test_a_notebook_makes_the_page_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tinyrun.write_run(tmp_path)
    made = make_report(["separated"], duration=None, root=str(tmp_path))
    assert made == (Path("separated/report.html"), 1)
    song = block((run / "report.html").read_text(), "data")["songs"][0]
    assert (song["seconds"], song["whole"]) == (2.0, True)


def test_scores_of_the_part_shown_where_none_were_recorded(made, tmp_path):
    run = tinyrun.write_run(tmp_path)
    assert made("separated", "--start", "0.5", "--duration", "1")[0] == 0
    scores = block((run / "report.html").read_text(), "data")["songs"][0]["scores"][""]
    low, high = (wave[4000:12000] for wave in tinyrun.tones(2.0).values())
    assert scores["low"]["si_sdr"] == pytest.approx(si_sdr(low + 0.1 * high, low), abs=1e-3)
    assert scores["low"]["si_sdr_gain"] == pytest.approx(20, abs=0.1)  # the other tone at a tenth
    assert scores["low"]["oracle_si_sdr_gain"] > 25


@pytest.mark.parametrize("begun", [0.0, 0.75])
def test_a_part_starts_at_the_same_sample_in_every_track(made, tmp_path, begun):
    """Stems of a separation with --start begin where the mixture and the references do not."""
    run = tinyrun.write_run(tmp_path, options={"reference": "true/song", "start": begun})
    skipped = round(begun * RATE)
    for name in ("low", "high"):
        wave, _ = soundfile.read(run / f"song/{name}.wav")
        soundfile.write(run / f"song/{name}.wav", wave[skipped:], RATE, subtype="FLOAT")
    assert made("separated", "--start", "0.3001", "--duration", "0.5")[0] == 0
    html = (run / "report.html").read_text()
    audio = waves(block(html, "audio-0"))
    low, high = (
        32768 * wave[skipped + 2401 : skipped + 6401] for wave in tinyrun.tones(2.0).values()
    )
    assert np.abs(audio[0] - low - high).max() <= 0.51
    assert np.abs(audio[1] - low - 0.1 * high).max() <= 0.51
    assert (audio[2] == low).all()
    song = block(html, "data")["songs"][0]
    assert (song["start"], song["seconds"], song["whole"]) == (0.3001, 0.5, False)


def test_one_gain_keeps_loud_tracks_within_full_scale(made, tmp_path):
    run = tinyrun.write_run(tmp_path, gain=3.0)
    assert made("separated")[0] == 0
    html = (run / "report.html").read_text()
    audio = waves(block(html, "audio-0")) / 32768
    true = [3 * wave for wave in tinyrun.tones(2.0).values()]
    peak = np.abs(true[0] + true[1]).max()
    assert peak > 1.5
    factor = np.abs(audio[0]).max() / peak
    assert np.abs(audio[0]).max() == pytest.approx(32767 / 32768, abs=1e-4)
    assert np.abs(audio[2] - factor * true[0]).max() < 1e-4
    gain = block(html, "data")["songs"][0]["gain_db"]
    assert gain == pytest.approx(20 * np.log10(factor), abs=0.01)


def test_flac_of_more_channels_is_their_mean():
    wave = np.round(np.random.default_rng(0).uniform(-1, 1, (6, 500)) * 30000)
    for channels in (1, 2, 6):
        coded = soundfile.read(
            io.BytesIO(page.flac(wave[:channels] / 32768, RATE)), dtype="int16", always_2d=True
        )[0].T
        wanted = wave[:channels] if channels < 3 else wave.mean(0, keepdims=True)
        assert np.abs(coded - wanted).max() <= (0 if channels < 3 else 0.5)
    with pytest.raises(UserError, match="rate of 700000 Hz"):
        page.flac(wave[:1], 700_000)


# ---- folders


def test_a_large_page_is_a_folder_with_audio_in_scripts(made, tmp_path):
    run = tinyrun.write_run(tmp_path, songs=("a", "b"))
    assert made("separated")[0] == 0
    inside = waves(block((run / "report.html").read_text(), "audio-1"))
    for _ in range(2):  # the second replaces the first
        code, err = made("separated", "--inline_limit", "0.01")
        assert code == 0, err
        assert "separated/report/index.html: 2 songs" in err
    images = [f"images/{song}-{i}.png" for song in (0, 1) for i in range(7)]
    assert left(run / "report") == ["audio/0.js", "audio/1.js", *images, "index.html"]
    text = (run / "report/audio/1.js").read_text()
    assert (waves(strict(text.removeprefix("register(1, ").removesuffix(");\n"))) == inside).all()
    songs = block((run / "report/index.html").read_text(), "data")["songs"]
    assert [song["audio"] for song in songs] == ["audio/0.js", "audio/1.js"]
    assert [track["image"] for song in songs for track in song["tracks"]] == images
    assert not list(tmp_path.rglob("*.making*"))


def test_output_is_a_file_or_a_folder(made, tmp_path):
    tinyrun.write_run(tmp_path)
    assert made("separated", "--output", "deep/down/a.html")[0] == 0
    assert left("deep") == ["down/a.html"]
    assert made("separated", "--output", "site")[0] == 0
    assert left("site") == ["index.html"]
    assert (tmp_path / "site/index.html").stat().st_size > 50_000
    code, err = made("separated", "--output", "b.html", "--inline_limit", "0.01")
    assert code == 2
    assert "over --inline_limit 0.01; raise it" in err
    assert not Path("b.html").exists()
    Path("site/mine.txt").write_text("keep me")
    code, err = made("separated", "--output", "site")
    assert code == 2
    assert "site exists and is no page" in err
    assert left("site") == ["index.html", "mine.txt"]


# ---- several songs and methods


def test_methods_are_paired_by_the_mixture_and_compared(made, tmp_path):
    for name, leak in (("x", 0.1), ("y", 0.01)):
        tinyrun.write_run(tmp_path, songs=("a", "b"), leak=leak)
        shutil.move("separated", f"{name}")
    assert made("x", "y", "--output", "both.html")[0] == 0
    data = block(Path("both.html").read_text(), "data")
    assert [song["name"] for song in data["songs"]] == ["a", "b"]
    for song in data["songs"]:
        assert [t["method"] for t in song["tracks"] if t["role"] == "estimate"] == ["x", "y"] * 2
        assert len(song["tracks"]) == 9
        assert list(song["scores"]) == ["x", "y"]
    overview = data["overview"]
    assert overview["methods"] == ["x", "y"]
    for row, song in zip(overview["rows"], data["songs"], strict=True):
        for gain, method in zip(row["gains"], "xy", strict=True):
            assert gain == np.mean([s["si_sdr_gain"] for s in song["scores"][method].values()])
    assert overview["mean"] == pytest.approx(np.mean([r["gains"] for r in overview["rows"]], 0))
    assert made("x", "--output", "one.html")[0] == 0
    assert list(block(Path("one.html").read_text(), "data")["songs"][0]["scores"]) == [""]


def test_labels_are_what_tells_folders_apart():
    assert tracks.labels(["fast/song", "best/song/"]) == ["fast", "best"]
    assert tracks.labels(["r/a", "r/b"]) == ["a", "b"]
    assert tracks.labels(["a/x/s", "b/x/s", "b/y/s"]) == ["a/x/s", "b/x/s", "b/y/s"]
    with pytest.raises(UserError, match="given twice"):
        tracks.labels(["a", "./a"])


def test_mixtures_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for name in ("one", "two"):
        run = tinyrun.write_run(tmp_path / name, songs=("mixture",))
        record = json.loads((run / "mixture/separation.json").read_text())
        record["mixture"] = f"{name}/mixture.wav"
        (run / "mixture/separation.json").write_text(json.dumps(record))
    assert list(tracks.find_runs([str(tmp_path)], ".")) == ["one", "two"]


def test_what_the_benchmark_keeps_is_a_page(made, tmp_path):
    benchmark = load("scripts/benchmark_separation.py")
    c = benchmark.Config(scores="s", sounds=("/away",), keep=str(tmp_path / "kept"))
    true = tinyrun.tones(1.0)
    rows = [
        {
            "set": "duo@0,6",
            "piece": "A song/1",
            "method": method,
            "si_sdr": [1.0, 2.0],
            "gain": [3.0, 4.0 + i],
            "seconds": 0.1,
        }
        for i, method in enumerate((benchmark.MEL_ORACLE, "fast:steps=9"))
    ]
    benchmark.keep(c, true, np.stack(list(true.values())), rows, Representation(n_mels=48))
    code, err = made("kept")
    assert code == 0, err
    data = block(Path("kept/report.html").read_text(), "data")
    song = data["songs"][0]
    assert song["name"] == "duo@0,6: A song/1"
    assert song["scores"]["fast:steps=9"]["high"] == {
        "si_sdr": 2.0,
        "si_sdr_gain": 5.0,
        "oracle_si_sdr_gain": 4.0,
    }
    assert [(t["role"], t["source"]) for t in song["tracks"]] == ORDER
    assert ["noise levels", "9"] in song["runs"][0]["facts"]
    assert "/away" not in json.dumps(data)
    picture = base64.b64decode(song["tracks"][0]["image"].split(",")[1])
    assert Image.open(io.BytesIO(picture)).height == 48


# ---- references, uncertainty, pictures


def test_references_are_recorded_given_or_left_out(made, tmp_path):
    run = tinyrun.write_run(tmp_path, options={})

    def roles(*argv):
        assert made("separated", *argv)[0] == 0
        data = block((run / "report.html").read_text(), "data")
        return {track["role"] for track in data["songs"][0]["tracks"]}

    every = {"mixture", "estimate", "reference", "oracle"}
    assert roles() == {"mixture", "estimate"}
    assert roles("--references", "true") == roles("--references", "true/song") == every
    tinyrun.write_run(tmp_path)
    assert roles() == every
    assert roles("--references", "none") == {"mixture", "estimate"}


def test_paths_of_records_start_at_root(made, tmp_path, monkeypatch):
    tinyrun.write_run(tmp_path / "there")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    refused(made("../there/separated"), "there is no file song.wav")
    assert made("../there/separated", "--root", "../there", "--output", "p.html")[0] == 0


def test_uncertainty_is_drawn_for_the_part_shown(made, tmp_path):
    run = tinyrun.write_run(tmp_path)
    frames = 1 + 2 * RATE // 256
    deviation = np.zeros((2, frames, 16), np.float16)
    deviation[1, frames // 2 :] = page.DEVIATION_DB
    np.savez(run / "song/uncertainty.npz", sd_db=deviation, names=np.array(["low", "high"]))
    assert made("separated", "--start", "0.5", "--duration", "1")[0] == 0
    shown = block((run / "report.html").read_text(), "data")["songs"][0]["tracks"]
    assert [t["role"] for t in shown if t["deviation"]] == ["estimate"] * 2
    for track, (first, last) in zip(
        [t for t in shown if t["deviation"]], [(0, 0), (0, 255)], strict=True
    ):
        picture = Image.open(io.BytesIO(base64.b64decode(track["deviation"].split(",")[1])))
        index = np.asarray(picture)
        assert index.shape[0] == 16
        assert abs(index.shape[1] - frames / 2) <= 1
        assert (index[:, 0] == first).all()
        assert (index[:, -1] == last).all()
        assert abs((index[0] == first).mean() - (1 if first == last else 0.5)) < 0.05
    np.savez(run / "song/uncertainty.npz", sd_db=deviation[0], names=np.array(["low", "high"]))
    (run / "report.html").unlink()
    refused(made("separated"), "holds no uncertainty (2 names, sd_db (63, 16))")


def test_uncertainty_is_told_by_source(made, tmp_path):
    """With the judge's figures where the separation had one."""
    plain = {"mean_sd_db": 4.04, "energy_db": [-3.21, -1.0]}
    judged = {"judged_mean_sd_db": 1.5, "judged_energy_db": -2.0, "between_explanations": 0.86}
    told = {"samples": 12, "level": 0.8}
    with_judge = told | {"effective_samples": 2.34, "sources": {"low": plain | judged}}

    def table(**changes):
        run = tinyrun.write_run(tmp_path, **changes)
        assert made("separated", "--duration", "1")[0] == 0
        data = block((run / "report.html").read_text(), "data")
        return data["songs"][0]["runs"][0]["uncertainty"]

    assert table() is None
    found = table(uncertainty=told | {"sources": {"low": plain, "high": plain}})
    assert found["heads"] == ["Uncertainty", "deviation, dB", "energy, 80% of samples, dB"]
    assert found["rows"] == [[name, "4.0", "-3.2 to -1.0"] for name in ("low", "high")]
    assert "12 posterior samples" in found["note"]
    assert "judge" not in found["note"]
    found = table(uncertainty=with_judge)
    assert dict(zip(found["heads"], found["rows"][0], strict=True)) == {
        "Uncertainty": "low",
        "deviation, dB": "4.0",
        "judged, dB": "1.5",
        "between explanations": "86%",
        "energy, 80% of samples, dB": "-3.2 to -1.0",
        "judged energy, dB": "-2.0",
    }
    assert "count like 2.3 of equal weight" in found["note"]


def test_images_have_low_bands_below_and_one_scale():
    values = np.array([[-70.0, -35.0, 0.0], [-80.0, 10.0, 0.0]])
    index = np.asarray(Image.open(io.BytesIO(image(values, -70, 0))))
    assert index.tolist() == [[255, 255], [128, 255], [0, 0]]
    places = mel_places(Representation(n_mels=96, fmin=30, fmax=8000), (20, 300, 3000, 9000))
    assert list(places) == [300, 3000]  # inside the bands only
    assert 0 < places[300] < places[3000] < 96


def test_the_scale_is_common_to_all_tracks(tmp_path):
    """The leak of a tenth is 20 dB fainter in the picture too."""
    run = tinyrun.write_run(tmp_path)
    found = tracks.find_runs([str(run)], str(tmp_path))["song"]
    song = page.write_song(tmp_path, 0, tracks.load_song("song", found, None, 0.0, None))
    drawn = {
        (t["role"], t["source"]): np.asarray(Image.open(tmp_path / t["image"])).max(1)
        for t in song["tracks"]
    }
    band = drawn["reference", "high"].argmax()
    fall = int(drawn["reference", "high"][band]) - int(drawn["estimate", "low"][band])
    assert fall * page.SCALE_DB / 255 == pytest.approx(20, abs=0.5)
    assert max(row.max() for row in drawn.values()) == 255


# ---- mistakes


def test_folders_that_are_no_separations(made, tmp_path):
    Path("empty").mkdir()
    refused(made("empty"), "no separation.json in empty or below")
    refused(made("nowhere"), "no separation.json in nowhere")
    for text in ("", "[]", "{}", '{"mixture": 3, "stems": ["a"]}', '{"mixture": "m", "stems": []}'):
        Path("empty/separation.json").write_text(text)
        refused(made("empty"), "empty/separation.json is no record of gensep.basis")
    refused(made("empty", "--start", "-1"), "of 0 or more, not -1")


def test_files_that_are_missing_or_differ(made, tmp_path):
    run = tinyrun.write_run(tmp_path)
    refused(made("separated", "--start", "5"), "song last 2.000 s; nothing of them lies")
    refused(made("separated", "--references", "away"), "the references of song are not in away")
    low = (run / "song/low.wav").read_bytes()
    (run / "song/low.wav").unlink()
    refused(made("separated"), "there is no file separated/song/low.wav")
    (run / "song/low.wav").write_bytes(low)
    soundfile.write("true/song/high.flac", np.zeros(100), RATE)
    refused(made("separated"), "true/song/high.flac has 1 channels of 100 samples")
    Path("true/song/high.flac").unlink()
    refused(made("separated"), "no reference high{.wav")
    shutil.rmtree("true")
    refused(made("separated"), "the references of song are not in true/song")
    soundfile.write("song.wav", np.zeros(9000), RATE)
    refused(made("separated"), "separated/song/low.wav has 1 channels of 16000 samples")


def test_runs_that_cannot_be_paired(made, tmp_path):
    tinyrun.write_run(tmp_path)
    shutil.copytree("separated", "more/again")
    shutil.copytree("separated", "more/once")
    refused(made("more"), "more/again/song and more/once/song both separate song")
    record = json.loads(Path("more/once/song/separation.json").read_text())
    for changes, words in (
        ({"stems": ["low.wav"]}, "other stems"),
        ({"options": {"start": 0.5}}, "starts at another second"),
    ):
        Path("more/once/song/separation.json").write_text(json.dumps(record | changes))
        refused(made("separated", "more/once"), words)


def test_commands_read_back():
    from gensep.basis import Config

    c = Config(mixtures=("my mix.wav",), priors=("a", "b"), steps=3, overlap=0.1, picture=False)
    text = command(c)
    assert text == (
        "python -m gensep.basis 'my mix.wav' --steps 3 --priors a b --overlap 0.1 --picture false"
    )
    assert config.parse(Config, shlex.split(text)[3:]) == c
