"""RWC notes on a tiny folder of sine notes: queries, onsets, rates, and notes as an instrument."""

import numpy as np
import pytest
from scipy.io import savemat

from gensep.rendering.instruments_file import read_instruments
from gensep.rendering.notation import Note
from gensep.rendering.performance import Performance
from gensep.rendering.rwc import RwcInstrument, RwcSound
from gensep.runtime.errors import UserError
from helpers.tinyfont import tone
from helpers.tinyrwc import LEAD, RATE, write_rwc


@pytest.fixture(scope="module")
def rwc(tmp_path_factory):
    """Violin, 15: two musicians, F and P, and one other style."""
    root = tmp_path_factory.mktemp("rwc")
    for musician in (1, 2):
        write_rwc(root, 15, musician, [60, 62, 69], "F")
    write_rwc(root, 15, 1, [60, 62], "P")
    write_rwc(root, 15, 1, [60], "F", style="VI")
    return root


def test_a_note_is_found_by_pitch_and_playing(rwc):
    violin = RwcInstrument(rwc, 15)
    assert len(violin.notes) == 3 + 3 + 2 + 1
    note = violin.get_note(62, "P", "NO", 1)
    assert (note.midi, note.dynamics, note.style, note.musician) == (62, "P", "NO", 1)
    assert note.path.name == "151VNNOP.WAV"
    # the first note lasts LEAD + 22050 samples, and 4410 follow
    assert note.start * RATE == pytest.approx(LEAD + 22050 + 4410)
    assert note.end * RATE == pytest.approx(2 * (LEAD + 22050) + 4410)
    assert violin.get_note(69).path.name == "151VNNOF.WAV"
    assert violin.get_note(60, style="VI").path.name == "151VNVIF.WAV"
    for missing in ((61,), (69, "P"), (60, "M"), (60, "P", "VI"), (60, "F", "NO", 3)):
        assert violin.get_note(*missing) is None


def test_only_what_is_allowed_is_read(rwc):
    some = RwcInstrument(rwc, 15, musicians=(1,), styles=("NO",), dynamics=("F",))
    assert [(n.midi, n.dynamics, n.style) for n in some.notes] == [
        (60, "F", "NO"),
        (62, "F", "NO"),
        (69, "F", "NO"),
    ]


def test_audio_begins_at_the_onset_at_every_call(rwc):
    note = RwcInstrument(rwc, 15).get_note(69)
    first, again = note.audio(), note.audio()
    np.testing.assert_array_equal(first, again)
    # the window from 1024 on holds 48 samples of the tone, that from 1152 on 176, enough for 0.01
    wave = np.concatenate([np.zeros(LEAD), 1.1 * tone(69, 0.5)]).astype(np.float32)
    windows = [np.sqrt(np.mean(wave[i : i + 1024] ** 2)) for i in range(0, LEAD, 128)]
    onset = 128 * (int(np.argmax(np.array(windows) > 0.01)) - 1)
    assert onset in (1024 - 128, 1024)
    np.testing.assert_allclose(first, wave[onset:], atol=1e-6)
    first[:] = 0  # a copy
    np.testing.assert_array_equal(note.audio(), again)


def test_audio_at_any_rate_and_length(rwc):
    note = RwcInstrument(rwc, 15).get_note(69)
    whole, short = note.audio(16_000), note.audio(16_000, max_duration=0.25)
    assert whole.dtype == np.float32
    assert len(whole) == pytest.approx(len(note.audio()) * 16_000 / RATE, abs=1)
    assert len(short) == 4000
    np.testing.assert_allclose(short[:3900], whole[:3900], atol=1e-3)
    spectrum = np.abs(np.fft.rfft(whole[2000:8000]))
    assert np.argmax(spectrum) * 16_000 / 6000 == pytest.approx(440, abs=3)


def test_a_wav_without_mat_is_skipped_with_a_note(rwc, tmp_path, capsys):
    write_rwc(tmp_path, 15, 1, [60], "F")
    lost = write_rwc(tmp_path, 15, 1, [60], "P")
    (tmp_path / "mat" / "151vnnop.wav.mat").unlink()
    violin = RwcInstrument(tmp_path, 15)
    assert [n.dynamics for n in violin.notes] == ["F"]
    assert violin.skipped == [lost]
    said = capsys.readouterr().err
    assert said.startswith(f"note: {lost} is skipped, there is no")
    assert said.count("\n") == 1
    with pytest.raises(UserError, match=r"there is no folder .*161, .*162; check"):
        RwcInstrument(rwc, 16, musicians=(1, 2))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"nonsense", "cannot be read"),
        ({"other": 1}, "cannot be read"),
        ({"featureStruct": {"a": 1.0}}, "cannot be read"),
    ],
)
def test_a_wrong_mat_is_refused_in_one_line(tmp_path, content, reason):
    write_rwc(tmp_path, 15, 1, [60], "F")
    mat = tmp_path / "mat" / "151vnnof.wav.mat"
    mat.write_bytes(content) if isinstance(content, bytes) else savemat(mat, content)
    with pytest.raises(UserError, match=reason) as caught:
        RwcInstrument(tmp_path, 15)
    assert "\n" not in str(caught.value)
    assert str(mat) in str(caught.value)


