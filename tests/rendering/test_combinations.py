"""Combinations: their counts, numbers and samples; songs from scores; remixes of songs."""

import itertools
import math

import numpy as np
import pytest
import soundfile

from gensep import combine
from gensep.cli.config import build
from gensep.datasets.layouts import find_songs
from gensep.rendering import combinations, notation, score_text
from gensep.rendering.combinations import Variant, arrangement, count, distinct, sample, variants
from gensep.rendering.combined_songs import variants_of
from gensep.rendering.instruments_file import Source
from gensep.rendering.notation import Note, Piece
from gensep.rendering.rendition import random
from gensep.rendering.rwc import RwcSound
from gensep.runtime.errors import UserError
from helpers import tinyfont
from helpers.tinyrwc import write_rwc

TIMES, MUSICIANS = (0.0, 0.1, 0.2), (1, 2, 3)


def test_variants_and_their_order():
    made = variants((0.0, 0.1), ("F", "M"), ("NO",), (1, 2))
    assert len(made) == 8
    assert made[:3] == [
        Variant(0, "F", "NO", 1),
        Variant(0, "F", "NO", 2),
        Variant(0, "M", "NO", 1),
    ]
    assert made[-1] == Variant(0.1, "M", "NO", 2)


@pytest.mark.parametrize(
    ("times", "intensities", "timbres", "expected"),
    [
        (TIMES, "FMP", MUSICIANS, 421_200),  # RWC, original score: P(27, 4)
        ((0.0,), "FMP", MUSICIANS, 3_024),  # RWC, aligned score: P(9, 4)
        (TIMES, "F", (1,), 78),  # Sibelius: 3^4 - 3
        ((0.0,), "F", (1,), 1),  # ground truth: one default
        ((0.0, 0.2), "F", (1,), 14),  # hip hop: 2^4 - 2
        ((0.0,), "FMP", (1,), 78),
        ((0.0,), "F", MUSICIANS, 1),  # neither time nor intensity differs
    ],
)
def test_counts(times, intensities, timbres, expected):
    assert count(variants(times, intensities, ("NO",), timbres), 4) == expected


@pytest.mark.parametrize(("times", "timbres"), [((0.0, 0.1), (1, 2, 3)), (TIMES, (1,))])
def test_all_combinations_are_those_of_itertools(times, timbres):
    """Six variants for four sources; three variants for four sources."""
    choice = variants(times, "F", ("NO",), timbres)
    if len(choice) >= 4:
        every = list(enumerate(itertools.permutations(choice, 4)))
    else:
        every = enumerate(itertools.product(choice, repeat=4))
        every = [(i, c) for i, c in every if len({v.time for v in c}) > 1]
    assert sample(choice, 4, 10_000, random(0)) == every
    assert len(every) == count(choice, 4)
    some = sample(choice, 4, 20, random(0))
    assert len({i for i, _ in some}) == 20
    assert set(some) <= set(every)
    assert sample(choice, 4, 30, random(0))[:20] == some
    assert sample(choice, 4, 20, random(1)) != some


def test_a_sample_of_very_many_needs_none_of_the_others():
    choice = variants(np.arange(50) / 100, "FMP", ("NO",), range(1, 11))
    assert count(choice, 5) == math.perm(1500, 5) > 7e15
    ((_, first), (_, second)) = sample(choice, 5, 2, random(0))
    assert len(set(first)) == len(set(second)) == 5
    with pytest.raises(UserError, match="too many"):
        sample(choice, 8, 2, random(0))


def test_a_single_default():
    only = variants((0.1,), "M")
    assert sample(only, 4, 400, random(0)) == [(0, (only[0],) * 4)]


def test_arrangements_and_distinct_numbers():
    assert [arrangement("abc", 2, i) for i in range(6)] == list(itertools.permutations("abc", 2))
    assert [arrangement("ab", 3, i) for i in range(8)] == list(itertools.product("ab", repeat=3))
    drawn = list(distinct(3000, random(0)))
    assert sorted(drawn) == list(range(3000))
    assert drawn != sorted(drawn)


