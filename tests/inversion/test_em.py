"""EM as Open-Unmix has it: its formulas in plain numpy, windows, and mixtures of rank one."""

import jax.numpy as jnp
import numpy as np
import pytest

from gensep.inversion.em import stems_of

pytestmark = pytest.mark.usefixtures("hasty")

FRAMES, BINS, WINDOW = 11, 3, 4


@pytest.fixture(scope="module")
def mixture():
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(2, 2, FRAMES, BINS))
    return (60 * (parts[0] + 1j * parts[1])).astype(np.complex64)


@pytest.fixture(scope="module")
def estimates(mixture):
    return (np.random.default_rng(1).random((3, *mixture.shape)) * np.abs(mixture)).astype("f")


def plain(y, x, iterations):
    """Run the formulas bin by bin on `[source, channel, frame, bin]` and a mixture."""
    level = max(1, np.abs(x).max() / 10)
    y, x = np.array(y, complex) / level, x / level
    for _ in range(iterations):
        v = (np.abs(y) ** 2).mean(1)
        for f in range(y.shape[-1]):
            covariances = [y[j, :, :, f] @ y[j, :, :, f].conj().T for j in range(len(y))]
            covariances = [c / (v[j, :, f].sum() + 1e-10) for j, c in enumerate(covariances)]
            for t in range(y.shape[2]):
                models = [v[j, t, f] * c for j, c in enumerate(covariances)]
                whitened = np.linalg.solve(sum(models) + 1e-5 * np.eye(len(x)), x[:, t, f])
                for j, model in enumerate(models):
                    y[j, :, t, f] = model @ whitened
    return y * level


@pytest.mark.parametrize(
    ("iterations", "softmask", "residual"), [(0, False, True), (1, True, False), (3, False, True)]
)
def test_formulas_in_windows(estimates, mixture, iterations, softmask, residual):
    options = {"softmask": softmask, "residual": residual, "window": WINDOW}
    stems = stems_of(estimates, mixture, iterations=iterations, **options)
    first = estimates * np.exp(1j * np.angle(mixture))[None]
    if softmask:
        first = estimates / estimates.sum(0) * mixture[None]
    if residual:
        first = np.concatenate([first, (mixture - first.sum(0))[None]])
    expected = np.empty_like(first)
    for at in range(0, FRAMES, WINDOW):
        span = slice(at, at + WINDOW)
        expected[..., span, :] = plain(first[..., span, :], mixture[:, span], iterations)
    np.testing.assert_allclose(stems, expected, atol=2e-5 * np.abs(mixture).max())


def test_equal_channels_and_silence_are_no_trouble(estimates, mixture):
    x = jnp.asarray(mixture).at[1].set(mixture[0]).at[:, 2].set(0)
    shares = estimates[:, :1] / estimates[:, :1].sum(0)
    stems = stems_of(shares * jnp.abs(x)[None], x, iterations=2)
    np.testing.assert_allclose(stems.sum(0), x, atol=1e-3 * np.abs(mixture).max())
    np.testing.assert_array_equal(stems[:, :, 2], 0)


def test_one_source_needs_a_residual(estimates, mixture):
    with pytest.raises(ValueError, match="two sources or a residual"):
        stems_of(estimates[:1], mixture, iterations=1)
    assert stems_of(estimates[:1], mixture, iterations=1, residual=True).shape[0] == 2
