"""`python -m gensep.basis` as a user meets it: files, records, exit codes, nothing half done."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from gensep import basis, invert, report
from gensep.priors import files, score_networks
from gensep.representation.mel import Representation
from gensep.runtime import errors
from helpers import ROOT
from score import DenoiserPrior

pytestmark = pytest.mark.usefixtures("hasty")

REP = Representation(n_fft=512, hop_length=256, n_mels=8)
SETTINGS = {"n_mels": 8, "width": 8, "blocks": 1, "levels": 2, "sigma_data": 0.5, "mean": [0.0] * 8}
QUICK = ["--steps", "2", "--samples", "1", "--window", "32", "--picture", "false"]


def noise(samples, channels=1, seed=0):
    return 0.1 * np.random.default_rng(seed).normal(size=(samples, channels))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Give a folder with the priors `low` and `high`: networks that learnt nothing."""
    folder = tmp_path_factory.mktemp("runs")
    net = score_networks.make_denoiser(SETTINGS)
    for name, tilt in (("low", -1.0), ("high", 1.0)):
        (folder / name).mkdir()
        net.mean[...] = jnp.linspace(-tilt, tilt, 8)
        prior = DenoiserPrior(net, jnp.array([2.5, 0.02]), jnp.full((2, 8), 0.3))
        files.save_prior(folder / name / "prior.npz", "edm", prior, SETTINGS, REP)
    return folder


