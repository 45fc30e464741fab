"""One scorer for commands and Python: memory, representations, and what a new metric takes."""

import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gensep.audio.excerpt import Excerpt
from gensep.datasets import separations
from gensep.datasets.layouts import find_songs
from gensep.evaluation import measures, metrics
from gensep.evaluation.campaign import evaluate
from gensep.evaluation.comparison import compare
from gensep.evaluation.ideal_separation import Options, separate_ideally
from gensep.evaluation.measures import METRICS, Metric, Protocol
from gensep.evaluation.metrics import si_sdr
from gensep.evaluation.oracles import oracle_stems
from gensep.evaluation.reference import reference_table, score_stems
from gensep.evaluation.scoring import Pair, fingerprint, score_song
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError

RATE = 8000
NARROW = Representation(sample_rate=8000, n_fft=1024, hop_length=256, n_mels=24, fmax=4000.0)


def waves(samples, channels=2, seed=0):
    """Return two stems `[source, channel, samples]`, coloured differently, and leaky estimates."""
    noise = 0.1 * np.random.default_rng(seed).normal(size=(2, channels, samples + 1))
    true = np.stack([noise[0, :, 1:] + noise[0, :, :-1], noise[1, :, 1:] - noise[1, :, :-1]])
    return true.astype(np.float32), (true + 0.3 * true[::-1]).astype(np.float32)


def write(folder, stems, rate=RATE):
    folder.mkdir(parents=True)
    for name, wave in stems.items():
        soundfile.write(folder / f"{name}.wav", wave.T, rate, subtype="FLOAT")
    return folder


@pytest.fixture
def songs(tmp_path, monkeypatch):
    """Write two songs, `true` and by the methods `mine` and `other`; return the waves of `a`."""
    monkeypatch.chdir(tmp_path)
    for seed, song in enumerate("ab"):
        true, estimates = waves(2 * RATE, seed=seed)
        write(Path("true", song), {"low": true[0], "high": true[1], "mixture": true.sum(0)})
        write(Path("mine", song), {"low": estimates[0], "high": estimates[1]})
        write(Path("other", song), {"low": true[0] * 0.9 + 0.02, "high": true.sum(0)})
    return waves(2 * RATE, seed=0)


def score_part(mixture, folder, representation=NARROW):
    stems = [folder / "low.wav", folder / "high.wav"]
    return score_stems(mixture, stems, "true/a", representation)


def test_reference_scores_are_those_of_the_waves(songs):
    true, estimates = songs
    rows = score_part(Excerpt(Path("true/a/mixture.wav")), Path("mine/a"))
    mixture = true.sum(0)
    ideal = oracle_stems("mel_irm", true, mixture, RATE, NARROW)
    for i, name in enumerate(("low", "high")):
        base = si_sdr(mixture, true[i])
        assert rows[name] == pytest.approx(
            {
                "si_sdr": si_sdr(estimates[i], true[i]),
                "si_sdr_gain": si_sdr(estimates[i], true[i]) - base,
                "oracle_si_sdr_gain": si_sdr(ideal[i], true[i]) - base,
            },
            abs=1e-9,
        )
    assert rows != score_part(Excerpt(Path("true/a/mixture.wav")), Path("mine/a"), Representation())
    shown = reference_table(rows).splitlines()
    assert shown[0].split() == ["SI-SDR", "dB", "gain", "dB", "oracle", "gain"]
    assert shown[-1].split()[0] == "mean"
    # a part of the mixture is compared with that part of the stems
    cut = {name: wave[:, RATE:] for name, wave in zip(("low", "high"), estimates, strict=True)}
    part = score_part(Excerpt(Path("true/a/mixture.wav"), 1.0), write(Path("cut"), cut))
    assert part["low"]["si_sdr"] == pytest.approx(si_sdr(cut["low"], true[0][:, RATE:]), abs=1e-9)


