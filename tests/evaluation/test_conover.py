"""Tests of every two methods after Friedman's, against formulas by hand and scikit-posthocs."""

import csv
import json

import numpy as np
import pytest

from gensep import compare
from gensep.evaluation.statistics import conover, friedman

# SDR of vocals of eight tracks by four methods, with ties
TRACKS = [
    [5.1, 6.2, 6.0, 3.1],
    [2.3, 3.3, 2.9, 2.3],
    [7.8, 7.9, 8.4, 6.6],
    [-0.5, 1.2, 0.6, 0.6],
    [4.4, 4.0, 5.2, 3.9],
    [6.0, 6.9, 6.9, 5.0],
    [3.3, 4.1, 3.0, 2.8],
    [1.0, 2.2, 1.9, 0.2],
]
METHODS = ["ideal", "net", "other", "rpca"]
# scikit_posthocs.posthoc_conover_friedman(TRACKS), release 0.17.1
REFERENCE = [
    [1.0, 0.000790359914, 0.0113421344, 0.0458795321],
    [0.000790359914, 1.0, 0.266011094, 5.39727326e-06],
    [0.0113421344, 0.266011094, 1.0, 7.63916936e-05],
    [0.0458795321, 5.39727326e-06, 7.63916936e-05, 1.0],
]


def by_song(columns):
    return [{f"song{i}": x for i, x in enumerate(column)} for column in columns]


def test_p_values_are_those_of_scikit_posthocs():
    methods = by_song(np.transpose(TRACKS))
    methods[0]["alone"] = 9.0  # a song that one method has is left out
    np.testing.assert_allclose(conover(methods), REFERENCE, rtol=1e-7)


def test_p_values_are_those_of_the_formula():
    """Rank sums 2, 5, 5: t = 3 / sqrt(2) with 2 degrees of freedom, p = 1 - t / sqrt(2 + t^2)."""
    found = conover(by_song([[1.0, 1.0], [2.0, 3.0], [3.0, 2.0]]))
    t = 3 / 2**0.5
    p = 1 - t / (2 + t * t) ** 0.5
    np.testing.assert_allclose(found, [[1, p, p], [p, 1, 1], [p, 1, 1]], rtol=1e-12)


def test_songs_that_agree_leave_no_doubt():
    order = by_song([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [3.0, 4.0, 5.0]])
    np.testing.assert_array_equal(conover(order), np.eye(3))
    np.testing.assert_array_equal(conover([order[0]] * 3), np.ones((3, 3)))
    assert conover(order[:2]) is None
    assert conover(by_song([[1.0], [2.0], [3.0]])) is None
    assert conover([]) is friedman([]) is None


def test_compare_tabulates_and_draws_them(tmp_path, capsys):
    values = {"vocals": TRACKS, "drums": np.array(TRACKS)[:, ::-1].tolist()}
    for k, method in enumerate(METHODS):
        rows = [
            {"method": method, "song": f"s{i}", "source": source, "metric": "SDR", "value": x[k]}
            for source, tracks in values.items()
            for i, x in enumerate(tracks)
        ]
        (tmp_path / method).mkdir()
        text = json.dumps({"method": method, "rows": rows})
        (tmp_path / method / "scores.json").write_text(text)
    output = tmp_path / "out"
    compare.main([*(str(tmp_path / m) for m in METHODS), "--output", str(output)])
    text = capsys.readouterr().out
    assert "Friedman test over 4 methods: vocals: chi2" in text
    line = f"| net - rpca    | {REFERENCE[1][3]:.2g}"
    assert line in text, text
    with (output / "comparison.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["statistic"].startswith("Conover")]
    assert len(rows) == 6 * 3  # pairs; vocals, drums and all
    found = {(r["statistic"], r["method"], r["source"]): float(r["p"]) for r in rows}
    for i, j in ((0, 1), (1, 3)):
        key = f"Conover, against {METHODS[i]}", METHODS[j]
        assert found[(*key, "vocals")] == pytest.approx(REFERENCE[i][j])
    assert found["Conover, against ideal", "net", "drums"] == pytest.approx(REFERENCE[3][2])
    assert (output / "conover_SDR.png").read_bytes()[:4] == b"\x89PNG"
    compare.main([*(str(tmp_path / m) for m in METHODS[:2]), "--output", str(tmp_path / "two")])
    assert not list((tmp_path / "two").glob("conover*"))
