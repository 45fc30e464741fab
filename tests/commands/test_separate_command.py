"""`python -m gensep.separate` as a user meets it, beside the other commands."""

import importlib
import json
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from gensep import basis, compare, evaluate, report
from gensep.priors import files, score_networks
from gensep.representation.mel import Representation
from gensep.runtime import errors
from gensep.separators.files import save_separator
from gensep.separators.networks import make_separator, settings_of
from helpers.fakeseparators import add_rows
from score import DenoiserPrior

command = importlib.import_module("gensep.separate")
pytestmark = pytest.mark.usefixtures("hasty")

REP = Representation(n_fft=512, hop_length=256, n_mels=8)
SETTINGS = {"n_mels": 8, "width": 8, "blocks": 1, "levels": 2, "sigma_data": 0.5, "mean": [0.0] * 8}
SOURCES = ("low", "high")
FOUR = ("vocals", "drums", "bass", "other")


@pytest.fixture(scope="module")
def rows():
    with pytest.MonkeyPatch.context() as patch:
        add_rows(patch)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory, rows):
    """Give a folder with networks that learnt nothing: separators and priors."""
    folder = tmp_path_factory.mktemp("runs")
    conv, scored = settings_of("fake"), settings_of("scored")
    four = settings_of("fake", FOUR) | {"shares": [0.4, 0.3, 0.2, 0.1]}
    form = {"n_fft": 512, "hop_length": 256, "n_mels": 8}
    rival = settings_of("mel_mask", SOURCES, width=8, blocks=1) | {"representation": form}
    for name, settings in {"conv": conv, "four": four, "scored": scored, "rival": rival}.items():
        (folder / name).mkdir()
        network = make_separator(settings, 3)
        save_separator(folder / name / "separator.npz", network, settings, step=7)
    net = score_networks.make_denoiser(SETTINGS)
    for name, tilt in (("low", -1.0), ("high", 1.0)):
        (folder / name).mkdir()
        net.mean[...] = jnp.linspace(-tilt, tilt, 8)
        prior = DenoiserPrior(net, jnp.array([2.5, 0.02]), jnp.full((2, 8), 0.3))
        files.save_prior(folder / name / "prior.npz", "edm", prior, SETTINGS, REP)
    return folder


