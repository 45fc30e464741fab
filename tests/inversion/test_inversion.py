"""From mel back to waves: against librosa, scipy and float64, across chunks, and the command."""

import json
import sys
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.signal
import soundfile

from gensep import invert
from gensep.evaluation.metrics import si_sdr
from gensep.inversion import methods, phase
from gensep.inversion.mask_file import MaskFile, read_masks, write_masks
from gensep.inversion.masking import apply_masks
from gensep.inversion.methods import METHODS, Bands, bands, nnls
from gensep.inversion.resynthesis import Options, invert_masks, invert_power
from gensep.inversion.wiener import EM_LOAD, em_powers, inverse, maximization, wiener
from gensep.representation.mel import Representation
from gensep.representation.stft import istft, stft
from gensep.runtime import errors
from gensep.separation.from_masks import invert_separation

pytestmark = pytest.mark.usefixtures("hasty")

REP = Representation(n_fft=512, hop_length=128, n_mels=24)
RATE = 16000


def noise(*shape, seed=0):
    return (0.1 * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def tone(pitch, samples, seed=0):
    """Return a slow glissando with harmonics, float32 `[n]`, smooth everywhere."""
    t = np.arange(samples) / RATE
    turn = np.cumsum(pitch * (1 + 0.05 * np.sin(3 * t + seed))) / RATE
    return (0.1 * sum(np.sin(2 * np.pi * h * turn) / h for h in range(1, 6))).astype(np.float32)


@pytest.fixture(scope="module")
def scene():
    """Two tones in stereo: stems `[2, 2, n]`, their mixture and the shares of mel power."""
    stems = np.stack([tone(f, 30_000, k) for k, f in enumerate((220, 1100))])
    stems = stems[:, None] * np.array([[1, 0.5], [0.4, 0.9]], np.float32)[:, :, None]
    power = np.asarray(REP.mel_power(stems.mean(1))) + 1e-9
    return stems, stems.sum(0), (power / power.sum(0)).astype(np.float32)


def inverted(method, mixture, shares, rate=RATE, **options):
    parts = invert_masks(lambda: [mixture], rate, shares, REP, method, Options(**options))
    return np.concatenate(list(parts), -1)


# ---- the transform


@pytest.mark.parametrize(("n_fft", "hop"), [(2048, 1024), (512, 128)])
def test_istft_is_scipys_and_undoes_stft(n_fft, hop):
    for samples in (hop * 9, 5003):
        x = noise(2, samples)
        padded = np.pad(x, ((0, 0), (0, -samples % hop)))
        got = stft(padded, n_fft, hop)
        about = {"nperseg": n_fft, "noverlap": n_fft - hop}
        expected = scipy.signal.stft(x.astype(np.float64), **about)[2]
        np.testing.assert_allclose(got.swapaxes(1, 2) / (n_fft / 2), expected, atol=1e-7)
        np.testing.assert_allclose(istft(got, hop, samples), x, atol=3e-7)
        # spectra of no wave: the least-squares one
        gains = np.random.default_rng(1).uniform(size=expected.shape)
        wave = scipy.signal.istft(gains * expected, **about)[1][:, :samples]
        mine = istft(got * gains.swapaxes(1, 2).astype(np.float32), hop, samples)
        np.testing.assert_allclose(mine, wave, atol=1e-6)


# ---- phases


@pytest.fixture(scope="module")
def librosa():
    with warnings.catch_warnings():  # of its own dependencies
        warnings.simplefilter("ignore")
        import librosa

        librosa.griffinlim(np.ones((257, 9)), n_iter=1, init=None)
    return librosa


@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_griffin_lim_is_librosas(librosa, momentum):
    samples = 8000
    magnitude = np.abs(stft(noise(samples), 512, 128))
    for rounds in (1, 10):
        expected = librosa.griffinlim(
            magnitude.T.astype(np.float64),
            n_iter=rounds,
            hop_length=128,
            init=None,
            momentum=momentum,
            length=samples,
        )
        got = phase.griffin_lim(magnitude.astype(np.complex64), 128, samples, rounds, momentum)
        assert np.linalg.norm(got - expected) < 1e-4 * np.linalg.norm(expected)


def test_momentum_and_rounds_bring_magnitudes_nearer():
    x = tone(440, 16_000)
    magnitude = jnp.abs(stft(x, 512, 128))
    first = phase.random_phases(jax.random.key(0), magnitude)

    def misfit(rounds, momentum):
        wave = phase.griffin_lim(first, 128, len(x), rounds, momentum)
        gap = jnp.abs(stft(wave, 512, 128)) - magnitude
        return float(jnp.linalg.norm(gap) / jnp.linalg.norm(magnitude))

    plain = [misfit(rounds, 0.0) for rounds in (0, 2, 8, 32)]
    assert plain == sorted(plain, reverse=True)
    assert misfit(32, 0.99) < 0.7 * plain[-1]
    true = phase.griffin_lim(stft(x, 512, 128), 128, len(x), 8)
    np.testing.assert_allclose(true, x, atol=1e-6)  # true phases stay


def numpy_misi(magnitude, mixture, n_fft, hop, rounds):
    """Run MISI as its equations say, in float64."""
    about = {"nperseg": n_fft, "noverlap": n_fft - hop}
    n, k = mixture.shape[-1], len(magnitude)
    phases = np.angle(scipy.signal.stft(mixture, **about)[2])
    for round in range(rounds + 1):
        y = scipy.signal.istft(magnitude * np.exp(1j * phases), **about)[1][..., :n]
        y = y + (mixture - y.sum(0)) / k
        if round < rounds:
            phases = np.angle(scipy.signal.stft(y, **about)[2])
    return y


@pytest.mark.parametrize("rounds", [0, 1, 6])
def test_misi_is_that_of_float64(rounds):
    stems = np.stack([tone(300, 6400), tone(470, 6400, 2)]) + noise(2, 6400)
    mixture = stems.sum(0)
    spectra, mixed = stft(stems, 512, 128), stft(mixture, 512, 128)
    first = jnp.abs(spectra) * jnp.exp(1j * jnp.angle(mixed))[None]
    got = np.asarray(phase.misi(first, mixture, 128, rounds))
    magnitude = np.abs(np.asarray(spectra, np.complex128)).swapaxes(1, 2) / 256
    expected = numpy_misi(magnitude, mixture.astype(np.float64), 512, 128, rounds)
    assert np.linalg.norm(got - expected) < 1e-4 * np.linalg.norm(expected)
    np.testing.assert_allclose(got.sum(0), mixture, atol=1e-6)


def test_misi_climbs_with_rounds(scene):
    stems, mixture, _ = scene
    turned = jnp.exp(1j * jnp.angle(stft(mixture, 512, 128)))
    first = jnp.abs(stft(stems, 512, 128)) * turned[None]
    scores = [
        np.mean(
            [
                si_sdr(y, s)
                for y, s in zip(
                    np.asarray(phase.misi(first, mixture, 128, rounds)), stems, strict=True
                )
            ]
        )
        for rounds in (0, 1, 5, 20)
    ]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 3


# ---- powers


def test_nnls_finds_the_nonnegative_solution_of_scipy():
    rng = np.random.default_rng(0)
    bank = rng.uniform(size=(12, 6)).astype(np.float32)
    mel = rng.uniform(size=(5, 12)).astype(np.float32)  # no powers have it exactly
    made = Bands(
        jnp.asarray(bank), jnp.asarray(np.linalg.pinv(bank)), jnp.zeros((12, 6)), jnp.ones(6, bool)
    )
    expected = np.stack(
        [scipy.optimize.nnls(bank.astype(float), row.astype(float))[0] for row in mel]
    )
    assert (expected == 0).any()
    np.testing.assert_allclose(nnls(mel, made, 5000), expected, atol=2e-3)


def test_nnls_fits_mel_power_as_well_as_librosa(librosa):
    form = bands(REP, RATE, REP.n_fft)
    mel = np.asarray(REP.mel_power(noise(1500)))
    got = np.asarray(nnls(mel, form))
    expected = librosa.util.nnls(np.asarray(form.bank), mel.T).T
    misfit = [
        np.linalg.norm(s @ np.asarray(form.bank).T - mel) / np.linalg.norm(mel)
        for s in (got, expected)
    ]
    assert misfit[0] < 1e-3 + misfit[1]
    assert np.linalg.norm(got - expected) < 0.05 * np.linalg.norm(expected)
    assert (got >= 0).all()
    steps = [
        np.linalg.norm(np.asarray(nnls(mel, form, n)) @ np.asarray(form.bank).T - mel)
        for n in (0, 1, 5, 20)
    ]
    assert steps == sorted(steps, reverse=True)


@pytest.mark.parametrize("name", methods.POWERS)
def test_powers_have_the_mel_power_of_the_source(name):
    """Exactly by NNLS, nearly by the others; where one source has it all it gets it all."""
    form = bands(REP, RATE, REP.n_fft)
    power = np.abs(stft(noise(1, 4000), REP.n_fft, REP.hop_length)) ** 2
    frames = power.shape[1]
    shares = np.random.default_rng(0).uniform(0.2, 0.8, (frames, 24)).astype(np.float32)
    shares = np.stack([shares, 1 - shares])
    got = np.asarray(methods.POWERS[name](shares, power, form))
    bank = np.asarray(form.bank)
    gap = got @ bank.T - shares[:, None] * (power @ bank.T)
    limit = {"spread": 0.3, "nnls": 2e-3, "pinv": 0.1}[name]
    assert np.linalg.norm(gap) < limit * np.linalg.norm(power @ bank.T)
    one = np.stack([np.ones_like(shares[0]), np.zeros_like(shares[0])])
    whole, none = np.asarray(methods.POWERS[name](one, power, form))
    assert none.max() < 1e-6 * whole.max()


def test_filters_by_hand():
    powers = jnp.array([9.0, 0, 1])[None, :, None, None] * jnp.array([1.0, 3])[:, None, None, None]
    mixture = jnp.array([2j, 5, -1])[:, None, None]
    got = methods.ratio(powers, mixture)[:, :, 0, 0]
    np.testing.assert_allclose(got, [[0.5j, 2.5, -0.25], [1.5j, 2.5, -0.75]], atol=1e-6)
    got = methods.mixture_phases(powers, mixture)[:, :, 0, 0]
    root = np.sqrt(3)
    np.testing.assert_allclose(got, [[3j, 0, -1], [3j * root, 0, -root]], atol=1e-6)
    rest = methods.with_residual(jnp.array([[[[1.0]]], [[[2.0]]]]), jnp.array([[[5.0]]]))
    np.testing.assert_allclose(rest.ravel(), [1, 2, 2])


# ---- multichannel Wiener


@pytest.mark.parametrize("n", [1, 2, 5])
def test_inverse_of_hermitian_matrices(n):
    rng = np.random.default_rng(n)
    a = rng.normal(size=(n, n, 7)) + 1j * rng.normal(size=(n, n, 7))
    a = np.einsum("abt,cbt->act", a, a.conj()) + 0.1 * np.eye(n)[..., None]
    expected = np.moveaxis(np.linalg.inv(np.moveaxis(a, -1, 0)), 0, -1)
    got = inverse(jnp.asarray(a, jnp.complex64))
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


def numpy_em(y, x, rounds, load):
    """Run EM frame by frame, in float64: the sources like y, and the likelihood every round."""
    sources, channels, frames, bins = y.shape
    out, likelihood = np.zeros_like(y), np.zeros(rounds + 1)
    for f in range(bins):
        c = np.einsum("kat,kbt->ktab", y[..., f], y[..., f].conj())
        v = (np.abs(y[..., f]) ** 2).mean(1)
        for round in range(rounds + 1):
            r = c.sum(1) / v.sum(1)[:, None, None]
            trace = np.trace(r, axis1=1, axis2=2).real[:, None, None]
            r = r + load * trace / channels * np.eye(channels)
            new = np.zeros_like(c)
            for t in range(frames):
                total = (v[:, t, None, None] * r).sum(0)
                back, z = np.linalg.inv(total), x[:, t, f]
                likelihood[round] -= np.linalg.slogdet(total)[1] + (z.conj() @ back @ z).real
                for k in range(sources):
                    prior = v[k, t] * r[k]
                    gain = prior @ back
                    z = gain @ x[:, t, f]
                    new[k, t] = np.outer(z, z.conj()) + (np.eye(channels) - gain) @ prior
                    if round == rounds:
                        out[k, :, t, f] = z
            c = new
            v = np.einsum("kab,ktba->kt", np.linalg.inv(r), c).real / channels
    return out, likelihood


@pytest.fixture
def bins():
    """Sources of full-rank covariances, and coarse first estimates of them."""
    rng = np.random.default_rng(0)
    sources, channels, frames, bins = 3, 2, 20, 4

    def gauss(*shape):
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    root = gauss(sources, channels, channels, bins)
    loud = rng.gamma(0.5, size=(sources, 1, frames, bins))
    true = np.sqrt(loud) * np.einsum(
        "kabf,kbtf->katf", root, gauss(sources, channels, frames, bins)
    )
    mixture = true.sum(0)
    rough = loud / loud.sum(0) * mixture
    return true, mixture, rough


def em_wiener(spectra, mixture, rounds):
    """Run EM on all frames at once, as `resynthesis` does in chunks."""
    covariances = ()
    for _ in range(rounds + 1):
        power, moments = em_powers(spectra, mixture, covariances)
        covariances += (maximization(power.sum(1), moments.sum(3)),)
    return wiener(power, covariances[-1], mixture)


@pytest.mark.parametrize("rounds", [0, 3])
def test_em_is_that_of_float64(bins, rounds):
    _, mixture, rough = bins
    expected, likelihood = numpy_em(rough, mixture, rounds, EM_LOAD)
    got = em_wiener(rough.astype(np.complex64), mixture.astype(np.complex64), rounds)
    assert np.abs(got - expected).max() < 2e-4 * np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(got).sum(0), mixture, atol=1e-4)
    assert (np.diff(likelihood) > 0).all()  # what EM promises


