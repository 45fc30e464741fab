"""Losses of separators against the published sums, written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gensep.runtime.errors import UserError
from gensep.separators.losses import LOSSES, level_differences, song_weights
from gensep.separators.networks import SEPARATORS

SHAPE = (2, 4, 2, 3, 7)  # batch, source, channel, frame, bin


def magnitudes(sources=4):
    rng = np.random.default_rng(0)
    shape = (SHAPE[0], sources, *SHAPE[2:])
    estimates, targets = rng.exponential(size=(2, *shape)).astype(np.float32)
    return estimates, targets, targets.sum(1)


def square(a, b):
    return np.sum((a.astype(float) - b) ** 2)


def clipped(estimate, own, other):
    """Return the squared distance of an estimate from another source, at most the true one."""
    return sum(
        min(square(e, o), square(t, o)) for e, t, o in zip(estimate, own, other, strict=True)
    )


def unbounded(estimate, own, other):
    return square(estimate, other)


@pytest.mark.parametrize("name", LOSSES)
def test_sources_are_as_many_as_the_row_says(name):
    estimates, targets, mixture = magnitudes(3)
    if LOSSES[name].sources:
        with pytest.raises(UserError, match="needs . sources, in the order .*, not 3"):
            LOSSES[name](estimates, targets, mixture)
    else:
        assert np.isfinite(LOSSES[name](estimates, targets, mixture))


def test_rows_of_networks_name_their_sources_in_the_order_of_their_loss():
    for family in SEPARATORS.values():
        assert LOSSES[family.loss].sources in ((), family.sources)


def test_plain_losses():
    estimates, targets, mixture = magnitudes()
    off = estimates.astype(float) - targets
    for name, expected in {
        "mse": np.mean(off**2),
        "squared": np.sum(off**2),
        "l1_sum": np.abs(off).sum(),
        "l1": np.abs(off).sum() / mixture.sum(),
    }.items():
        np.testing.assert_allclose(LOSSES[name](estimates, targets, mixture), expected, rtol=1e-5)


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize(
    ("name", "alpha", "beta", "beta_voice"),
    [("dsd100", 0.001, 0.01, 0.03), ("hhds", 1e-6, 1e-5, 0.03)],
)
def test_loss_of_songs(name, alpha, beta, beta_voice, compat):
    estimates, targets, mixture = magnitudes()
    far = unbounded if compat else clipped
    v, b, d, o = targets.swapaxes(0, 1)
    voice, bass, drums, _ = estimates.swapaxes(0, 1)
    expected = square(voice, v) + square(bass, b) + square(drums, d)
    expected -= alpha * (far(voice, v, b) + far(voice, v, d))
    expected -= alpha * (far(bass, b, v) + far(bass, b, d))
    expected -= alpha * (far(drums, d, v) + far(drums, d, b))
    expected -= beta * (far(bass, b, o) + far(drums, d, o))
    expected -= beta_voice * far(voice, v, o)
    got = LOSSES[name](estimates, targets, mixture, compat=compat)
    np.testing.assert_allclose(got, abs(expected) if compat else expected, rtol=1e-5)


@pytest.mark.parametrize("compat", [False, True])
def test_loss_of_ikala(compat):
    estimates, targets, mixture = magnitudes(2)
    far = unbounded if compat else clipped
    voice, music = estimates.swapaxes(0, 1)
    v, a = targets.swapaxes(0, 1)
    expected = square(voice, v) + 0.9 * square(music, a) - 0.02 * far(voice, v, a)
    got = LOSSES["ikala"](estimates, targets, mixture, compat=compat)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("compat", [False, True])
def test_loss_of_the_stereo_network(compat):
    """Vocals, drums, bass, other; weights on the error, or on the targets alone."""
    estimates, targets, mixture = magnitudes()
    fall = np.linspace(1, 0.5, SHAPE[-1])
    far = unbounded if compat else clipped
    v, d, b, o = (targets * fall).swapaxes(0, 1)
    voice, drums, bass, _ = (estimates if compat else estimates * fall).swapaxes(0, 1)
    expected = square(voice, v) + square(bass, b) + square(drums, d)
    for estimate, own, others in ((voice, v, (b, d)), (bass, b, (v, d)), (drums, d, (v, b))):
        expected -= 0.001 * sum(far(estimate, own, other) for other in others)
    expected -= 0.01 * (far(bass, b, o) + (0 if compat else far(drums, d, o)))
    expected -= 0.03 * far(voice, v, o)
    got = LOSSES["stereo_convsep"](estimates, targets, mixture, compat=compat)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_published_songs_have_an_absolute_value():
    """Far from all sources the sum is negative, without limit."""
    estimates, targets, mixture = magnitudes()
    estimates = targets.copy()
    targets[:, 3] += 100
    plain = LOSSES["dsd100"](estimates, targets, mixture)
    published = LOSSES["dsd100"](estimates, targets, mixture, compat=True)
    assert plain < 0 < published
    np.testing.assert_allclose(-plain, published, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].sources])
def test_true_sources_have_the_least_loss(name):
    """So nothing is gained by going beyond them; the published form rewards it."""
    _, targets, mixture = magnitudes(len(LOSSES[name].sources))
    best = LOSSES[name](targets, targets, mixture)
    rng = np.random.default_rng(0)
    for size in (0.1, 1, 10, 100):
        others = targets + size * rng.normal(size=targets.shape)
        assert LOSSES[name](others, targets, mixture) > best
    slope = jax.grad(lambda x: LOSSES[name](x, targets, mixture))(jnp.asarray(targets))
    assert np.isfinite(slope).all()


def test_level_differences_in_stages():
    estimates, targets, mixture = magnitudes()
    floor = 1e-4

    def differences(x):
        ratio = (x[:, :, 0].astype(float) + floor) / (x[:, :, 1] + floor)
        return (20 * np.log10(ratio)).mean((0, 2))  # source, bin

    np.testing.assert_allclose(level_differences(targets), differences(targets), atol=1e-4)
    near = square(estimates, targets)
    off = differences(estimates) - differences(targets)
    both = near + np.sum(off**2) / 500
    published = near + np.sum(off.mean(0) ** 2) / 500
    for stage, by_default, compat in ((1, near, near), (2, both, published), (3, near, published)):
        row = LOSSES[f"ild_stage{stage}"]
        np.testing.assert_allclose(row(estimates, targets, mixture), by_default, rtol=1e-5)
        np.testing.assert_allclose(row(estimates, targets, mixture, compat=True), compat, rtol=1e-5)
    # the option of the function is the same
    again = LOSSES["ild_stage1"](estimates, targets, mixture, stage=2)
    np.testing.assert_allclose(again, both, rtol=1e-5)
    silent = np.zeros_like(targets)
    slope = jax.grad(lambda x: LOSSES["ild_stage2"](x, silent, mixture))(jnp.asarray(silent))
    assert np.isfinite(slope).all()
    with pytest.raises(UserError, match="2 channels, not 1"):
        LOSSES["ild_stage2"](estimates[:, :, :1], targets[:, :, :1], mixture)


def test_weights_of_songs():
    assert sum(weight == 1 for weight in song_weights().values()) == 3
    assert sum(weight == -0.001 for weight in song_weights().values()) == 6
    assert len(song_weights()) == 12