def test_a_mat_of_another_wav_is_refused(tmp_path):
    write_rwc(tmp_path, 15, 1, [60, 61, 62], "F")
    long = (tmp_path / "mat" / "151vnnof.wav.mat").read_bytes()
    write_rwc(tmp_path, 15, 1, [60], "F")
    (tmp_path / "mat" / "151vnnof.wav.mat").write_bytes(long)
    violin = RwcInstrument(tmp_path, 15)
    assert len(violin.get_note(60).audio())
    with pytest.raises(UserError, match="do not belong together"):
        violin.get_note(62).audio()


def test_a_sound_plays_recordings_as_they_are(rwc):
    sound = RwcSound(str(rwc), 15)
    audio = sound.render([Note(0.1, 0.4, 69, 100)], 1.0, RATE)
    assert audio.shape == (RATE,)
    recorded = RwcInstrument(rwc, 15).get_note(69).audio()
    fade, held = int(0.004 * RATE), round(0.3 * RATE)
    np.testing.assert_allclose(audio[4410 + fade : 4410 + held], recorded[fade:held], atol=1e-6)
    assert np.abs(audio[:4410]).max() == 0
    soft = RwcSound(str(rwc), 15, dynamics="P").render([Note(0.1, 0.4, 60, 100)], 1.0, RATE)
    loud = sound.render([Note(0.1, 0.4, 60, 100)], 1.0, RATE)
    assert np.std(soft) == pytest.approx(np.std(loud) / 4, rel=0.02)
    np.testing.assert_array_equal(audio, sound.render([Note(0.1, 0.4, 69, 100)], 1.0, RATE))


def test_a_sound_says_which_pitches_it_lacks(rwc):
    sound = RwcSound(str(rwc), 15)
    notes = [Note(0, 1, 60), Note(0, 1, 61), Note(0, 1, 70)]
    assert sound.lacks(notes) == {61, 70}
    near = sound.render([Note(0, 0.4, 61)], 0.5, 16_000, Performance())
    spectrum = np.abs(np.fft.rfft(near[800:5600], 2**16))
    assert 69 + 12 * np.log2(np.argmax(spectrum) * 16_000 / 2**16 / 440) == pytest.approx(
        61, abs=0.1
    )
    unheard = RwcSound(str(rwc), 15, dynamics="M")
    assert unheard.lacks(notes) == {60, 61, 70}
    with pytest.raises(UserError, match="no notes of instrument 15, style NO, dynamics M"):
        unheard.render(notes, 1.0, RATE)


def test_instruments_files_name_rwc_sounds(rwc, tmp_path):
    path = tmp_path / "band.toml"

    def sounds(entry):
        path.write_text(f"[violin]\nsounds = [{{ {entry} }}]\n")
        return read_instruments(path, (str(rwc.parent),))["violin"].sounds

    folder = str(rwc)
    ((plain, weight),) = sounds(f'rwc = "{rwc.name}", instrument = 15')
    assert (plain, weight) == (RwcSound(folder, 15, 1, "NO", "F"), 1.0)
    ((other, _),) = sounds(
        f'rwc = "{rwc.name}", instrument = 15, musician = 2, style = "VI", dynamics = "P"'
    )
    assert other == RwcSound(folder, 15, 2, "VI", "P")
    for wrong, message in (
        (f'rwc = "{rwc.name}"', "instrument and musician must be numbers"),
        (f'rwc = "{rwc.name}", instrument = 15, dynamics = "X"', "dynamics one of P, F, M"),
        (f'rwc = "{rwc.name}", instrument = 15, program = 3', "unknown key program"),
        ('rwc = "none", instrument = 15', "no none in"),
        (f'rwc = "{rwc.name}", notes = "n"', "a sound is"),
    ):
        with pytest.raises(UserError, match=message):
            sounds(wrong)
