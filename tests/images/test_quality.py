"""Figures of drawn images: closed forms, extremes, and a classifier that is always the same."""

import numpy as np
import pytest

from gensep.datasets.images import load_images
from gensep.images import quality
from gensep.images.quality import classifier_frechet, classifier_score, figures, frechet


def test_frechet_distance_of_gaussians_is_exact():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 5))
    first, second = a @ a.T, b @ b.T
    mean = rng.normal(size=5)
    assert frechet(mean, first, mean, first) == pytest.approx(0, abs=1e-9)
    # commuting covariances: the sum of squared differences of the standard deviations
    turn = np.linalg.qr(a)[0]
    s, t = rng.uniform(0.1, 2, (2, 5))
    expected = (mean**2).sum() + ((s - t) ** 2).sum()
    got = frechet(mean, turn * s**2 @ turn.T, 0 * mean, turn * t**2 @ turn.T)
    assert got == pytest.approx(expected)
    # in general tr (C1 C2)^1/2, from the eigenvalues of the product
    shared = np.sqrt(np.linalg.eigvals(first @ second).real).sum()
    expected = np.trace(first) + np.trace(second) - 2 * shared
    assert frechet(mean, first, mean, second) == pytest.approx(expected)
    # a covariance without full rank is no obstacle
    flat = np.zeros((5, 5))
    assert frechet(mean, flat, mean, second) == pytest.approx(np.trace(second))


def test_frechet_distance_of_samples():
    x = np.random.default_rng(0).normal(size=(500, 4))
    assert classifier_frechet(x, x[::-1]) == pytest.approx(0, abs=1e-9)
    assert classifier_frechet(x, x + 2) == pytest.approx(16)
    assert classifier_frechet(x, 3 * x) == pytest.approx(
        (4 * x.mean(0) ** 2).sum() + 4 * np.cov(x, rowvar=False).trace()
    )


def test_classifier_score_of_the_extremes():
    sure = np.eye(7)[np.arange(70) % 7]
    assert classifier_score(sure) == pytest.approx(7)
    assert classifier_score(sure[::7]) == pytest.approx(1)  # one class only
    assert classifier_score(np.full((20, 7), 1 / 7)) == pytest.approx(1)  # no idea
    assert classifier_score(sure[sure[:, :3].any(1)]) == pytest.approx(3)


def test_a_classifier_is_trained_once_and_tells_digits_from_noise(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(quality, "STEPS", 150)
    train = quality.train_classifier
    monkeypatch.setattr(quality, "train_classifier", lambda *a: train(*a, 150))
    classifier = quality.get_classifier("digits", tmp_path)
    assert classifier.accuracy > 0.85
    monkeypatch.setattr(quality, "train_classifier", None)
    kept = quality.get_classifier("digits", tmp_path)
    real = (load_images("digits", "test")[0] + 0.5) / 256
    for a, b in zip(classifier(real), kept(real), strict=True):
        np.testing.assert_array_equal(a, b)
    assert kept.accuracy == classifier.accuracy
    noise = np.random.default_rng(0).uniform(size=real.shape)
    good = figures(kept, real[::2], real)
    bad = figures(kept, noise, real)
    assert good["classifier_frechet"] < 0.2 * bad["classifier_frechet"]
    assert good["classifier_score"] > 5 > 1.5 * bad["classifier_score"]
    assert good["classifier_score_real"] == bad["classifier_score_real"] <= 10