def test_em_uses_space_where_masks_cannot(scene):
    stems, mixture, shares = scene
    blurred = 0.5 + 0.4 * (shares - 0.5)

    def score(method, **options):
        got = inverted(method, mixture, blurred, length=32, **options)
        return np.mean([si_sdr(y, s) for y, s in zip(got, stems, strict=True)])

    plain, no_round = score("spread"), score("em_wiener", iterations=0)
    assert plain + 3 < no_round < score("em_wiener", iterations=1) - 0.2


# ---- whole files


def test_spread_is_what_separation_writes(scene):
    _, mixture, shares = scene
    for rate in (RATE, 22050):
        expected = np.concatenate(list(apply_masks([mixture], rate, shares, REP)), -1)
        np.testing.assert_allclose(inverted("spread", mixture, shares, rate), expected, atol=2e-7)


@pytest.mark.parametrize("method", METHODS)
def test_methods_at_any_rate_and_length(scene, method):
    _, _, shares = scene
    rounds = 0 if method == "em_wiener" else 2
    for samples in (1, 4000):
        x = noise(2, samples)
        got = inverted(method, x, shares, 22050, length=32, iterations=rounds)
        assert got.shape == (2, 2, samples)
        assert np.isfinite(got).all()
        if method not in ("mixture_phase", "griffin_lim", "fast_griffin_lim"):
            np.testing.assert_allclose(got.sum(0), x, atol=1e-6)
    silent = inverted(method, 0 * x, shares, 22050, length=32, iterations=rounds)
    np.testing.assert_allclose(silent, 0, atol=1e-4)