@pytest.fixture
def run(runs, tmp_path, monkeypatch, capfd):
    """Give `run(*argv) -> (code, stdout, stderr)`, in process, within `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def command(*argv, priors=("low", "high"), quick=True):
        chosen = ["--priors", *(str(runs / p) for p in priors)] if priors else []
        monkeypatch.setattr(sys, "argv", ["basis", *map(str, argv), *chosen, *(QUICK * quick)])
        capfd.readouterr()
        code = 0
        try:
            errors.run(basis.main)
        except SystemExit as done:
            code = done.code or 0
        return code, *capfd.readouterr()

    return command


def left(folder):
    """List the files under a folder, hidden ones too."""
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


def refused(result, words, output="separated"):
    """Check for code 2, one line that starts with error:, and not even an empty folder."""
    code, out, err = result
    assert code == 2, err
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert out == ""
    assert not Path(output).exists()


def test_stems_record_and_picture(run, runs, tmp_path):
    soundfile.write("my mix.wav", noise(20_000, 2), 22050, subtype="PCM_16")
    code, out, err = run("my mix.wav", *QUICK[:-2], quick=False)
    assert code == 0, err
    folder = tmp_path / "separated" / "my mix"
    assert left(folder) == [
        "high.wav",
        "low.wav",
        "separation.json",
        "spectrograms.png",
        "trace.png",
    ]
    mixture, _ = soundfile.read("my mix.wav", always_2d=True)
    total = 0
    for name in ("low", "high"):
        info = soundfile.info(folder / f"{name}.wav")
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (
            22050,
            2,
            20_000,
            "FLOAT",
        )
        total = total + soundfile.read(folder / f"{name}.wav")[0]
    assert np.abs(total - mixture).max() < 1e-5
    record = json.loads((folder / "separation.json").read_text())
    assert record["stems"] == ["low.wav", "high.wav"]
    assert record["mixture"] == "my mix.wav"
    assert (record["rate"], record["channels"]) == (22050, 2)
    assert record["seconds"] == pytest.approx(20_000 / 22050)
    assert record["command"].startswith("python -m gensep.basis 'my mix.wav' --steps 2 ")
    assert f" --priors {runs / 'low'} {runs / 'high'} " in record["command"]
    assert Representation(**record["representation"]) == REP
    assert record["settings"]["steps"] == 2
    assert record["settings"]["seed"] == 0
    assert record["options"]["window"] == 32
    assert {"python", "jax", "numpy"} <= set(record["versions"])
    assert np.isfinite(
        [
            record[k]
            for k in (
                "compile_seconds",
                "sampling_seconds",
                "residual_db",
                "sampling_seconds_per_second",
            )
        ]
    ).all()
    assert "scores" not in record
    assert "2 stems of 0.9 s" in err.splitlines()[-1]
    assert out == ""


def test_uncertainty_is_written_beside_the_stems(run, tmp_path):
    soundfile.write("m.wav", noise(20_000), 16000)
    code, _, err = run(
        "m.wav",
        *QUICK[:2],
        "--samples",
        "4",
        *QUICK[4:],
        "--uncertainty",
        "--constraint",
        "hard",
        quick=False,
    )
    assert code == 0, err
    folder = tmp_path / "separated/m"
    with np.load(folder / "uncertainty.npz", allow_pickle=False) as file:
        assert list(file["names"]) == ["low", "high"]
        sd = file["sd_db"]
        judged = file["judged_quantiles_db"]
    assert judged.shape == (3, *sd.shape)
    assert (np.diff(judged, axis=0) >= 0).all()
    assert sd.shape == (2, 1 + 20_000 // REP.hop_length, REP.n_mels)
    assert np.isfinite(sd).all()
    assert sd.max() > 0.1
    assert {"uncertainty.png", "low.wav"} <= set(left(folder))
    found = json.loads((folder / "separation.json").read_text())["uncertainty"]
    assert found["samples"] == 4
    for row in found["sources"].values():
        low, high = row["energy_db"]
        assert low <= high < 6
        assert row["mean_sd_db"] > 0
        assert row["judged_mean_sd_db"] > 0
        assert 0 <= row["between_explanations"] <= 1
    assert 1 <= found["effective_samples"] <= 4
    refused(run("m.wav", "--uncertainty", "--output", "one"), "2 or more", "one")


def test_saved_masks_make_the_same_stems(run, tmp_path):
    soundfile.write("mix.wav", noise(20_000, 2), 22050, subtype="PCM_16")
    code, _, err = run("mix.wav", "--start", "0.2", "--save_masks")
    assert code == 0, err
    folder = tmp_path / "separated/mix"
    assert left(folder) == ["high.wav", "low.wav", "masks.npz", "separation.json"]
    invert.main([str(folder), "--method", "spread"])
    for name in ("low", "high"):
        first, again = (soundfile.read(p / f"{name}.wav")[0] for p in (folder, folder / "spread"))
        np.testing.assert_allclose(again, first, atol=1e-3)  # float16 masks
        assert np.abs(first).max() > 0.1


def test_several_inputs_formats_and_seeds(run):
    for name in "ab":
        soundfile.write(f"{name}.flac", noise(9000, seed=ord(name)), 16000)
    code, _, err = run(
        "a.flac",
        "b.flac",
        "--output",
        "out/{name}_{folder}",
        "--ext",
        "flac",
        "--subtype",
        "PCM_16",
        "--seed",
        "3",
    )
    assert code == 0, err
    assert left("out") == [
        f"{n}_./{s}" for n in "ab" for s in ("high.flac", "low.flac", "separation.json")
    ]
    assert soundfile.info("out/a_./low.flac").subtype == "PCM_16"
    first = soundfile.read("out/a_./low.flac")[0]
    for seed, same in (("3", True), ("4", False)):
        run("a.flac", "--output", "again", "--ext", ".flac", "--seed", seed)
        other = soundfile.read("again/low.flac")[0]
        assert (np.abs(other - first).max() < 1e-4) == same
    refused(
        run("a.flac", "b.flac", "--output", "one"), "put {name} or {folder} into --output", "one"
    )
    refused(run("a.flac", "--output", "{nam}"), "--output knows {name} and {folder}", "{nam}")


def test_equal_priors_are_numbered_and_one_prior_is_the_mixture(run):
    soundfile.write("m.wav", noise(3000), 16000, subtype="FLOAT")
    assert run("m.wav", priors=("low", "high", "low"))[0] == 0
    assert left("separated/m") == ["high.wav", "low1.wav", "low2.wav", "separation.json"]
    assert run("m.wav", "--output", "one", priors=("high",))[0] == 0
    np.testing.assert_allclose(
        soundfile.read("one/high.wav")[0], soundfile.read("m.wav")[0], atol=1e-6
    )


@pytest.mark.parametrize(
    ("subtype", "rate", "channels", "samples"),
    [
        ("PCM_16", 16000, 1, 1),
        ("PCM_U8", 8000, 1, 3000),
        ("PCM_24", 192000, 1, 9000),
        ("FLOAT", 48000, 12, 2000),
    ],
)
def test_odd_but_valid_files_are_separated(run, subtype, rate, channels, samples):
    soundfile.write("m.wav", noise(samples, channels), rate, subtype=subtype)
    code, _, err = run("m.wav")
    assert code == 0, err
    mixture, stems = (
        soundfile.read("m.wav")[0],
        [soundfile.read(f"separated/m/{s}.wav")[0] for s in ("low", "high")],
    )
    assert stems[0].shape == mixture.shape
    assert np.abs(sum(stems) - mixture).max() < 1e-5
    assert soundfile.info("separated/m/low.wav").samplerate == rate


def test_start_and_duration_cut(run):
    soundfile.write("m.wav", noise(16000), 16000, subtype="FLOAT")
    assert run("m.wav", "--start", "0.25", "--duration", "0.5")[0] == 0
    stems = [soundfile.read(f"separated/m/{s}.wav")[0] for s in ("low", "high")]
    assert np.abs(sum(stems) - soundfile.read("m.wav")[0][4000:12000]).max() < 1e-5
    assert run("m.wav", "--duration", "99", "--output", "b")[0] == 0
    assert soundfile.info("b/low.wav").frames == 16000
    for bad in (["--start", "1"], ["--duration", "0"], ["--duration", "inf"], ["--start", "-1"]):
        refused(run("m.wav", "--output", "c", *bad), "", "c")


def test_silence_gives_silence(run):
    soundfile.write("m.wav", np.zeros((5000, 2)), 16000)
    assert run("m.wav", *QUICK[:-2], quick=False)[0] == 0
    for stem in ("low", "high"):
        wave, _ = soundfile.read(f"separated/m/{stem}.wav")
        assert wave.shape == (5000, 2)
        assert not wave.any()


def test_reference_prints_scores_beside_the_oracle(run):
    at = np.arange(16000) / 16000
    tones = [np.sin(2 * np.pi * f * at) for f in (300, 3000)]
    stems = {"low": np.where(at < 0.6, *tones), "high": np.where(at < 0.6, *tones[::-1])}
    os.mkdir("true")
    for name, wave in stems.items():
        soundfile.write(f"true/{name}.flac", 0.3 * wave, 16000, subtype="PCM_24")
    soundfile.write("m.wav", 0.3 * sum(stems.values()), 16000, subtype="FLOAT")
    code, out, err = run("m.wav", "--reference", "true")
    assert code == 0, err
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["SI-SDR", "dB", "gain", "dB", "oracle", "gain"]
    assert [line[0] for line in lines[1:]] == ["low", "high", "mean"]
    scores = json.loads(Path("separated/m/separation.json").read_text())["scores"]
    for name, *figures in lines[1:3]:
        assert [float(x) for x in figures] == pytest.approx(
            [scores[name][k] for k in ("si_sdr", "si_sdr_gain", "oracle_si_sdr_gain")], abs=0.006
        )
        assert scores[name]["oracle_si_sdr_gain"] > 15  # two tones far apart that change places
        assert scores[name]["si_sdr_gain"] < scores[name]["oracle_si_sdr_gain"]
    mean = np.mean([float(line[1]) for line in lines[1:3]])
    assert float(lines[3][1]) == pytest.approx(mean, abs=0.01)
    report.main(["separated/m"])  # the record is all that the page needs
    html = Path("separated/m/report.html").read_text("utf-8")
    assert all(
        f'"role": "{role}", "source": "high"' in html
        for role in ("estimate", "reference", "oracle")
    )


def test_a_silent_reference_has_no_score(run):
    os.mkdir("true")
    for name, wave in (("low", noise(3000)), ("high", np.zeros((3000, 1))), ("m", noise(3000))):
        soundfile.write(f"true/{name}.wav", wave, 16000, subtype="FLOAT")
    code, out, err = run("true/m.wav", "--reference", "true")
    assert code == 0, err
    assert out.splitlines()[2].split() == ["high", "-", "-", "-"]
    scores = json.loads(Path("separated/m/separation.json").read_text())["scores"]
    assert scores["high"] == {"si_sdr": None, "si_sdr_gain": None, "oracle_si_sdr_gain": None}
    assert np.isfinite(scores["low"]["si_sdr"])


def test_bad_references_are_refused_before_the_work(run):
    soundfile.write("m.wav", noise(3000), 16000)
    os.mkdir("true")
    refused(run("m.wav", "--reference", "nowhere"), "no reference low{.wav")
    soundfile.write("true/low.wav", noise(3000), 16000)
    refused(run("m.wav", "--reference", "true"), "no reference high{.wav")
    soundfile.write("true/high.wav", noise(2999), 16000)
    refused(run("m.wav", "--reference", "true"), "the reference of high has 1 channels of 2999")


# ---- mistakes


def test_files_that_cannot_be_separated(run):
    refused(run("none.wav"), "there is no file none.wav")
    Path("text.wav").write_text("not a sound, " * 50)
    refused(run("text.wav"), "text.wav is no audio")
    Path("zero.wav").touch()
    refused(run("zero.wav"), "zero.wav is empty")
    soundfile.write("header.wav", np.zeros((0, 2)), 16000)
    refused(run("header.wav"), "0 samples")
    for value in (np.nan, np.inf):
        bad = noise(3000)
        bad[1000] = value
        soundfile.write("nan.wav", bad, 16000, subtype="FLOAT")
        refused(run("nan.wav"), "nan.wav holds NaN or Inf at 0.062 s")
    refused(run("."), "is a folder")
    refused(run(), "expected an audio file")
    # a bad second file is found before the first one is separated
    soundfile.write("good.wav", noise(3000), 16000)
    refused(run("good.wav", "text.wav"), "text.wav is no audio")


def test_options_and_priors_that_are_wrong(run, runs):
    soundfile.write("m.wav", noise(3000), 16000)
    soundfile.write("wide.wav", noise(3000, 12), 16000)
    refused(run("m.wav", "--step", "3"), "unknown option --step; did you mean --steps?")
    refused(run("m.wav", "--steps", "many"), "steps must be an integer, not 'many'")
    refused(run("m.wav", "--preset", "slow"), "preset must be one of fast, default, best")
    refused(run("m.wav", "--sampler", "gibbs"), "sampler must be one of mmps")
    refused(run("m.wav", "--window", "2048", quick=False), "window")
    refused(run("m.wav", "--overlap", "1"), "0 <= overlap <= 0.9")
    refused(run("m.wav", "--ext", "doc"), "no audio format")
    refused(run("wide.wav", "--ext", "flac"), "cannot write separated/wide/low.flac with 12 chan")
    refused(run("m.wav", "--ext", "flac", "--subtype", "FLOAT"), "cannot have the subtype FLOAT")
    refused(run("m.wav", "--config", "none.toml"), "cannot read the config none.toml")
    refused(run("m.wav", priors=("low", "tuba")), "no prior")
    refused(run("m.wav", priors=("low",) * 9), "1 to 8 priors")
    (runs / "bad").mkdir(exist_ok=True)
    (runs / "bad" / "prior.npz").write_bytes((runs / "low" / "prior.npz").read_bytes()[:-20])
    refused(run("m.wav", priors=("low", "bad")), "is not a prior file")


def test_output_that_cannot_be_written(run):
    soundfile.write("m.wav", noise(3000), 16000)
    Path("file").touch()
    refused(run("m.wav", "--output", "file/sub"), "cannot write into file/sub", ".absent")
    if os.access("/proc", os.F_OK):
        refused(run("m.wav", "--output", "/proc/none/x"), "cannot write into", ".absent")


def test_a_full_disk_leaves_no_stem(run):
    """Stand-in for a full disk: no file may grow beyond 6 kB."""
    soundfile.write("m.wav", noise(3000), 16000, subtype="PCM_16")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
        result = run("m.wav")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    refused(result, "cannot write separated/m/low.wav: the disk may be full")


def test_old_stems_stay_where_a_later_run_fails(run):
    soundfile.write("m.wav", noise(3000), 16000)
    assert run("m.wav")[0] == 0
    before = {name: Path("separated/m", name).read_bytes() for name in left("separated/m")}
    bad = noise(3000)
    bad[2000] = np.nan
    soundfile.write("m.wav", bad, 16000, subtype="FLOAT")
    assert run("m.wav")[0] == 2
    assert {name: Path("separated/m", name).read_bytes() for name in left("separated/m")} == before


@pytest.mark.parametrize("moment", ["compiling", "sampling"])
def test_ctrl_c_stops_at_once_and_leaves_nothing(runs, tmp_path, moment):
    """A run as from a shell, interrupted while XLA compiles or while chains are sampled."""
    soundfile.write(tmp_path / "m.wav", noise(160_000), 16000)
    script = (
        "import runpy, signal; from gensep.separation import chains\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "real = chains._compiled\n"
        "def compiled(*a):\n"
        "    open('compiling', 'w').close(); made = real(*a)\n"
        "    open('sampling', 'w').close(); return made\n"
        "chains._compiled = compiled\n"
        "runpy.run_module('gensep.basis', run_name='__main__')"
    )
    argv = [
        "m.wav",
        "--priors",
        str(runs / "low"),
        str(runs / "high"),
        "--samples",
        "100000",
        "--steps",
        "2",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *argv],
        cwd=tmp_path,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / moment).exists() and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert (out, err) == ("", "\ninterrupted\n")
    assert not (tmp_path / "separated").exists()
    assert (tmp_path / "sampling").exists() or moment == "compiling"


def test_ctrl_c_is_not_lost_in_a_garbage_callback():
    """JAX runs one, where exceptions are only printed; compiling is long and ends in it."""

    def _xla_gc_callback():
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        errors.run(lambda argv: None)  # puts its own handler there
        try:
            _xla_gc_callback()
        except KeyboardInterrupt:
            pytest.fail("raised where JAX would lose it")
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
        assert time.monotonic() - began < 5
    finally:
        signal.signal(signal.SIGINT, before)


def test_shipped_priors_are_listed(run, tmp_path, monkeypatch, runs):
    monkeypatch.setattr(files, "SHIPPED", tmp_path / "none")
    assert run("--list_priors", priors=(), quick=False) == (
        0,
        "no priors ship with this installation\n",
        "",
    )
    monkeypatch.setattr(files, "SHIPPED", runs)
    (runs / "bad" / "prior.npz").unlink(missing_ok=True)
    code, out, _ = run("--list_priors", priors=(), quick=False)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["high", "low"]
