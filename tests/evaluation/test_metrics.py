"""Metrics against hand formulas and museval."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from gensep.evaluation.metrics import si_sdr
from gensep.evaluation.statistics import interval
from helpers import ROOT


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=4000)
    return reference + 0.1 * rng.normal(size=4000), reference


def test_si_sdr_equals_the_cosine_formula(pair):
    # SI-SDR = 10 log10(c^2 / (1 - c^2)) with the correlation c
    c = np.corrcoef(*pair)[0, 1]
    assert si_sdr(*pair) == pytest.approx(10 * np.log10(c**2 / (1 - c**2)), abs=1e-9)


def test_si_sdr_ignores_scale_sign_and_mean(pair):
    estimate, reference = pair
    plain = si_sdr(estimate, reference)
    assert si_sdr(-3 * estimate + 5, 0.01 * reference - 2) == pytest.approx(plain, abs=1e-9)


def test_channels_are_one_vector(pair):
    estimate, reference = pair
    shape = (2, 2000)
    e, r = estimate.reshape(shape), reference.reshape(shape)
    flat = [x - x.mean(axis=1, keepdims=True) for x in (e, r)]
    e0, r0 = flat[0].ravel(), flat[1].ravel()
    target = (e0 @ r0) / (r0 @ r0) * r0
    expected = 10 * np.log10((target @ target) / ((e0 - target) @ (e0 - target)))
    assert si_sdr(e + [[3.0], [-1.0]], r) == pytest.approx(expected, abs=1e-9)


def test_si_sdr_edges(pair):
    _, reference = pair
    assert np.isnan(si_sdr(reference, np.zeros(4000)))
    assert si_sdr(np.zeros(4000), reference) == -np.inf
    assert si_sdr(np.array([2.0, -2.0]), np.array([1.0, -1.0])) == np.inf
    with pytest.raises(ValueError, match="one shape"):
        si_sdr(reference[1:], reference)


def test_a_tenth_of_the_error_gains_20_db(pair):
    mixture, reference = pair
    better = reference + 0.1 * (mixture - reference)
    gain = si_sdr(better, reference) - si_sdr(mixture, reference)
    assert gain == pytest.approx(20, abs=0.1)


def test_interval_is_that_of_the_mean_and_seeded():
    values = np.random.default_rng(1).normal(3, 2, 400)
    mean, low, high = interval(values, seed=4)
    assert mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.03)
    assert interval([*values, np.nan], seed=4) == (mean, low, high)
    assert np.isnan(interval([np.nan])).all()


ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "scripts"), *sys.path])}
SCRIPT = """
import json, sys
import numpy as np
from museval_without_ffmpeg import import_museval
museval = import_museval()
rng = np.random.default_rng(0)
# the SDR of BSSEval v4 is the plain SNR of each window
reference = rng.normal(size=(2, 4000, 1))
error = 0.1 * rng.normal(size=(2, 4000, 1))
sdr = museval.metrics.bss_eval(reference, reference + error, window=1000, hop=1000)[0]
snr = 10 * np.log10((reference**2).reshape(2, 4, 1000).sum(-1)
                    / (error**2).reshape(2, 4, 1000).sum(-1))
left = [name for name in ("musdb", "stempeg") if name in sys.modules]
print(json.dumps([float(np.abs(sdr - snr).max()), left]))
"""


def test_museval_comes_without_ffmpeg_and_its_sdr_is_the_snr(tmp_path):
    env = ENVIRONMENT | {"PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    difference, left = json.loads(done.stdout)
    assert difference < 1e-9
    assert left == []


def test_missing_museval_is_said_in_one_line():
    code = (
        "import sys; sys.modules['museval'] = None\n"
        "from museval_without_ffmpeg import import_museval\n"
        "try: import_museval()\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stdout.startswith("UserError museval cannot be imported")
    assert len(done.stdout.splitlines()) == 1
