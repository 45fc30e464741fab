"""Wave to model units and back: librosa's numbers, the mixing law, masks on waves."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gensep.evaluation.metrics import si_sdr
from gensep.evaluation.oracles import oracle_masks
from gensep.inversion.masking import apply_masks, native_n_fft
from gensep.representation.analysis import analyse
from gensep.representation.mel import Representation

REP = Representation()
SMALL = Representation(n_fft=512, hop_length=128, n_mels=24)
RATE = 16000


def noise(*shape, seed=0):
    return (0.1 * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def melody(pitches, seed, seconds=3.0):
    """Return harmonic notes that decay, at the representation's level, float32 `[n]`."""
    rng, n = np.random.default_rng(seed), int(seconds * RATE)
    t, wave = np.arange(n) / RATE, np.zeros(n)
    for start in np.arange(0, seconds, 0.5):
        f = 440 * 2 ** ((rng.choice(pitches) - 69) / 12)
        age = np.maximum(t - start, 0)
        envelope = (t >= start) * np.exp(-3 * age) * np.minimum(age / 0.01, 1)
        for h in range(1, int(7500 / f)):
            wave += envelope / h * np.sin(2 * np.pi * h * f * t + rng.uniform(0, 2 * np.pi))
    return (wave * 10 ** (REP.level_db / 20) / wave.std()).astype(np.float32)


@pytest.fixture(scope="module")
def stems():
    return np.stack([melody(np.arange(48, 60), 0), melody(np.arange(67, 84), 1)])


# ---- librosa


@pytest.fixture(scope="module")
def librosa():
    with warnings.catch_warnings():  # of its own dependencies
        warnings.simplefilter("ignore")
        import librosa

        librosa.stft(np.zeros(4096, np.float32))
    return librosa