def test_timbres_and_styles_are_checked():
    sound = RwcSound("rwc", 15)
    two, three = (Source(str(n), (), ((sound, 1.0),) * n) for n in (2, 3))
    band = {"a": three, "b": two}
    assert len(variants_of(band, TIMES, "FMP", ["NO"])) == 18
    assert {v.timbre for v in variants_of(band, TIMES, "FMP", ["NO", "VI"], [2])} == {2}
    with pytest.raises(UserError, match=r"timbres must be in 1\.\.2, not 3: \[2\] has 2 sounds"):
        variants_of(band, TIMES, "FMP", ["NO"], [3])
    with pytest.raises(UserError, match="styles are those of RWC"):
        variants_of({"a": Source("a", (), ((object(), 1.0),))}, TIMES, "F", ["NO", "VI"])


@pytest.fixture
def folder(tmp_path):
    """Scores of a violin and a clarinet as text, and RWC notes of both by two musicians."""
    for musician in (1, 2):
        for instrument in (15, 31):
            write_rwc(tmp_path / "rwc", instrument, musician, [60, 62], "F", seconds=0.3)
    write_rwc(tmp_path / "rwc", 15, 1, [60, 62], "P", seconds=0.3)
    write_rwc(tmp_path / "rwc", 31, 1, [60], "P", seconds=0.3)  # without 62
    piece = tmp_path / "scores" / "01-Ach"
    piece.mkdir(parents=True)
    score_text.write_notes([Note(0.25, 0.5, 60), Note(0.5, 0.75, 62)], piece / "violin_b.txt")
    score_text.write_notes([Note(0.0, 0.5, 62)], piece / "clarinet_b.txt")
    sounds = (
        "{{ rwc = 'rwc', instrument = {0} }}, {{ rwc = 'rwc', instrument = {0}, musician = 2 }}"
    )
    (tmp_path / "band.toml").write_text(
        f"[violin]\nsounds = [{sounds.format(15)}]\n[clarinet]\nsounds = [{sounds.format(31)}]\n"
    )
    return tmp_path


def config(folder, *inputs, **changes):
    base = {"inputs": inputs, "output": str(folder / "out"), "jobs": 1}
    return build(combine.Config, {**base, **changes})


def from_scores(folder, **changes):
    base = {"instruments": str(folder / "band.toml"), "sounds": (str(folder),), "rate": 8000}
    return config(folder, str(folder / "scores"), **{**base, "intensities": ("F",), **changes})


def read(path):
    return soundfile.read(path, dtype="float32")[0]


def test_songs_from_scores(folder, capsys):
    """Two times and two musicians are four variants: P(4, 2) = 12 songs."""
    combine.combine(from_scores(folder, times=(0.0, 0.2)))
    songs = find_songs(folder / "out")
    assert [song.name for song in songs] == [f"01-Ach_{i:06d}" for i in range(12)]
    assert "12 songs written" in capsys.readouterr().out
    song = folder / "out" / "01-Ach_000001"  # first variant: 0 s, musician 1; third: .2 s, 1
    assert sorted(path.name for path in song.iterdir()) == [
        "clarinet.wav",
        "clarinet_b.txt",
        "mixture.wav",
        "violin.wav",
        "violin_b.txt",
    ]
    stems = {name: read(song / f"{name}.wav") for name in ("violin", "clarinet", "mixture")}
    assert {len(x) for x in stems.values()} == {round((0.75 + 0.2 + 1) * 8000)}
    np.testing.assert_array_equal(stems["mixture"], stems["violin"] + stems["clarinet"])
    for name, begin in (("violin", 0.25), ("clarinet", 0.2)):
        notes = score_text.read_notes(song / f"{name}_b.txt")
        assert notes[0].on == pytest.approx(begin)
        loud = np.flatnonzero(np.abs(stems[name]) > 0.02)[0] / 8000
        assert begin < loud < begin + 0.05
        assert 20 * np.log10(np.std(stems[name])) == pytest.approx(-26 + 6, abs=0.1)
    table = (folder / "out" / "combinations.tsv").read_text().splitlines()
    assert len(table) == 1 + 2 * 12
    assert table[4] == "01-Ach_000001\tclarinet\ttime=0.2 intensity=F style=NO timbre=1"


