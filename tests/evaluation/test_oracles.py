"""Oracles: definitions on bins one can work out, published transforms, and the command."""

import json
import sys

import numpy as np
import pytest
import scipy.signal
import soundfile

from gensep import oracle
from gensep.audio.excerpt import Excerpt
from gensep.evaluation import ideal_separation, oracles
from gensep.evaluation.metrics import si_sdr
from gensep.evaluation.oracles import ORACLES, oracle_stems
from gensep.evaluation.oracles import ibm as ibm_mask
from gensep.runtime import errors

pytestmark = pytest.mark.usefixtures("hasty")

RATE = 16000
RATIOS = [name for name in ORACLES if not name.startswith(("ibm", "mel_ibm", "psm"))]


def spectra(*values):
    """Return one bin per value: complex `[source, 1, 1, bin]` and their sum."""
    sources = np.array(values, np.complex64)[:, None, None]
    return sources, sources.sum(0)


def mask(function, *values, **options):
    return np.asarray(function(*spectra(*values), **options))[:, 0, 0]


def notes(pitch, seed, seconds=3.0, channels=1):
    """Return decaying harmonic notes, each with its own panning, float32 `[channels, n]`."""
    rng, n = np.random.default_rng(seed), int(seconds * RATE)
    t, wave = np.arange(n) / RATE, np.zeros((channels, n))
    for start in np.arange(0, seconds, 0.5):
        f = 440 * 2 ** ((rng.choice(pitch) - 69) / 12)
        age = np.maximum(t - start, 0)
        envelope = (t >= start) * np.exp(-3 * age) * np.minimum(age / 0.01, 1)
        note = sum(
            np.sin(2 * np.pi * h * f * t + rng.uniform(0, 6)) / h
            for h in range(1, min(12, int(7500 / f)))
        )
        wave += rng.uniform(0.3, 1, (channels, 1)) * envelope * note
    return (0.05 * wave / wave.std() + 1e-4 * rng.normal(size=wave.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def stems():
    """Two mono stems that overlap, `[source, 1, n]`."""
    return np.stack([notes(range(48, 60), 0), notes(range(67, 84), 1)])


@pytest.fixture(scope="module")
def wide():
    """Three stereo stems of full rank, longer than a chunk."""
    rng = np.random.default_rng(0)
    low = [notes(range(40 + 9 * k, 50 + 9 * k), k, 8.7, 2) for k in range(3)]
    return np.stack(low) + (0.01 * rng.normal(size=(3, 2, low[0].shape[1]))).astype(np.float32)


# ---- definitions


def test_ibm_against_the_mixture_overlaps_and_leaves_gaps():
    # bins: clear; both above half of what is left of them; both below; equal; silent
    a, b = [0.7, 1.0, 0.6, 0.5, 0], [0.3, -0.9, 0.4, 0.5, 0]
    np.testing.assert_array_equal(mask(ibm_mask, a, b), [[1, 1, 1, 1, 0], [0, 1, 0, 1, 0]])
    np.testing.assert_array_equal(
        mask(ibm_mask, a, b, alpha=2.0), [[0, 1, 0, 0, 0], [0, 1, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        mask(ibm_mask, a, b, theta=0.65), [[1, 1, 0, 0, 0], [0, 1, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        mask(ibm_mask, a, b, alpha=2.0, over="sum"), [[1, 1, 1, 1, 0], [0, 0, 0, 1, 0]]
    )
    np.testing.assert_array_equal(mask(oracles.ibm_max, a, b), [[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])


def test_irm_is_the_ratio_of_powers_of_magnitudes():
    a, b = [3, 3j, 0, 0], [1, -1, 2, 0]
    np.testing.assert_allclose(
        mask(oracles.irm, a, b, alpha=1.0), [[0.75, 0.75, 0, 0], [0.25, 0.25, 1, 0]], atol=1e-6
    )
    np.testing.assert_allclose(
        mask(oracles.irm, a, b), [[0.9, 0.9, 0, 0], [0.1, 0.1, 1, 0]], atol=1e-6
    )
    np.testing.assert_allclose(mask(oracles.irm, [1], [1j], [-1]), 1 / 3, atol=1e-6)


def test_psm_is_the_aligned_share_between_nothing_and_all():
    # in phase; at right angles (|y|^2 / |x|^2); opposed; alone; silent
    a, b = [0.6, 1, 1, 1, 0], [0.4, 2j, -3, 0, 0]
    np.testing.assert_allclose(
        mask(oracles.psm, a, b), [[0.6, 0.2, 0, 1, 0], [0.4, 0.8, 1, 0, 0]], atol=1e-6
    )


def test_every_oracle_separates_what_does_not_overlap():
    t = np.arange(40_000) / RATE
    tones = np.stack([np.sin(2 * np.pi * f * t) for f in (500, 4000)]).astype(np.float32)[:, None]
    for name in ORACLES:
        got = oracle_stems(name, tones, tones.sum(0), RATE)
        worst = min(si_sdr(y, s) for y, s in zip(got, tones, strict=True))
        assert worst == pytest.approx(0, abs=0.1) if name == "mix" else worst > 28, name


def test_mix_is_an_equal_part(wide):
    mixture = wide.sum(0)
    got = oracle_stems("mix", wide, mixture, RATE)
    np.testing.assert_allclose(got, np.broadcast_to(mixture / 3, wide.shape), atol=1e-7)


@pytest.mark.parametrize("name", RATIOS)
def test_shares_add_up_to_the_mixture(stems, name):
    mixture = stems.sum(0)
    np.testing.assert_allclose(oracle_stems(name, stems, mixture, RATE).sum(0), mixture, atol=2e-6)


def test_order_of_the_oracles(stems):
    mixture = stems.sum(0)
    score = {
        name: np.mean(
            [
                si_sdr(y, s)
                for y, s in zip(oracle_stems(name, stems, mixture, RATE), stems, strict=True)
            ]
        )
        for name in ORACLES
    }
    assert score["mix"] < score["mel_ibm"] < score["mel_irm"] < score["irm2"]
    assert score["ibm1"] < score["irm1"] < score["irm2"] < score["psm"]
    assert score["ibm_max"] < score["irm2"]


# ---- the published transform and filter, in float64


def reference(stems, mixture, estimate):
    """Run `estimate(spectra, mixture)` on scipy's transform, float64 `[.., frequency, frame]`."""
    y, x = (scipy.signal.stft(z.astype(np.float64), nperseg=2048)[2] for z in (stems, mixture))
    return scipy.signal.istft(estimate(y, x), nperseg=2048)[1][..., : mixture.shape[-1]]


def numpy_irm(y, x):
    return np.abs(y) ** 2 / (np.finfo(float).eps + (np.abs(y) ** 2).sum(0)) * x


def numpy_mwf(y, x, axes=(1, 2)):
    """Filter bin by bin; `axes` of the trace of `[frequency, channel, channel]`."""
    eps, channels, r, p = np.finfo(float).eps, y.shape[1], [], []
    for one in y:
        outer = np.einsum("aft,bft->ftab", one, one.conj())
        own = (outer / (eps + (np.abs(one) ** 2).mean(0))[..., None, None]).mean(1)
        trace = np.trace(own, axis1=axes[0], axis2=axes[1])
        own = own * channels / (trace[:, None, None] if axes == (1, 2) else trace)
        own = own + eps * np.eye(channels)
        r.append(own)
        p.append(np.einsum("fab,ftba->ft", np.linalg.inv(own), outer).real / channels)
    total = sum(q[..., None, None] * own[:, None] for q, own in zip(p, r, strict=True))
    w = np.linalg.solve(total, np.moveaxis(x, 0, -1)[..., None])[..., 0]
    return np.stack([np.einsum("ft,fab,ftb->aft", q, own, w) for q, own in zip(p, r, strict=True)])


@pytest.mark.parametrize("samples", [1, 1024, 5000, 131_072, 131_073])
def test_the_transform_is_scipys(wide, samples):
    cut = wide[..., :samples]
    expected = reference(cut, cut.sum(0), numpy_irm) if samples > 2047 else None
    got = oracle_stems("irm2", cut, cut.sum(0), RATE)
    assert got.shape == cut.shape
    if expected is not None:  # scipy shortens the window of short files
        np.testing.assert_allclose(got, expected, atol=3e-6)


def test_mwf_of_one_channel_is_irm2(stems):
    mixture = stems.sum(0)
    expected = oracle_stems("irm2", stems, mixture, RATE)
    np.testing.assert_allclose(oracle_stems("mwf", stems, mixture, RATE), expected, atol=3e-6)


@pytest.mark.parametrize(("name", "axes"), [("mwf", (1, 2)), ("mwf_compat", (0, 1))])
def test_mwf_is_that_of_float64(wide, name, axes):
    """To 1e-3 dB; the published trace over the wrong axes is a filter of its own."""
    mixture = wide.sum(0)
    expected = reference(wide, mixture, lambda y, x: numpy_mwf(y, x, axes))
    got = oracle_stems(name, wide, mixture, RATE)
    for y, z, s in zip(got, expected, wide, strict=True):
        assert si_sdr(y, s) == pytest.approx(si_sdr(z, s), abs=1e-3)
        assert si_sdr(y, z) > 60
    if name == "mwf_compat":
        assert np.abs(got - oracle_stems("mwf", wide, mixture, RATE)).max() > 1e-5


def test_mwf_uses_space_and_stays_finite(wide):
    """Point sources: the covariance has rank one, and two channels tell them apart."""
    mono = wide[:2, :1]
    panned = mono * np.array([[1, 0.2], [0.3, 1]], np.float32)[:, :, None]
    panned[:, :, :20_000] = 0
    mixture = panned.sum(0)
    scores = {
        name: np.mean(
            [
                si_sdr(y, s)
                for y, s in zip(oracle_stems(name, panned, mixture, RATE), panned, strict=True)
            ]
        )
        for name in ("irm2", "mwf")
    }
    assert scores["mwf"] > scores["irm2"] + 15
    for name in ("mwf", "mwf_compat"):
        assert np.isfinite(oracle_stems(name, panned, mixture, RATE)).all()


@pytest.mark.parametrize("shape", [(1, 1, 3000), (2, 5, 3000), (4, 1, 2000)])
def test_any_count_of_sources_and_channels_and_silence(shape):
    sound = (0.1 * np.random.default_rng(0).normal(size=shape)).astype(np.float32)
    for waves in (sound, np.zeros(shape, np.float32)):
        for name in ("ibm1", "mwf", "mel_irm"):
            got = oracle_stems(name, waves, waves.sum(0), 44100)
            assert got.shape == shape
            assert np.isfinite(got).all(), name
    if shape[0] == 1:
        np.testing.assert_allclose(oracle_stems("mwf", sound, sound[0], RATE), sound, atol=1e-5)


# ---- the command


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Return `run(*argv) -> (code, stdout, stderr)`, in process, within `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def command(*argv):
        monkeypatch.setattr(sys, "argv", ["oracle", *map(str, argv)])
        capfd.readouterr()
        code = 0
        try:
            errors.run(oracle.main)
        except SystemExit as done:
            code = done.code or 0
        return code, *capfd.readouterr()

    return command


@pytest.fixture
def songs(tmp_path, stems):
    """Two songs, one without a mixture of its own."""
    for song, part in (("one", stems), ("two", stems[:, :, ::-1])):
        (tmp_path / "songs" / song).mkdir(parents=True)
        for name, wave in zip(("bass", "voice"), part, strict=True):
            soundfile.write(
                tmp_path / "songs" / song / f"{name}.wav", wave.T, RATE, subtype="FLOAT"
            )
    soundfile.write(tmp_path / "songs/one/mixture.wav", stems.sum(0).T, RATE, subtype="FLOAT")
    return tmp_path / "songs"


def test_command_writes_scores_and_skips_what_is_done(run, songs, tmp_path, stems, monkeypatch):
    monkeypatch.setattr(Excerpt, "read", None)  # songs are read in blocks, never at once
    code, out, err = run("songs", "--method", "irm2", "mix", "--window", "0.5")
    assert code == 0, err
    files = sorted(
        p.relative_to(tmp_path / "oracles").as_posix()
        for p in (tmp_path / "oracles").rglob("*")
        if p.is_file()
    )
    assert files == sorted(
        [
            "oracle.json",
            *(
                f"{m}/{s}/{f}"
                for m in ("irm2", "mix")
                for s in ("one", "two")
                for f in ("bass.wav", "oracle.json", "voice.wav")
            ),
        ]
    )
    got, rate = soundfile.read("oracles/irm2/one/voice.wav", dtype="float32")
    mixture = stems.sum(0)
    expected = oracle_stems("irm2", stems, mixture, RATE)[1, 0]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert rate == RATE
    record = json.loads((tmp_path / "oracles/oracle.json").read_text())
    assert {"python", "jax"} <= set(record["versions"])
    row = next(
        r
        for r in record["scores"]
        if r["method"] == "irm2" and r["song"] == "one" and r["source"] == "voice"
    )
    gain = si_sdr(expected, stems[1, 0]) - si_sdr(mixture[0], stems[1, 0])
    assert row["si_sdr_gain"] == pytest.approx(gain, abs=1e-3)
    error = ((expected - stems[1, 0]).astype(float)[:48_000] ** 2).reshape(6, 8000).sum(1)
    sdr = 10 * np.log10((stems[1, 0].astype(float) ** 2).reshape(6, 8000).sum(1) / error)
    assert row["sdr"] == pytest.approx(np.median(sdr), abs=1e-3)
    assert f"{'irm2':<12}{'mean':<12}" in out
    monkeypatch.setattr(ideal_separation, "oracle_spool", None)  # a second computation would fail
    assert run("songs", "--method", "irm2", "mix", "--window", "0.5") == (0, out, err)
    with pytest.raises(TypeError):
        run("songs", "--method", "irm2", "--window", "0.25")


def test_command_refuses(run, songs, tmp_path):
    soundfile.write("songs/two/mixture.wav", np.zeros(100), RATE)
    for argv, words in (
        (["songs", "--method", "irm3"], "not 'irm3'"),
        (["songs", "--method", "mix", "mix"], "each once"),
        (["songs", "--window", "0"], "window >= 0.01"),
        (["nowhere"], "no folder nowhere"),
        (["songs", "--method", "mix", "--ext", "xyz"], "no audio format"),
        (["songs", "--method", "mix"], "two: the mixture has 1 channels of 100"),
    ):
        code, out, err = run(*argv)
        assert code == 2, err
        assert err.startswith("error: ")
        assert words in err
        assert len(err.splitlines()) == 1
        assert out == ""
    assert not list(tmp_path.rglob("*.part"))