@pytest.mark.parametrize("samples", [16000, 5001])
def test_stft_is_librosas(librosa, samples):
    from gensep.representation.stft import stft

    x = noise(samples)
    for n_fft, hop in ((2048, 512), (512, 100)):
        expected = librosa.stft(x.astype(np.float64), n_fft=n_fft, hop_length=hop).T
        got = stft(x, n_fft, hop)
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("rep", [REP, SMALL, Representation(fmin=0.0, fmax=7600.0, n_mels=40)])
def test_mel_power_is_librosas(librosa, rep):
    x = noise(2, 16000)
    expected = librosa.feature.melspectrogram(
        y=x.astype(np.float64),
        sr=rep.sample_rate,
        n_fft=rep.n_fft,
        hop_length=rep.hop_length,
        n_mels=rep.n_mels,
        fmin=rep.fmin,
        fmax=rep.fmax,
        norm=None,
    ).swapaxes(-1, -2)
    got = rep.mel_power(x)
    assert got.shape == (2, 1 + 16000 // rep.hop_length, rep.n_mels)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7 * expected.max())


# ---- units and law


def powers(*shape, seed=0):
    """Return powers over a range of 110 dB, as in music, some of them zero."""
    rng = np.random.default_rng(seed)
    power = 10 ** rng.uniform(-2, 9, shape)
    power.flat[::17] = 0
    return power.astype(np.float32)


def test_encode_says_what_it_says():
    rep = Representation(floor_db=-10, center_db=3, span_db=20)
    power = np.array([0.0, 0.1, 1.0, 1e8])
    expected = (10 * np.log10(power + 0.1) - 3) / 20
    np.testing.assert_allclose(rep.encode(power.astype(np.float32)), expected, rtol=1e-5)
    assert rep.beta == pytest.approx(20 * np.log(10) / 10)


def test_decode_undoes_encode_over_the_whole_range():
    power = powers(50, 20)
    back = np.asarray(REP.decode(REP.encode(power)))
    np.testing.assert_allclose(back + REP.floor, power + REP.floor, rtol=2e-5)
    assert (back >= 0).all()
    np.testing.assert_allclose(
        REP.encode(REP.decode(np.float32([-0.9, 0, 2.5]))), [-0.9, 0, 2.5], atol=1e-5
    )
    assert REP.decode(np.float32(-9.0)) == 0  # under the floor there is nothing


@pytest.mark.parametrize("k", [1, 2, 4])
def test_powers_add_exactly_in_model_units(k):
    """The law without cross terms, floor bins and all, over the whole range."""
    power = powers(k, 50, 20)
    mixed = REP.mixing(jnp.zeros(k))(REP.encode(power))
    np.testing.assert_allclose(mixed, REP.encode(power.sum(0), k), atol=2e-5)
    # gains in dB multiply a source's power, its floor included
    gains = np.linspace(-6, 9, k).astype(np.float32)
    expected = np.tensordot(10 ** (gains / 10), power.astype(np.float64) + REP.floor, 1)
    got = REP.mixing(gains)(REP.encode(power))
    np.testing.assert_allclose(
        got, (10 * np.log10(expected) - REP.center_db) / REP.span_db, atol=2e-5
    )


def test_silence_plus_silence_is_silence_as_the_law_says():
    silence = REP.encode(np.zeros((3, 4), np.float32))
    np.testing.assert_allclose(silence, (REP.floor_db - REP.center_db) / REP.span_db, rtol=1e-6)
    np.testing.assert_allclose(
        REP.mixing(jnp.zeros(2))(jnp.stack([silence, silence])),
        REP.encode(np.zeros((3, 4), np.float32), 2),
        atol=1e-6,
    )
    np.testing.assert_allclose(REP.decode(silence), 0, atol=1e-7)


def law_errors(stems, gains_db, law):
    """Return law(encoded stems) - encoded mixture in dB on active bins (algorithms 1)."""
    factors = 10 ** (np.asarray(gains_db) / 20)
    mixture = (factors[:, None] * stems).sum(0).astype(np.float32)
    z = REP.encode(REP.mel_power(stems))
    z_m = np.asarray(REP.encode(REP.mel_power(mixture), len(stems)))
    level = REP.span_db * z_m + REP.center_db
    active = level > level.max() - 50
    assert 0.3 < active.mean() < 1
    return REP.span_db * (np.asarray(law(z)) - z_m)[active]


@pytest.mark.parametrize("gains_db", [(0.0, 0.0), (6.0, 0.0), (0.0, -6.0), (-6.0, 6.0)])
def test_mixing_law_holds_on_waves_and_the_ancestors_does_not(stems, gains_db):
    error = law_errors(stems, gains_db, REP.mixing(jnp.asarray(gains_db)))
    assert np.sqrt((error**2).mean()) < 1.5
    assert abs(np.median(error)) < 0.1
    assert np.abs(error).max() > 0.5  # cross terms are there: this is no identity

    def ancestor(z):
        """Apply a formula for decibels to values scaled to about [-1, 1]."""
        scale = np.log(10) / 10
        return (jax.nn.logsumexp(z * scale, axis=0) - np.log(len(stems))) / scale

    wrong = law_errors(stems, gains_db, ancestor)
    assert np.sqrt((wrong**2).mean()) > 8


def test_masks_are_power_ratios_that_sum_to_one():
    power = powers(3, 50, 20)
    masks = np.asarray(REP.masks(REP.encode(power)))
    np.testing.assert_allclose(masks.sum(0), 1, atol=1e-6)
    whole = power.astype(np.float64) + REP.floor
    np.testing.assert_allclose(masks, whole / whole.sum(0), atol=2e-5)


def test_settings_that_do_not_fit_are_refused():
    for bad in ({"hop_length": 500}, {"fmax": 9000.0}, {"fmin": -1.0}, {"fmin": 8000.0}):
        with pytest.raises(ValueError, match="hop_length|fmin"):
            Representation(**bad)


# ---- whole files in blocks


def blocks_of(x, *sizes):
    """Cut `[..., n]` into blocks of these sizes, over and over."""
    at, i = 0, 0
    while at < x.shape[-1]:
        yield x[..., at : at + sizes[i % len(sizes)]]
        at, i = at + sizes[i % len(sizes)], i + 1


@pytest.mark.parametrize("samples", [1, 127, 128, 8192, 128 * 512, 150_001])
def test_analysis_in_blocks_is_the_transform_of_the_file(samples):
    x = noise(samples)
    whole = np.asarray(SMALL.mel_power(x))
    for sizes in ((samples,), (777, 1, 5000), (64,) if samples < 10_000 else (65_536,)):
        got = analyse(blocks_of(x, *sizes), SMALL)
        assert got.power.shape == (1 + samples // 128, 24)
        assert got.samples == samples
        np.testing.assert_allclose(got.power, whole, rtol=1e-4, atol=1e-6 * whole.max())
        assert got.level == analyse([x], SMALL).level


def test_level_is_that_of_the_sounding_parts():
    x = np.concatenate([noise(16000), 1e-5 * noise(64000)])  # a hiss that nobody hears
    assert analyse([x], SMALL).level == pytest.approx(-20, abs=0.1)
    raised = analyse([x], SMALL).at_level(-10.0)
    np.testing.assert_allclose(
        raised, analyse([x * np.sqrt(np.float32(10))], SMALL).power, rtol=0.03, atol=1e-3
    )
    for silent in (np.zeros(5000, np.float32), 1e-5 * noise(5000), np.zeros(1, np.float32)):
        got = analyse([silent], SMALL)
        assert got.level == -np.inf
        np.testing.assert_array_equal(got.at_level(-10.0), got.power)


def filtered(x, rate, masks, rep, *sizes):
    return np.concatenate(list(apply_masks(blocks_of(x, *sizes), rate, masks, rep)), -1)


def frames_at(rep, samples, rate):
    return 1 + round(samples * rep.sample_rate / rate) // rep.hop_length


@pytest.mark.parametrize(
    ("rate", "channels"), [(8000, 3), (16000, 12), (22050, 1), (44100, 2), (48000, 1), (192000, 1)]
)
def test_unit_masks_return_the_input_and_stems_sum_to_it(rate, channels):
    rng = np.random.default_rng(0)
    chunk = 128 * (native_n_fft(SMALL, rate) // 4)
    for samples in (1, 3, 1000, chunk + 1):
        x = rng.uniform(-1, 1, (channels, samples)).astype(np.float32)
        frames = frames_at(SMALL, samples, rate)
        one = filtered(x, rate, np.ones((1, frames, 24), np.float32), SMALL, samples)
        assert one.shape == (1, channels, samples)
        assert np.abs(one[0] - x).max() < 1e-6
        shares = rng.dirichlet(np.ones(3), (frames, 24)).astype(np.float32).transpose(2, 0, 1)
        stems = filtered(x, rate, shares, SMALL, 777, 5003)
        assert stems.shape == (3, channels, samples)
        assert np.abs(stems.sum(0) - x).max() < 1e-6


def test_filtering_does_not_depend_on_the_blocks():
    x, rng = noise(2, 30_000), np.random.default_rng(0)
    masks = rng.uniform(0, 1, (2, 235, 24)).astype(np.float32)
    whole = filtered(x, 16000, masks, SMALL, 30_000)
    for sizes in ((1000,), (4096, 1, 999), (16384,)):
        np.testing.assert_allclose(filtered(x, 16000, masks, SMALL, *sizes), whole, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_masks_act_at_their_own_time_and_band(rate):
    """A click passes where the mask's frame is open; a tone where its band is."""
    seconds, rep = 4.0, SMALL  # several chunks at any rate
    n = int(seconds * rate)
    frames = frames_at(rep, n, rate)
    centre = np.arange(frames) * rep.hop_length / rep.sample_rate
    masks = np.zeros((1, frames, 24), np.float32)
    masks[:, centre >= 2] = 1
    x = noise(1, n)
    power = filtered(x, rate, masks, rep, n)[0, 0].astype(np.float64) ** 2
    window = rep.n_fft / rep.sample_rate
    at = np.arange(n) / rate
    assert power[at < 2 - window].max() < 1e-12
    kept = at > 2 + window
    np.testing.assert_allclose(power[kept], x[0, kept].astype(np.float64) ** 2, atol=1e-6)
    energy = np.cumsum(power) / (x[0].astype(np.float64) ** 2).sum()
    assert energy[-1] == pytest.approx(0.5, abs=0.02)
    for hertz in (300, 2500):
        tone = np.sin(2 * np.pi * hertz * at).astype(np.float32)[None]
        low = np.zeros((1, frames, 24), np.float32)
        low[:, :, :14] = 1  # bands up to about 1 kHz
        got = filtered(tone, rate, low, rep, n)[0, 0, n // 4 : -n // 4].std()
        assert got == pytest.approx(0.7 if hertz < 1000 else 0, abs=0.02)


def test_bins_above_the_bands_go_with_the_highest_band():
    n, rate = 44100, 44100
    tone = np.sin(2 * np.pi * 15_000 / rate * np.arange(n)).astype(np.float32)[None]
    masks = np.zeros((2, frames_at(SMALL, n, rate), 24), np.float32)
    masks[0, :, :-1] = masks[1, :, -1:] = 1
    low, high = filtered(tone, rate, masks, SMALL, n)[..., 3000:-3000]  # its ends are clicks
    assert np.abs(low).max() < 1e-3
    np.testing.assert_allclose(high, tone[:, 3000:-3000], atol=1e-3)


@pytest.mark.parametrize(("rate", "n_fft"), [(16000, 2048), (8000, 1024), (192000, 24576)])
def test_windows_last_as_long_at_every_rate(rate, n_fft):
    assert native_n_fft(REP, rate) == n_fft
    for odd in (11025, 22050, 44100, 96000, 12345):
        n = native_n_fft(REP, odd)
        assert n % 4 == 0
        assert n / odd == pytest.approx(2048 / 16000, rel=0.02)


def test_true_power_masks_separate_well(stems):
    """The ceiling of the method is decibels above the mixture."""
    mixture = stems.sum(0)
    masks = oracle_masks([analyse([stem], REP) for stem in stems])
    np.testing.assert_allclose(masks.sum(0), 1, atol=1e-5)
    out = filtered(mixture[None], RATE, masks, REP, 9999)[:, 0]
    for stem, estimate in zip(stems, out, strict=True):
        assert si_sdr(estimate, stem) > si_sdr(mixture, stem) + 8
    assert np.abs(out.sum(0) - mixture).max() < 1e-6
