"""Separators on files of any length, rate and channels: the same as on the whole at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gensep.audio.files import Shape
from gensep.inversion.em import WINDOW, stems_of
from gensep.representation.magnitude import Spectra
from gensep.separators.apply import Filtering, native_spectra, separate_blocks
from gensep.separators.open_unmix import OpenUnmix
from gensep.separators.windows import cross_fade, spans
from helpers.fakeseparators import SPECTRA, Convolved, Fixed, Planes, Same, add_rows, loaded

pytestmark = pytest.mark.usefixtures("hasty", "rows")
FORM = Spectra(**SPECTRA)


@pytest.fixture
def rows(monkeypatch):
    add_rows(monkeypatch)


def noise(channels, samples, seed=0):
    swell = np.linspace(0.02, 1, samples)
    return (swell * np.random.default_rng(seed).normal(size=(channels, samples))).astype("f4")


def applied(separator, wave, rate=8000, block=1000, **options):
    blocks = [wave[:, at : at + block] for at in range(0, wave.shape[1], block)]
    shape = Shape(rate, *wave.shape)
    done = list(separate_blocks(separator, lambda: iter(blocks), shape, **options))
    assert all(part.shape[-1] for part in done)
    return np.concatenate(done, -1)


def directly(network, wave, **options):
    """Separate the whole file at once, with the transform of the network."""
    spectra = np.asarray(FORM.transform(wave))
    estimates = network(jnp.abs(spectra)[None])[0]
    return np.asarray(FORM.waves(stems_of(estimates, spectra, **options), wave.shape[1]))


def test_a_convolutional_network_gives_the_same_in_parts_as_on_the_whole():
    wave, network = noise(1, 20_011), Convolved()
    want = directly(network, wave, iterations=0)
    for seconds in (0.2, 100.0):
        got = applied(loaded(network), wave, seconds=seconds)
        np.testing.assert_allclose(got, want, atol=2e-6)


def test_a_network_that_looks_only_backwards_goes_on_where_it_stopped():
    wave = noise(1, 20_011)
    sizes = {"bins": 33, "seen": 33, "width": 8, "layers": 2}
    make = lambda way: OpenUnmix(2, 1, **sizes, unidirectional=way, rngs=nnx.Rngs(0))  # noqa: E731
    forwards, both = (jax.jit(make, static_argnums=0)(way) for way in (True, False))
    want = directly(forwards, wave, iterations=0)
    np.testing.assert_allclose(applied(loaded(forwards), wave, seconds=0.2), want, atol=2e-6)
    assert forwards.streams
    assert not both.streams
    cut = applied(loaded(both), wave, seconds=0.2)
    assert np.abs(cut - directly(both, wave, iterations=0)).max() > 1e-4


def test_what_a_network_sees_beyond_its_context_makes_no_steps():
    """With more reach than context the parts differ, but are cross-faded."""
    wave, network = noise(1, 20_011), Convolved(40)
    got = applied(loaded(network), wave, seconds=0.3)
    np.testing.assert_allclose(got.sum(0), wave, atol=2e-6)
    assert 0.001 < np.abs(got - directly(network, wave, iterations=0)).max() < 1


@pytest.mark.parametrize(
    ("rate", "channels", "planes", "padding"),
    [
        (8000, 1, 2, "zeros"),
        (8000, 2, 1, "reflect"),
        (11_025, 1, 1, "reflect"),
        (11_025, 5, 2, "zeros"),
        (5000, 2, 2, "reflect"),
    ],
)
def test_shares_of_the_mixture_come_back_at_any_rate_and_channels(rate, channels, planes, padding):
    """Also of frequencies that the network does not hear, and where its one channel is silent."""
    wave = noise(channels, 3001)
    if channels == 2:
        wave[1] = -wave[0]
    got = applied(loaded(Same(0.25, 0.75), padding=padding, channels=planes), wave, rate)
    assert got.shape == (2, *wave.shape)
    np.testing.assert_allclose(got.sum(0), wave, atol=3e-6)
    if channels != 2 or planes == 2:
        np.testing.assert_allclose(got[0], 0.25 * wave, atol=3e-6)


def test_every_channel_has_its_own_ratios_if_the_network_has_as_many():
    wave = noise(2, 4000)
    wave[1, 2000:] = 0
    both = applied(loaded(Convolved(), channels=2), wave)
    np.testing.assert_allclose(both, directly(Convolved(), wave, iterations=0), atol=2e-6)
    assert not both[:, 1, 2100:].any()


def test_one_channel_of_a_network_filters_all_channels_alike():
    wave = noise(2, 4000)
    mid = np.asarray(FORM.magnitudes(wave.mean(0)))
    shares = np.asarray(Convolved().shares(jnp.asarray(mid)[None, None]))[0]
    want = FORM.waves(np.asarray(FORM.transform(wave)) * shares, 4000)
    np.testing.assert_allclose(applied(loaded(Convolved()), wave)[0], want, atol=3e-5)


def test_windows_of_a_fixed_network_are_cross_faded_one_after_the_other():
    """As the published program does: the weights of a window rise linearly over the overlap."""
    wave, network = noise(1, 1500), Fixed()
    spectra = np.asarray(FORM.transform(wave))
    total, overlap = spectra.shape[1], 7
    seen = np.pad(np.abs(spectra), ((0, 0), (0, 20), (0, 0)))
    mixed, rise = np.zeros((2, 1, total + 20, FORM.bins)), np.linspace(0, 1, overlap)[:, None]
    at = 0
    while at == 0 or at + overlap < total:
        part = np.asarray(network(jnp.asarray(seen[None, :, at : at + 10])))[0]
        shared = mixed[..., at : at + overlap, :]
        old = shared if at else part[..., :overlap, :]
        mixed[..., at : at + overlap, :] = old * (1 - rise) + part[..., :overlap, :] * rise
        mixed[..., at + overlap : at + 10, :] = part[..., overlap:, :]
        at += 10 - overlap
    phases = spectra / np.maximum(np.abs(spectra), 1e-20)
    want = FORM.waves(mixed[..., :total, :] * phases[None], 1500)
    np.testing.assert_allclose(applied(loaded(network, "fixed"), wave), want, atol=2e-6)


def test_wiener_filters_run_on_whole_windows_of_frames():
    wave = noise(2, WINDOW * 16 + 700)
    for niter, softmask, residual in ((2, True, False), (1, False, True)):
        network = Same(0.3, 0.4) if residual else Convolved()
        separator, how = loaded(network, channels=2), Filtering(niter, softmask, residual)
        want = directly(network, wave, iterations=niter, softmask=softmask, residual=residual)
        got = applied(separator, wave, how=how)
        np.testing.assert_allclose(got, want[:2], atol=1e-4)


def test_estimates_that_are_not_shares_keep_their_level():
    wave = noise(1, 3000)
    for rate in (8000, 11_025):
        got = applied(loaded(Same(3.0, 0.5), "loose"), wave, rate)
        np.testing.assert_allclose(got, wave * np.array([3, 0.5])[:, None, None], atol=2e-5)
    got = applied(loaded(Same(3.0, 1.0), "loose"), wave, how=Filtering(softmask=True))
    np.testing.assert_allclose(got[0], 0.75 * wave, atol=1e-5)


def test_scores_filter_what_the_network_hears():
    wave, asked = noise(1, 6000), []

    def score(first, count):
        asked.append((first, count))
        frames = np.arange(first, first + count)[None, :, None]
        low = np.broadcast_to(frames < 180, (1, count, FORM.bins))
        return np.concatenate([low, ~low]).astype("f4")

    got = applied(loaded(Planes(1), "scored"), wave, score=score)
    assert asked[0] == (0, WINDOW)
    assert sum(count for _, count in asked) == FORM.frames(6000)
    np.testing.assert_allclose(got.sum(0), wave, atol=2e-6)
    np.testing.assert_allclose(got[0, :, :2800], wave[:, :2800], atol=2e-6)
    assert not got[0, :, 2950:].any()


def test_short_and_silent_files():
    for samples, rate in ((1, 8000), (2, 48_000), (33, 48_000), (100, 8000)):
        for wave in (np.zeros((2, samples), "f4"), noise(2, samples)):
            got = applied(loaded(Fixed(), "fixed"), wave, rate)
            assert got.shape == (2, 2, samples)
            np.testing.assert_allclose(got.sum(0), wave, atol=2e-6)
    one = noise(1, 1)
    np.testing.assert_allclose(applied(loaded(Convolved()), one, 48_000).sum(0), one, atol=2e-6)


def test_no_more_than_a_part_of_a_long_file_is_held():
    """Five minutes: the reader is never ahead of the stems by more than a few parts."""
    form = {"n_fft": 2048, "hop_length": 1024}
    rate, block = 11_025, 1 << 15
    samples, read, progress = 300 * rate, [], []

    def blocks():
        for at in range(0, samples, block):
            read.append(at)
            yield np.zeros((1, min(block, samples - at)), np.float32)

    given = ahead = 0
    done = separate_blocks(
        loaded(Same(0.5, 0.5), **form),
        blocks,
        Shape(rate, 1, samples),
        seconds=10.0,
        progress=lambda *x: progress.append(x),
    )
    for part in done:
        ahead = max(ahead, max(read) + block - given)
        given += part.shape[-1]
    assert given == samples
    assert ahead < 90 * rate
    own = native_spectra(Spectra(**{**SPECTRA, **form}), rate)
    assert progress[-1] == (own.frames(samples),) * 2


def test_spans_cover_all_frames_with_context_and_read_equally_much():
    for total in range(1, 200, 7):
        found = spans(total, 40, 6, 4)
        assert (found[0].start, found[-1].stop) == (0, total)
        for before, span in zip(found, found[1:], strict=False):
            assert before.stop - span.start == 4
        for span in found if total > 40 else ():
            assert 0 <= span.read <= total - 40
            assert span.read <= max(0, span.start - 6)
            assert span.read + 40 >= min(total, span.stop + 6)
    with pytest.raises(ValueError, match="leave nothing"):
        spans(100, 16, 6, 4)


def test_a_cross_fade_of_equal_parts_changes_nothing():
    whole = np.random.default_rng(0).normal(size=(2, 50, 3)).astype("f4")
    parts = [whole[:, at : at + 20] for at in range(0, 31, 10)]
    got = np.concatenate(list(cross_fade(parts, 10)), axis=-2)
    np.testing.assert_allclose(got, whole, atol=1e-6)