def test_a_run_continues_and_may_grow(folder, capsys):
    combine.combine(from_scores(folder, size=2))
    first = {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*.wav")}
    assert len(first) == 2 * 3
    next(iter(first)).with_name("mixture.wav").unlink()
    combine.combine(from_scores(folder, size=4))
    assert "3 songs written" in capsys.readouterr().out
    kept = [p for p, stamp in first.items() if p.stat().st_mtime_ns == stamp]
    assert len(kept) == 3
    assert len(find_songs(folder / "out")) == 4
    with pytest.raises(UserError, match="other options"):
        combine.combine(from_scores(folder, size=4, seed=1))


def test_a_combination_that_lacks_a_note_is_left_out(folder, capsys):
    """The clarinet has no soft 62: of P(2, 2) = 2 combinations of F and P one is impossible."""
    combine.combine(from_scores(folder, times=(0.0,), intensities=("F", "P"), timbres=(1,)))
    said = capsys.readouterr().out
    assert "1 songs written" in said
    assert "1 left out (for example, clarinet lacks the notes 62 in NO P of musician 1)" in said
    (song,) = find_songs(folder / "out")
    levels = {name: np.std(read(stem.path)) for name, stem in song.stems.items()}
    # the violin is soft, 12 dB below
    assert levels["clarinet"] / levels["violin"] == pytest.approx(10 ** (12 / 20), rel=0.01)
    (folder / "none").mkdir()
    with pytest.raises(UserError, match="no song can be made: violin lacks the notes 60, 62 in NO"):
        combine.combine(from_scores(folder, intensities=("M",), output=str(folder / "none")))


def test_any_sound_and_midi(folder):
    (folder / "tiny.sf2").write_bytes(tinyfont.font_bytes())
    (folder / "band.toml").write_text(
        "[violin]\nsounds = [{ font = 'tiny.sf2', program = 40 }]\n"
        "[clarinet]\nsounds = [{ rwc = 'rwc', instrument = 31 }]\n"
    )
    tracks = {"violin": [Note(0, 0.5, 69)], "clarinet": [Note(0, 0.5, 60)]}
    notation.write_midi(Piece("tune", tracks), folder / "tune.mid")
    c = from_scores(folder, inputs=(str(folder / "tune.mid"),), ext="flac")
    combine.combine(c)
    songs = find_songs(folder / "out")
    assert len(songs) == 6  # three times: P(3, 2)
    assert songs[0].name == "tune_000000"
    assert songs[0].mixture.path.suffix == ".flac"


@pytest.fixture
def songs(tmp_path):
    """Five songs of three sources: constant stereo stems 1, 2, 3 (bass, drums, voice) + 10 n."""
    for n in range(5):
        song = tmp_path / "songs" / f"s{n}"
        song.mkdir(parents=True)
        for level, name in enumerate(("bass", "drums", "voice"), 1):
            wave = np.full((1000 + 100 * n, 2), (10 * n + level) / 128, np.float32)
            soundfile.write(song / f"{name}.wav", wave, 1000, subtype="FLOAT")
    return tmp_path


def remix(songs, kind, **changes):
    combine.combine(config(songs, str(songs / "songs"), remix=kind, **changes))
    made = find_songs(songs / "out")
    for song in made:
        stems = [read(stem.path) for stem in song.stems.values()]
        assert list(song.stems) == ["bass", "drums", "voice"]
        np.testing.assert_array_equal(read(song.mixture.path), np.sum(stems, axis=0))
    return {song.name: [read(stem.path) for stem in song.stems.values()] for song in made}


def test_mixes_of_different_songs(songs):
    """C(5, 3) = 10 sets of songs, of which .4 are 4; the mixes of all 60 arrangements differ."""
    made = remix(songs, "mix", share=0.4)
    assert len(made) == 4
    for stems in made.values():
        levels = [round(float(stem[0, 0]) * 3 * 128) for stem in stems]
        assert [level % 10 for level in levels] == [1, 2, 3]
        origins = [level // 10 for level in levels]
        assert len(set(origins)) == 3
        assert {stem.shape for stem in stems} == {(1000 + 100 * min(origins), 2)}
    table = (songs / "out" / "combinations.tsv").read_text().splitlines()
    assert table[1].split("\t")[2].startswith("from=s")


def test_every_source_is_dropped(songs):
    made = remix(songs, "drop")
    assert len(made) == 15
    bass, drums, voice = made["s1_no_drums"]
    assert not drums.any()
    np.testing.assert_allclose([bass[0, 0], voice[0, 0]], np.array([11, 13]) / 128 / 3, rtol=1e-6)
    assert len(bass) == 1100


def test_sources_are_shifted(songs):
    """Two times, three sources: 2^3 - 2 = 6 per song."""
    made = remix(songs, "shift")
    assert len(made) == 30
    bass, drums, voice = made["s0_000003"]  # delays 0, .2, .2
    assert {len(stem) for stem in (bass, drums, voice)} == {1000 - 200}
    assert np.all(bass == np.float32(1 / 128))
    for stem, level in ((drums, 2), (voice, 3)):
        assert not stem[:200].any()
        assert np.all(stem[200:] == np.float32(level / 128))
    part = remix(songs, "shift", start=0.5, duration=0.4, output=str(songs / "part"))
    assert part  # the first folder is still there
    (first, *_) = find_songs(songs / "part")
    assert first.shape().samples == 400 - 200


def test_a_long_part_is_read_in_even_blocks(songs, monkeypatch):
    whole = remix(songs, "shift")
    monkeypatch.setattr("gensep.datasets.remixes.BLOCK", 77)
    monkeypatch.setattr("gensep.audio.files.BLOCK", 50)
    combine.combine(config(songs, str(songs / "songs"), remix="shift", output=str(songs / "b")))
    for song in find_songs(songs / "b"):
        for stem, expected in zip(song.stems.values(), whole[song.name], strict=True):
            np.testing.assert_array_equal(read(stem.path), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "--instruments is missing"),
        ({"remix": "mix", "rate": 8000}, "--remix mix has no use for rate"),
        ({"remix": "mix", "suffix": "_g"}, "--remix mix has no use for suffix"),
        ({"share": 0.5, "instruments": "x"}, "scores have no use for share"),
        ({"times": (-1.0,)}, "times must be at least 0 s"),
        ({"layer_probability": 0.5}, "layer_probability has no use"),
        ({"intensities": ("X",)}, "intensities must be one of F, M, P"),
        ({"remix": "shift", "times": (0.0, 5.0)}, "a delay of 5 s leaves nothing"),
    ],
)
def test_bad_options_are_refused_in_one_line(songs, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        combine.combine(config(songs, str(songs / "songs"), **changes))
    assert "\n" not in str(caught.value)


def test_songs_that_do_not_fit_are_refused(songs):
    for n in (3, 4):
        for path in (songs / "songs" / f"s{n}").iterdir():
            path.unlink()
        (songs / "songs" / f"s{n}").rmdir()
    folder = str(songs / "songs")
    with pytest.raises(UserError, match="two inputs have one name"):
        combine.combine(config(songs, folder, folder, remix="drop"))
    soundfile.write(songs / "songs" / "s0" / "bass.wav", np.zeros((500, 2)), 2000)
    with pytest.raises(UserError, match="give all songs one rate"):
        combine.combine(config(songs, folder, remix="mix", share=1.0, size=9))
    (songs / "songs" / "s0" / "bass.wav").unlink()
    (songs / "songs" / "s1" / "drums.wav").unlink()
    with pytest.raises(UserError, match="share 1 sources"):
        combine.combine(config(songs, folder, remix="mix"))
    assert combinations.score_name("music21:bach/bwv66.6") == "bach_bwv66.6"
