"""Score text files: names of notes, lines, errors with file and line, folders of scores."""

import math

import pytest

from gensep.rendering import notation, score_text
from gensep.rendering.notation import Note, Piece
from gensep.runtime.errors import UserError


@pytest.mark.parametrize(
    ("name", "pitch"),
    [
        ("A4", 69),
        ("a4", 69),
        ("C4", 60),
        ("Bb4", 70),
        ("bb4", 70),
        ("F#4", 66),
        ("F4#", 66),
        ("B4b", 70),
        ("Cx4", 62),
        ("C4x", 62),
        ("Cxx4", 64),
        ("Ebb3", 50),
        ("Cb4", 59),
        ("B#3", 60),
        ("C0", 12),
        ("G9", 127),
    ],
)
def test_names_of_notes(name, pitch):
    assert score_text.parse_pitch(name) == pitch


def test_unknown_pitch_and_every_name_there_and_back():
    assert math.isnan(score_text.parse_pitch("?"))
    assert score_text.pitch_name(math.nan) == "?"
    for pitch in range(12, 128):
        assert score_text.parse_pitch(score_text.pitch_name(pitch)) == pitch
    for pitch in (11, 128):
        with pytest.raises(ValueError, match="octave of one digit"):
            score_text.pitch_name(pitch)


@pytest.mark.parametrize("name", ["H4", "C", "4", "C10", "#C4", "C-1", "A9", "", "C4m"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="no note|MIDI number"):
        score_text.parse_pitch(name)


def test_lines_comments_and_order(tmp_path):
    path = tmp_path / "violin_b.txt"
    path.write_text("! a header\n\n 1.5 , 2,Bb4 ! late\n0,0.5,F4#\n0.5,1.5,?\n")
    first, unknown, last = score_text.read_notes(path)
    assert first == Note(0, 0.5, 66)
    assert unknown[:2] == (0.5, 1.5)
    assert math.isnan(unknown.pitch)
    assert last == Note(1.5, 2, 70)
    path.write_text("0,1,C4")  # one note, no end of line
    assert score_text.read_notes(path) == [Note(0, 1, 60)]
    path.write_text("! silent\n")
    assert score_text.read_notes(path) == []


def test_compat_keeps_three_bytes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0,1,C4##\n")
    assert score_text.read_notes(path)[0].pitch == 62
    assert score_text.read_notes(path, compat=True)[0].pitch == 61
    path.write_text("0,1,Ebb4\n")
    assert score_text.read_notes(path)[0].pitch == 62
    with pytest.raises(UserError, match="'Ebb' is no note"):
        score_text.read_notes(path, compat=True)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0.5,1.0", "has 2 fields"),
        ("0,5,1,0,C4", "has 5 fields"),
        ("a,1,C4", "'a' is no time"),
        ("nan,1,C4", "'nan' is no time"),
        ("-1,1,C4", "'-1' is no time"),
        ("0,inf,C4", "'inf' is no time"),
        ("2,1,C4", "ends at 1, before it begins at 2"),
        ("0,1,H4", "'H4' is no note"),
        ("0,1,", "'' is no note"),
        ("0,1,A9", "MIDI number 129"),
    ],
)
def test_a_bad_line_is_refused_with_its_file_and_number(tmp_path, line, reason):
    path = tmp_path / "violin_b.txt"
    path.write_text(f"! first\n0,1,C4\n{line}\n")
    with pytest.raises(UserError, match=reason) as caught:
        score_text.read_notes(path)
    assert str(caught.value).startswith(f"{path}, line 3: expected onset,offset,NOTE in seconds")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_text_or_missing(tmp_path):
    with pytest.raises(UserError, match="cannot read the score"):
        score_text.read_notes(tmp_path / "none.txt")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no text"):
        score_text.read_notes(tmp_path / "a.txt")


def test_written_notes_are_read_back(tmp_path):
    notes = [Note(0, 0.5, 66.2), Note(0.123456, 2.5, 70), Note(3, 4, math.nan)]
    score_text.write_notes(notes, tmp_path / "a.txt")
    back = score_text.read_notes(tmp_path / "a.txt")
    assert back[:2] == [Note(0, 0.5, 66), Note(0.123456, 2.5, 70)]
    assert math.isnan(back[2].pitch)
    with pytest.raises(UserError, match="MIDI 5 has no name"):
        score_text.write_notes([Note(0, 1, 5)], tmp_path / "b.txt")
    assert not (tmp_path / "b.txt").exists()


@pytest.fixture
def bach10(tmp_path):
    """Two pieces with aligned scores, one with a score of its rendition too."""
    for piece in ("01-Ach", "02-Auf"):
        (tmp_path / piece).mkdir()
        for i, name in enumerate(("violin", "saxphone")):
            score_text.write_notes([Note(i, i + 1, 60 + i)], tmp_path / piece / f"{name}_b.txt")
    score_text.write_notes([Note(0, 9, 60)], tmp_path / "01-Ach" / "violin_g_fast20.txt")
    return tmp_path


def test_a_folder_of_scores_is_a_piece(bach10):
    piece = score_text.read_score_folder(bach10 / "01-Ach", "_b")
    assert piece == Piece("01-Ach", {"saxophone": [Note(1, 2, 61)], "violin": [Note(0, 1, 60)]})
    only = score_text.read_score(bach10 / "01-Ach", "_g_fast20")
    assert only == Piece("01-Ach", {"violin": [Note(0, 9, 60)]})
    assert list(score_text.read_score_folder(bach10 / "01-Ach", "_b", ["violin"]).tracks) == [
        "violin"
    ]
    with pytest.raises(UserError, match=r"lacks the score flute_b\.txt \(it has saxophone, violin"):
        score_text.read_score_folder(bach10 / "01-Ach", "_b", ["flute"])
    with pytest.raises(UserError, match=r"expected files named SOURCE_g\.txt"):
        score_text.read_score_folder(bach10 / "01-Ach", "_g")


def test_scores_of_every_kind_are_found(bach10):
    notation.write_midi(Piece("tune", {"violin": [Note(0, 1, 60)]}), bach10 / "tune.mid")
    names = [str(bach10 / name) for name in ("01-Ach", "02-Auf", "tune.mid")]
    assert score_text.find_scores([bach10], "_b") == names
    assert score_text.find_scores([bach10 / "01-Ach"], "_b") == names[:1]
    assert score_text.find_scores([bach10 / "tune.mid"]) == names[2:]
    assert score_text.read_score(names[2]).tracks.keys() == {"violin"}
    with pytest.raises(UserError, match="no scores in"):
        score_text.find_scores([bach10 / "02-Auf"], "_g")