def test_memory_is_independent_of_the_length(tmp_path, monkeypatch):
    """Twice the length costs a fraction of one more wave, though seven are compared."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(metrics, "BLOCK", 1 << 15)
    peaks = {}
    for seconds in (10, 20):
        true, estimates = waves(44100 * seconds)
        folder, names = Path(str(seconds)), ("low", "high")
        write(folder / "true", dict(zip(names, true, strict=True)), 44100)
        write(folder / "mine", dict(zip(names, estimates, strict=True)), 44100)
        write(folder / "mix", {"mix": true.sum(0)}, 44100)
        added = true[0].nbytes // 2
        del true, estimates
        for _ in range(2):  # the first time compiles
            tracemalloc.start()
            mixture, stems = folder / "mix/mix.wav", [folder / f"mine/{n}.wav" for n in names]
            score_stems(Excerpt(mixture), stems, str(folder / "true"), NARROW)
            peaks[seconds] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert peaks[20] - peaks[10] < added / 4


def test_the_oracle_has_the_representation_of_the_record(songs):
    true, _ = songs

    def oracle_gain():
        (estimate,), (reference,) = find_songs("mine/a"), find_songs("true/a")
        pair = Pair(estimate, reference)
        record = score_song(pair, Protocol(("si_sdr",), oracle=True))
        return record["gensep"]["values"]["oracle"]["low"]["si_sdr_gain"], fingerprint(
            pair, Protocol()
        )

    def expected(representation):
        ideal = oracle_stems("mel_irm", true, true.sum(0), RATE, representation)
        return si_sdr(ideal[0], true[0]) - si_sdr(true.sum(0), true[0])

    plain, first = oracle_gain()
    assert plain == pytest.approx(expected(Representation()), abs=1e-5)
    record = {
        "stems": ["low.wav", "high.wav"],
        "mixture": "mixture.wav",
        "representation": dataclasses.asdict(NARROW),
    }
    Path("mine/a", separations.FILE).write_text(json.dumps(record))
    own, second = oracle_gain()
    assert own == pytest.approx(expected(NARROW), abs=1e-5)
    assert abs(own - plain) > 0.05
    assert first != second  # scores of another oracle are not kept


def test_a_new_metric_is_one_row(songs, monkeypatch):
    def peak(song, protocol):
        return {m: {"peak": np.abs(w[..., :]).max((1, 2))} for m, w in song.methods.items()}

    def halves(song, protocol):
        return {
            m: {"half": np.stack([w[..., :RATE].max((1, 2)), w[..., RATE:].max((1, 2))], 1)}
            for m, w in song.methods.items()
        }

    monkeypatch.setitem(METRICS, "peak", Metric(peak, ("peak",), "largest magnitude"))
    monkeypatch.setitem(METRICS, "half", Metric(halves, ("half",), "maxima", np.max))
    found = evaluate("mine", "true", protocol=Protocol(("peak", "half")))
    values = {(r.method, r.song, r.source, r.metric): r.value for r in found.rows}
    highest = np.abs(songs[1][1]).max()
    assert values["estimate", "a", "high", "peak"] == pytest.approx(highest, abs=1e-5)
    assert {line.metric for line in found.summary} == {"peak", "half"}
    (line,) = (
        x for x in found.summary if x[:3] == ("estimate", "high", "half")
    )  # over the frames of both songs
    assert line.pooled == pytest.approx(max(values["estimate", s, "high", "half"] for s in "ab"))
    with pytest.raises(UserError, match="metrics must be among bsseval, .*, half, not loud"):
        Protocol(("loud",))


def test_a_measure_that_another_one_has_is_left_out():
    assert measures.chosen(Protocol(("sdr", "bsseval", "mel"))) == [
        METRICS["bsseval"],
        METRICS["mel"],
    ]
    assert measures.chosen(Protocol(("sdr",))) == [METRICS["sdr"]]
    assert measures.over_frames("msdm_gain") is np.mean
    assert measures.over_frames("SDR") is np.median


def test_evaluate_compare_and_oracles_from_python(songs, capsys):
    protocol = Protocol(("sdr", "si_sdr"))
    for name in ("mine", "other"):
        found = evaluate(name, "true", "scores/{name}", protocol=protocol)
        assert (found.method, found.output) == (name, Path("scores", name))
        assert json.loads((found.output / "scores.json").read_text())["options"]["win"] == 1.0
        assert "| si_sdr" in found.table()
    result = compare(["scores/mine", "scores/other"], "both", ["si_sdr"], picture=False)
    assert "## si_sdr: median over 2 songs" in result.page
    assert {line.metric for line in result.lines} == {"si_sdr"}
    assert sorted(p.name for p in Path("both").iterdir()) == ["comparison.csv", "comparison.md"]
    rows = separate_ideally(Options("true", window=0.5), ["irm2", "mix"])
    assert len(rows) == 8
    assert rows[0].keys() == {"method", "song", "source", "si_sdr", "si_sdr_gain", "sdr"}
    with pytest.raises(UserError, match="duration > 0"):
        Options("true", duration=0.0)
    assert capsys.readouterr().out == ""