@pytest.mark.parametrize("method", ["nnls", "mixture_phase", "em_wiener"])
def test_result_does_not_depend_on_the_chunks(scene, method):
    _, mixture, shares = scene
    rounds = 1 if method == "em_wiener" else None
    whole = inverted(method, mixture, shares, length=256, iterations=rounds)
    limit = 2e-4 if method == "em_wiener" else 2e-6  # sums in another order
    cut = inverted(method, mixture, shares, length=32, iterations=rounds)
    np.testing.assert_allclose(cut, whole, atol=limit)


def jumps(wave, seams):
    """Return the largest second difference near seams, and anywhere else, of `[.., n]`."""
    bend = np.abs(np.diff(wave, 2))
    near = np.zeros(bend.shape[-1], bool)
    for seam in seams:
        near[seam - 4 : seam + 4] = True
    return bend[..., near].max(), bend[..., ~near].max()


@pytest.mark.parametrize("method", ["griffin_lim", "fast_griffin_lim", "misi"])
def test_no_seams_in_phase_retrieval(scene, method):
    """Chunks of a quarter of a second: no click where they meet, and stems as good as whole."""
    stems, mixture, shares = scene
    whole = inverted(method, mixture, shares, length=256)
    cut = inverted(method, mixture, shares, length=32)
    at, elsewhere = jumps(cut, range(32 * 128, 30_000, 32 * 128))
    assert at < 1.2 * elsewhere
    scores = [[si_sdr(y, s) for y, s in zip(out, stems, strict=True)] for out in (whole, cut)]
    assert np.mean(scores[1]) > np.mean(scores[0]) - 0.5
    hops = np.square(cut[..., : 30_000 // 128 * 128].reshape(2, 2, -1, 128)).mean(-1)
    true = np.square(stems[..., : 30_000 // 128 * 128].reshape(2, 2, -1, 128)).mean(-1)
    level = 10 * np.log10((hops / true)[:, :, 4:-4])
    assert np.abs(level).mean() < 1.5


def test_sound_from_mel_power_alone():
    """Low noise, in one chunk or many: its mel power again, and no click where chunks meet."""
    low = [scipy.signal.butter(4, hertz, fs=RATE, output="sos") for hertz in (300, 600)]
    power = np.stack(
        [REP.mel_power(scipy.signal.sosfilt(sos, noise(30_000)).astype(np.float32)) for sos in low]
    )
    worth = power.max() / 1000
    for length in (256, 32):
        wave = np.concatenate(list(invert_power(power, REP, length=length)), -1)
        assert wave.shape == (2, 1, (power.shape[1] - 1) * 128)
        again = np.asarray(REP.mel_power(wave[:, 0]))
        gap = np.square(10 * np.log10((again + worth) / (power + worth)))
        assert gap.mean() < 0.5**2
        beside = np.add.outer(np.arange(32, 224, 32), np.arange(-3, 2)).ravel()
        assert gap[:, beside].mean() < 1.5 * gap.mean()
        at, elsewhere = jumps(wave, range(32 * 128, 29_000, 32 * 128))
        assert at < 1.2 * elsewhere
    other = np.concatenate(list(invert_power(power, REP, seed=1, length=32)), -1)
    assert np.abs(other - wave).max() > 0.01


# ---- files and the command


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Return `run(*argv) -> Result`, in process, within `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def command(*argv):
        monkeypatch.setattr(sys, "argv", ["invert", *map(str, argv)])
        capfd.readouterr()
        code = 0
        try:
            errors.run(invert.main)
        except SystemExit as done:
            code = done.code or 0
        return Result(code, *capfd.readouterr())

    return command


@pytest.fixture
def separated(tmp_path, scene):
    """A folder as gensep.basis --save_masks leaves it, of seconds 0.5 on of a longer mixture."""
    stems, mixture, shares = scene
    folder = tmp_path / "out"
    (folder / "true").mkdir(parents=True)
    for name, wave in (("mix", mixture), ("out/true/low", stems[0]), ("out/true/high", stems[1])):
        longer = np.pad(wave, ((0, 0), (8000, 0)))
        soundfile.write(tmp_path / f"{name}.wav", longer.T, RATE, subtype="FLOAT")
    record = {
        "mixture": "mix.wav",
        "stems": ["low.wav", "high.wav"],
        "options": {"start": 0.5, "duration": None},
    }
    (folder / "separation.json").write_text(json.dumps(record))
    power = np.asarray(REP.mel_power(mixture.mean(0)))
    write_masks(folder / "masks.npz", MaskFile(("low", "high"), shares, power, REP))
    return folder


def test_mask_files_come_back(separated, scene):
    content = read_masks(separated / "masks.npz")
    assert content.names == ("low", "high")
    assert content.representation == REP
    assert content.masks.dtype == content.power.dtype == np.float32
    np.testing.assert_allclose(content.masks, scene[2], atol=1e-3)
    np.testing.assert_allclose(content.masks.sum(0), 1, atol=1e-6)
    assert list(separated.glob(".*")) == []


@pytest.mark.parametrize(
    ("method", "more"),
    [("misi", []), ("nnls", ["--residual"]), ("em_wiener", ["--iterations", "0"])],
)
def test_command_writes_stems(run, separated, method, more):
    got = run("out", "--method", method, "--reference", "out/true", *more)
    assert got.code == 0, got.err
    names = {"high.wav", "inversion.json", "low.wav"} | (
        {"residual.wav"} if "nnls" in method else set()
    )
    folder = separated / method
    assert {p.name for p in folder.iterdir()} == names
    wave, rate = soundfile.read(folder / "low.wav")
    assert (wave.shape, rate) == ((30_000, 2), RATE)
    record = json.loads((folder / "inversion.json").read_text())
    assert record["method"] == method
    assert {"python", "jax"} <= set(record["versions"])
    assert record["command"].startswith(f"python -m gensep.invert out --method {method}")
    assert record["scores"]["high"]["si_sdr_gain"] > 7
    assert "SI-SDR" in got.out


def test_a_notebook_inverts_too(run, separated):
    made = invert_separation(separated, separated / "by_hand", "nnls", residual=True)
    assert [stem.name for stem in made.stems] == ["low.wav", "high.wav", "residual.wav"]
    assert (made.folder, made.facts["method"]) == (separated / "by_hand", "nnls")
    assert made.facts["seconds"] == 30_000 / RATE
    assert "scores" not in made.facts
    assert run("out", "--method", "nnls", "--residual").code == 0
    for stem in made.stems:
        by_command, _ = soundfile.read(separated / "nnls" / stem.name)
        np.testing.assert_array_equal(soundfile.read(stem)[0], by_command)
    with pytest.raises(errors.UserError, match="method must be one of .* not 'magic'"):
        invert_separation(separated, method="magic")


def test_command_plays_mel_power_alone(run, separated, scene):
    write_masks(
        separated / "hum.npz",
        MaskFile(("sound",), None, np.asarray(REP.mel_power(scene[0][0, 0])), REP),
    )
    assert run("out/hum.npz", "--iterations", "4").code == 0
    wave, rate = soundfile.read(separated / "hum/fast_griffin_lim/hum.wav")
    assert (len(wave), rate) == (30_000 // 128 * 128, RATE)
    assert wave.std() == pytest.approx(scene[0][0, 0].std(), rel=0.1)
    assert run("out/masks.npz", "--method", "griffin_lim", "--output", "solo").code == 0
    assert soundfile.read("solo/high.wav")[0].std() > 0.01


def test_command_refuses(run, separated, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "empty").mkdir()
    soundfile.write(tmp_path / "short.wav", np.zeros((9000, 2)), RATE)
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"PK no archive")
    np.savez(tmp_path / "odd.npz", power=np.zeros((9, 7)), representation=np.array("{}"))
    nan = np.full((9, 96), np.nan, np.float32)
    np.savez(tmp_path / "nan.npz", power=nan, representation=np.array("{}"))
    for argv, words in (
        ([], "expected a folder"),
        (["out", "--method", "magic"], "not 'magic'"),
        (["out", "--powers", "magic"], "not 'magic'"),
        (["out", "--iterations", "-1"], "not -1"),
        (["out", "--method", "em_wiener", "--iterations", "21"], "0 to 20"),
        (["out", "out", "--output", "x"], "one --output"),
        (["empty"], "there is no empty/separation.json"),
        (["out", "--mixture", "gone.wav"], "no longer at gone.wav"),
        (["out", "--mixture", "short.wav"], "name the mixture that was separated"),
        (["out", "--reference", "empty"], "no reference low"),
        (["out", "--ext", "xyz"], "no audio format"),
        (["bad.npz"], "bad.npz is no mask file"),
        (["odd.npz"], "power [9, 7]"),
        (["nan.npz"], "not finite"),
        (["none.npz"], "there is no none.npz"),
        (["out/masks.npz", "--method", "misi"], "without a mixture"),
        (["out/masks.npz", "--residual"], "without a mixture"),
    ):
        got = run(*argv)
        assert got.code == 2, got.err
        assert got.err.startswith("error: ")
        assert words in got.err
        assert len(got.err.splitlines()) == 1, got.err
        assert got.out == ""
    (separated / "masks.npz").unlink()
    assert "separate with --save_masks" in run("out").err
    (separated / "separation.json").write_text("[]")
    assert "is no record of gensep.basis" in run("out").err
    assert {p.name for p in tmp_path.rglob("*.wav")} == {
        p.name for p in before if p.suffix == ".wav"
    } | {"short.wav"}