@pytest.fixture
def run(runs, tmp_path, monkeypatch, capfd):
    """Give `run(model, *argv) -> (code, stdout, stderr)`, in process, within `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def separate(model, *argv, main=command.main):
        words = [str(runs / model) if (runs / model).exists() else model] if model else []
        monkeypatch.setattr(sys, "argv", ["separate", *words, *map(str, argv)])
        capfd.readouterr()
        code = 0
        try:
            errors.run(main)
        except SystemExit as done:
            code = done.code or 0
        return code, *capfd.readouterr()

    return separate


def noise(samples, channels=1, seed=0):
    return 0.1 * np.random.default_rng(seed).normal(size=(samples, channels))


def left(folder):
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


def read(path):
    return soundfile.read(path, always_2d=True)[0]


def test_stems_record_and_picture_at_the_rate_channels_and_depth_of_the_input(run, runs):
    for name, rate, subtype in (("a", 44_100, "PCM_16"), ("b", 8000, "FLOAT")):
        soundfile.write(f"{name}.wav", noise(9001, 3), rate, subtype=subtype)
    code, out, err = run("conv", "a.wav", "b.wav")
    assert code == 0, err
    assert out == ""
    assert "a.wav: 2 stems of 0.2 s in separated/a: separated in " in err
    names = ["high.wav", "low.wav", "separation.json", "spectrograms.png"]
    assert left("separated") == [f"{song}/{name}" for song in "ab" for name in names]
    for name, rate, subtype, step in (("a", 44_100, "PCM_16", 2**-15), ("b", 8000, "FLOAT", 0)):
        info = soundfile.info(f"separated/{name}/low.wav")
        got = (info.samplerate, info.channels, info.frames, info.subtype)
        assert got == (rate, 3, 9001, subtype)
        total = read(f"separated/{name}/low.wav") + read(f"separated/{name}/high.wav")
        assert np.abs(total - read(f"{name}.wav")).max() < 1.01 * step + 1e-6
    record = json.loads(Path("separated/a/separation.json").read_text())
    assert record["command"] == f"python -m gensep.separate {runs / 'conv'} a.wav"
    assert record["options"]["model"] == str(runs / "conv")
    assert record["settings"]["separator"] == "conv"
    assert record["settings"]["network"] == "fake"
    assert (record["mixture"], record["stems"]) == ("a.wav", ["low.wav", "high.wav"])


def test_options_of_stems(run):
    soundfile.write("m.flac", noise(9000, 2), 16_000, subtype="PCM_24")
    part = ["m.flac", "--start", "0.1", "--duration", "0.25", "--picture", "false"]
    mixed = read("m.flac")[1600:5600]

    def stems(model, *argv, ext="flac"):
        code, _, err = run(model, *part, "--output", "o", "--ext", ext, *argv)
        assert code == 0, err
        found = json.loads(Path("o/separation.json").read_text())["stems"]
        assert soundfile.info(f"o/{found[0]}").subtype == ("VORBIS" if ext == "ogg" else "PCM_24")
        return {Path(name).stem: read(f"o/{name}") for name in found}

    every = stems("four")
    assert list(every) == list(FOUR)
    np.testing.assert_allclose(every["drums"], 0.3 * mixed, atol=3e-7)
    np.testing.assert_allclose(sum(every.values()), mixed, atol=3e-7)
    two = stems("four", "--two_stems", "vocals", ext=".wav")
    assert list(two) == ["vocals", "no_vocals"]
    np.testing.assert_allclose(sum(two.values()), mixed, atol=3e-7)
    joined = stems("four", "--aggregate", "accompaniment=drums,bass,other", "--softmask")
    assert list(joined) == ["vocals", "accompaniment"]
    np.testing.assert_allclose(joined["vocals"], every["vocals"], atol=3e-7)
    kept = stems("four", "--targets", "bass", "--residual")
    assert list(kept) == ["bass", "residual"]
    np.testing.assert_allclose(kept["residual"], mixed - every["bass"], atol=3e-7)
    refined = stems("conv", "--niter", "1")
    np.testing.assert_allclose(sum(refined.values()), mixed, atol=1e-3)
    assert np.abs(refined["low"] - stems("conv")["low"]).max() > 1e-3
    assert list(stems("rival", "--save_masks", ext="ogg")) == ["low", "high"]
    assert Path("o/masks.npz").exists()


def test_a_network_and_priors_stand_in_one_report_evaluation_and_comparison(run, runs):
    true = Path("songs/song")
    true.mkdir(parents=True)
    for i, name in enumerate(SOURCES):
        soundfile.write(true / f"{name}.wav", noise(16_000, 1, i), 8000, subtype="FLOAT")
    mixture = read(true / "low.wav") + read(true / "high.wav")
    soundfile.write(true / "mixture.wav", mixture, 8000, subtype="FLOAT")
    common = ["songs/song/mixture.wav", "--reference", "songs/song", "--picture", "false"]
    for model in ("conv", "rival"):
        code, out, err = run(model, *common, "--output", f"{model}/song")
        assert code == 0, err
        assert out.splitlines()[0].split() == ["SI-SDR", "dB", "gain", "dB", "oracle", "gain"]
    quick = ["--steps", "2", "--samples", "1", "--window", "32"]
    priors = ["--priors", runs / "low", runs / "high"]
    code, _, err = run("", *common, "--output", "priors/song", *quick, *priors, main=basis.main)
    assert code == 0, err
    methods = ["conv", "rival", "priors"]
    scores = [json.loads(Path(m, "song/separation.json").read_text())["scores"] for m in methods]
    assert all(set(row) == set(SOURCES) for row in scores)
    assert scores[1]["low"]["oracle_si_sdr_gain"] == scores[2]["low"]["oracle_si_sdr_gain"]
    report.main([f"{m}/song" for m in methods] + ["--output", "page.html"])
    html = Path("page.html").read_text("utf-8")
    assert "conv, a fake" in html
    assert "rival, a mel_mask" in html
    for method in methods:
        evaluate.main([method, "songs", "--metrics", "si_sdr"])
        rows = json.loads(Path(f"scores/{method}/scores.json").read_text())
        assert rows
    compare.main([f"scores/{method}" for method in methods])


def test_sums_and_rests_are_compared_where_there_is_something_to_compare_with(run):
    Path("true").mkdir()
    waves = {name: noise(8000, 1, i) for i, name in enumerate(("vocals", "drums", "bass", "other"))}
    for name, wave in waves.items():
        soundfile.write(f"true/{name}.wav", wave, 8000, subtype="FLOAT")
    soundfile.write("m.wav", sum(waves.values()), 8000, subtype="FLOAT")
    options = ["m.wav", "--two_stems", "vocals", "--reference", "true"]
    code, out, err = run("four", *options)
    assert code == 0, err
    record = json.loads(Path("separated/m/separation.json").read_text())
    assert (record["derived"], list(record["scores"])) == (["no_vocals"], ["vocals"])
    # the oracle knows the rest of the mixture
    assert 1 < record["scores"]["vocals"]["oracle_si_sdr_gain"] < 30
    report.main(["separated/m"])
    rest = waves["drums"] + waves["bass"] + waves["other"]
    soundfile.write("true/no_vocals.wav", rest, 8000, subtype="FLOAT")
    assert run("four", *options)[0] == 0
    record = json.loads(Path("separated/m/separation.json").read_text())
    assert list(record["scores"]) == ["vocals", "no_vocals"]
    report.main(["separated/m"])
    code, _, err = run(
        "four", "m.wav", "--aggregate", "a=vocals,drums,bass,other", "--reference", "true"
    )
    assert code == 2
    assert "no reference of a in true" in err


def test_what_cannot_be_separated_is_one_line(run, runs):
    soundfile.write("m.wav", noise(3000), 8000)
    wave = noise(3000)
    wave[1500] = np.nan
    soundfile.write("bad.wav", wave, 8000, subtype="FLOAT")
    Path("scores").mkdir()
    Path("scores/low.txt").write_text("0,1,A4\n1,2\n")
    Path("scores/high.txt").write_text("0,1,A5\n")
    priors = ["m.wav", "--priors", runs / "conv", runs / "low"]
    file = ["m.wav", "--priors", runs / "conv" / "separator.npz", runs / "low"]
    for result, words in (
        (run(""), "expected a model and an audio file"),
        (run("conv"), "expected a model and an audio file"),
        (run("conv", "none.wav"), "there is no file none.wav"),
        (run("none", "m.wav"), "no separator 'none'"),
        (run("low", "m.wav"), "it holds a prior, with which 'python -m gensep.basis' separates"),
        (run("low/prior.npz", "m.wav"), "it holds a prior of the kind edm"),
        (run("conv", "bad.wav"), "bad.wav holds NaN or Inf at"),
        (run("conv", "m.wav", "--targets", "voice"), "there is no source voice"),
        (run("conv", "m.wav", "--subtype", "PCM_99"), "cannot have the subtype"),
        (run("conv", "m.wav", "--save_masks"), "save_masks"),
        (run("rival", "m.wav", "--niter", "2"), "gives masks of mel bands"),
        (run("conv", "m.wav", "--scores", "scores"), "reads no scores"),
        (run("scored", "m.wav"), "needs the scores"),
        (run("scored", "m.wav", "--scores", "nowhere"), "there is no folder nowhere"),
        (run("scored", "m.wav", "--scores", "scores"), "low.txt, line 2"),
        (run("conv", "m.wav", "--reference", "scores"), "no reference low"),
        (run("conv", "m.wav", "m.wav"), "several inputs would be written"),
        (run("", *priors, main=basis.main), "which 'python -m gensep.separate' applies"),
        (run("", *file, main=basis.main), "it holds a separator"),
    ):
        code, out, err = result
        assert (code, out) == (2, ""), err
        assert err.startswith("error: "), err
        assert err.count("\n") == 1, err
        assert words in err
        assert not Path("separated").exists()


def test_models_are_listed(run, runs, monkeypatch):
    monkeypatch.setattr("gensep.separators.files.SHIPPED", runs)
    code, out, _ = run("", "--list_models")
    assert code == 0
    assert "rival            mel_mask: low, high; validation loss ? at step 7" in out.splitlines()
    monkeypatch.setattr("gensep.separators.files.SHIPPED", runs / "none")
    assert run("", "--list_models")[1] == "no separators ship with this installation\n"
