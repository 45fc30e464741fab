"""Harmonic masks from notes: rows and masks that were computed by hand."""

import math

import numpy as np
import pytest

from gensep.rendering.notation import Note
from gensep.separators.score_masks import (
    NoteGrid,
    harmonic_masks,
    note_rows,
    partial_bins,
    piano_roll,
)

GRID = NoteGrid()
COMPAT = NoteGrid(compat=True)
# 100 frames per second, bins of 10 Hz up to 1000 Hz, one partial at most: easy to do in the head
PLAIN = NoteGrid(sample_rate=2000, hop_length=20, n_fft=200, partials=1)


def times(notes, grid=PLAIN, frames=1000, **window):
    return [(int(b), int(e)) for b, e in note_rows(notes, grid, frames, **window)[:, :2]]


def test_bins_of_one_note():
    """A4: 440 Hz is bin 40.867; a quarter tone around it is 39.704..42.065."""
    ranges = partial_bins(GRID, 69)
    assert ranges[:2] == [(40, 44), (80, 86)]  # 2: 79.407..84.129
    # 15: 595.55..630.97; 16: 635.26..673.03; 17 begins at 674.96 and so on; 20 ends at 841.29
    assert ranges[14:] == [(596, 632), (636, 843)]
    assert partial_bins(COMPAT, 69)[15:] == [(636, 801)]  # 19 ends at 799.22
    assert len(ranges) == 16


def test_ranges_above_the_spectrum_are_left_out():
    """C8, 4186 Hz: 388.80 bins; the 5th partial ends at 2000.9, the 6th would end at 2401.1."""
    ranges = partial_bins(GRID, 108)
    assert len(ranges) == 5
    assert ranges[-1] == (1889, 2002)
    high = NoteGrid(sample_rate=2000, n_fft=200, tolerance_cents=1, partials=20)
    # 880 Hz is bin 88; 1000.4 Hz would end at bin 101 + 1
    assert partial_bins(high, 81) == [(88, 90)]
    assert partial_bins(high, 83.23) == []


def test_a_row_is_frames_pitch_and_bins():
    row = note_rows([Note(1.0, 1.5, 69)], GRID, 4000)
    assert row.shape == (1, 43)
    # 1 s is frame 86.13, .2 s 17.23 frames; the last note rings .5 s, to 2 s = 172.27
    assert row[0, :7].tolist() == [86 - 17, 172, 69, 40, 44, 80, 86]
    assert row[0, 3 + 2 * 16 :].tolist() == [0] * 8
    assert note_rows([], GRID, 10).shape == (0, 43)


def test_the_old_grid_drifts():
    late = [Note(40.0, 40.5, 69)]
    assert note_rows(late, GRID, 4000)[0, 0] == 3445 - 17
    assert note_rows(late, COMPAT, 4000)[0, :2].tolist() == [3440 - 17, 3526]


def test_a_followed_note_ends_late_and_the_last_rings_on():
    notes = [Note(1.0, 2.0, 60), Note(2.25, 3.0, 62)]
    # the second, .2 s early, begins at 2.05, before 2.2
    assert times(notes) == [(80, 220), (205, 350)]
    # widened notes that touch count as overlapping
    wide = NoteGrid(**{**vars(PLAIN), "onset": 0.125, "offset": 0.25})
    touching = [Note(1.0, 2.0, 60), Note(2.375, 3, 62)]
    assert times(touching, wide) == [(100 - 12, 225), (225, 350)]


def test_a_fermata_stops_before_the_next_note():
    assert times([Note(1.0, 2.0, 60), Note(2.625, 3.0, 62)])[0] == (80, 242)  # at 2.425
    assert times([Note(1.0, 2.0, 60), Note(4.0, 5.0, 62)])[0] == (80, 250)  # .5 s after 2
    short = NoteGrid(**{**vars(PLAIN), "fermata": 0.0})
    assert times([Note(1.0, 2.0, 60)], short) == [(80, 220)]  # at least `offset`
    # a chord is not followed by itself
    assert times([Note(1.0, 2.0, 60), Note(1.0, 2.0, 64)]) == [(80, 250)] * 2
    # a note of unknown pitch has no row, but it follows
    assert times([Note(1.0, 2.0, 60), Note(2.1, 3.0, math.nan)]) == [(80, 220)]


def test_notes_are_clipped_to_the_window():
    notes = [Note(0.1, 0.2, 60), Note(0.5, 2.0, 62), Note(2.2, 9.0, 64), Note(9.5, 9.8, 66)]
    assert times(notes, start=1.0, stop=3.0) == [(0, 120), (100, 200)]
    rows = note_rows(notes, PLAIN, 1000, start=1.0, stop=3.0)
    assert rows[:, 2].tolist() == [62, 64]
    assert times([Note(0.1, 5.0, 60)], frames=300) == [(0, 300)]


def test_short_and_late_notes_are_left_out():
    assert times([Note(1.0, 1.009, 60)]) == []
    assert times([Note(1.0, 1.011, 60)]) == [(80, 151)]
    assert times([Note(0.5, 1.009, 60)], start=1.0) == []  # 9 ms of it are in the window
    assert times([Note(3.0, 4.0, 60)], frames=300) == []
    assert times([Note(2.99, 4.0, 60)], frames=300) == [(279, 300)]


def two_sources():
    first = note_rows([Note(1.0, 2.0, 69)], PLAIN, 400)
    second = note_rows([Note(1.5, 2.5, 70)], PLAIN, 400)
    return first, second


def test_shares_of_the_sources():
    """440 Hz covers bins 43..46, 466 Hz covers 46..48; frames 80..249 and 130..299."""
    first, second = two_sources()
    assert first[0, 3:].tolist() == [43, 47]
    assert second[0, 3:].tolist() == [46, 49]
    masks = harmonic_masks([first, second], PLAIN, 400)
    assert masks.shape == (2, 400, 101)
    assert masks.dtype == np.float32
    expected = np.full((2, 400, 101), 0.5)  # nobody plays
    expected[0, 80:250, 43:47], expected[1, 80:250, 43:47] = 1, 0
    expected[1, 130:300, 46:49], expected[0, 130:300, 46:49] = 1, 0
    expected[:, 130:250, 46] = 0.5
    expected[0, 130:250, 43:46] = 1
    np.testing.assert_allclose(masks, expected, atol=1e-15)
    np.testing.assert_allclose(masks.sum(0), 1, rtol=1e-6)
    assert masks[1, 100, 43] == pytest.approx(1e-18)


def test_a_silent_source_passes_everything_under_mask_1():
    first, second = two_sources()
    masks = harmonic_masks([first, second], PLAIN, 40, first=90, normalise="maximum")
    assert np.all(masks[1] == 1)  # it begins in frame 130
    assert np.all(masks[0, :, 43:47] == 1)
    assert masks[0, :, 47:].max() == pytest.approx(1e-18)
    shares = harmonic_masks([first, second], PLAIN, 40, first=90)
    np.testing.assert_array_equal(shares[:, 0, 60], 0.5)
    np.testing.assert_array_equal(harmonic_masks([first[:0]] * 4, PLAIN, 2), 0.25)


def test_a_segment_is_a_part_of_the_whole():
    rows = two_sources()
    whole = harmonic_masks(rows, PLAIN, 400)
    np.testing.assert_array_equal(harmonic_masks(rows, PLAIN, 30, first=240), whole[:, 240:270])


def test_rows_may_be_padded_to_one_array():
    first, second = two_sources()
    padded = np.stack([np.pad(first, ((0, 2), (0, 0))), np.pad(second, ((0, 2), (0, 0)))])
    np.testing.assert_array_equal(
        harmonic_masks(padded, PLAIN, 400), harmonic_masks([first, second], PLAIN, 400)
    )


def test_a_timbre_model_weighs_partials():
    grid = NoteGrid(sample_rate=2000, hop_length=20, n_fft=200, partials=2, tolerance_cents=1)
    rows = note_rows([Note(1, 2, 69), Note(1, 2, 57)], grid, 300)
    # 440 Hz: 44, 88; 220 Hz: 22, 44: they share the bin of 440 Hz
    assert rows[:, 3:].tolist() == [[44, 46, 88, 90], [22, 24, 44, 46]]
    timbre = np.zeros((1, 128, 2))
    timbre[0, 69], timbre[0, 57] = (0.5, 0.25), (1.0, 1.5)
    mask = harmonic_masks([rows], grid, 300, normalise="maximum", timbre=timbre)[0]
    assert mask[150, [44, 88, 22, 5]].tolist() == pytest.approx([1, 0.125, 0.5, 5e-19])
    for wrong in (timbre[:, :60], timbre[:, :, :1], timbre[0], np.concatenate([timbre] * 2)):
        with pytest.raises(ValueError, match="timbre must be"):
            harmonic_masks([rows], grid, 300, timbre=wrong)


def test_piano_roll():
    first, _ = two_sources()
    roll = piano_roll(np.pad(first, ((0, 1), (0, 0))), 200, first=100)
    assert roll.shape == (200, 128)
    assert np.flatnonzero(roll.any(0)).tolist() == [69]
    assert np.flatnonzero(roll[:, 69]).tolist() == list(range(150))
