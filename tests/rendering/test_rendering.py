"""Scores, instruments, the render command and the soundfont trimmer, on tiny data made here."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gensep import render
from gensep.cli.config import build
from gensep.rendering import instruments_file as bands
from gensep.rendering import notation, recorded_notes, rendition
from gensep.rendering.notation import Note, Piece
from gensep.rendering.performance import Performance
from gensep.rendering.recorded_notes import NoteFolder
from gensep.rendering.soundfont import Layered, SoundFont
from gensep.runtime import errors
from gensep.runtime.errors import UserError
from helpers import ROOT, load, tinyfont

SONG = Piece(
    "song",
    {
        "Violin I": [Note(0.0, 0.9, 72, 90), Note(1.0, 1.5, 74, 70)],
        "piano": [Note(0.0, 1.0, 48, 80), Note(0.0, 1.0, 55, 80), Note(1.0, 2.0, 53, 60)],
    },
)


@pytest.fixture
def folder(tmp_path):
    """A font, a mistuned note folder, a score and an instruments file."""
    (tmp_path / "tiny.sf2").write_bytes(tinyfont.font_bytes())
    notes = tmp_path / "notes"
    notes.mkdir()
    for name, pitch in (("A4.wav", 69.18), ("Ds5.wav", 74.0), ("C4.wav", 60)):
        soundfile.write(notes / name, tinyfont.tone(pitch, 1.0, harmonics=6), 44100)
    soundfile.write(notes / "C4 v2.wav", np.zeros(100), 44100)  # a name that is not a note
    (tmp_path / "train").mkdir()
    notation.write_midi(SONG, tmp_path / "train" / "song.mid")
    (tmp_path / "band.toml").write_text("""
[violin]
low = 55
sustained = true
sounds = [{font = "tiny.sf2", program = 40}, {notes = "notes"}]
[piano]
sounds = [{font = "tiny.sf2", program = 0}]
""")
    return tmp_path


def config(folder, **changes):
    return build(
        render.Config,
        {
            "scores": (str(folder / "train"),),
            "output": str(folder / "out"),
            "rate": 8000,
            "instruments": str(folder / "band.toml"),
            "sounds": (str(folder),),
            "jobs": 1,
            **changes,
        },
    )


def pitch_of(audio, rate):
    size = 2**21
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), size))
    return 69 + 12 * np.log2(np.argmax(spectrum) * rate / size / 440)


def test_midi_round_trip(tmp_path):
    notation.write_midi(SONG, tmp_path / "song.mid")
    back = notation.read_piece(tmp_path / "song.mid")
    assert back.name == "song"
    assert list(back.tracks) == ["Violin I", "piano"]
    for track, notes in SONG.tracks.items():
        np.testing.assert_allclose(back.tracks[track], notes, atol=3e-4)


def test_midi_tempo_change_and_zero_velocity(tmp_path):
    import mido

    track = mido.MidiTrack(
        [
            mido.MetaMessage("set_tempo", tempo=500_000),
            mido.Message("note_on", note=60, velocity=9),
            mido.MetaMessage("set_tempo", tempo=1_000_000, time=100),
            mido.Message("note_on", note=60, velocity=0, time=100),
        ]
    )
    mido.MidiFile(ticks_per_beat=100, tracks=[track]).save(tmp_path / "a.mid")
    assert notation.read_piece(tmp_path / "a.mid").tracks == {"track 0": [Note(0, 1.5, 60, 9)]}


def test_bad_scores_are_refused_in_one_line(tmp_path):
    good = tmp_path / "good.mid"
    notation.write_midi(SONG, good)
    for content in (b"MThd", b"nonsense", good.read_bytes()[:90], b""):
        (tmp_path / "bad.mid").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.mid is not a readable MIDI file") as caught:
            notation.read_piece(tmp_path / "bad.mid")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no score at"):
        notation.find_pieces([tmp_path / "none"])
    with pytest.raises(UserError, match="not a score"):
        notation.read_piece(tmp_path / "tune.wav")


def test_find_scores_is_sorted_and_skips_dotfiles(tmp_path):
    for name in ("b/2.mid", "a/1.mxl", ".git/3.mid", "b/.4.mid", "b/5.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = notation.find_pieces([tmp_path])
    assert [Path(p).name for p in found] == ["1.mxl", "2.mid"]


def test_music21_corpus():
    pytest.importorskip("music21")
    score = notation.read_piece("music21:bach/bwv66.6")
    assert set(score.tracks) == {"Soprano", "Alto", "Tenor", "Bass"}
    assert score.name == "bach_bwv66.6"
    assert score.seconds > 20


@pytest.mark.parametrize("varispeed", [0.0, 3.0, -2.4])
@pytest.mark.parametrize("kind", ["font", "notes"])
def test_pitch_and_tempo_hold_for_every_varispeed(folder, kind, varispeed):
    sound = (
        SoundFont(str(folder / "tiny.sf2"), 0, 40)
        if kind == "font"
        else NoteFolder((str(folder / "notes"),))
    )
    rate, performance = 16000, Performance(varispeed_semitones=varispeed)
    for pitch in (69, 74):
        audio = sound.render([Note(0.5, 2.5, pitch, 100)], 3.5, rate, performance)
        assert audio.dtype == np.float32
        assert audio.shape == (56000,)
        assert abs(pitch_of(audio[12000:36000], rate) - pitch) < 0.05
        assert np.abs(audio[:7800]).max() < 1e-3 < np.abs(audio[8400:38000]).max() / 10


def test_varispeed_takes_a_higher_recording(folder):
    """Four semitones up, the A is played by the recorded D slowed down."""
    sound = NoteFolder((str(folder / "notes"),))
    plain, moved = (
        sound.render([Note(0, 1, 69, 100)], 1.0, 16000, Performance(varispeed_semitones=n))
        for n in (0, 4)
    )
    assert not np.allclose(plain, moved)


def test_detune_tilt_and_swell(folder):
    sound, note = SoundFont(str(folder / "tiny.sf2"), 0, 40), [Note(0, 3, 69, 100)]
    detuned = sound.render(note, 3.0, 16000, Performance(detune_cents=20))
    assert abs(pitch_of(detuned[4000:40000], 16000) - 69.2) < 0.02
    plain = sound.render([Note(0, 3, 96, 100)], 3.0, 16000)
    bright = sound.render([Note(0, 3, 96, 100)], 3.0, 16000, Performance(tilt_db=6))
    assert 1.2 < np.std(bright) / np.std(plain) < 2.0
    swelling = sound.render(note, 3.0, 16000, Performance(swell_db=20, seed=1))
    frames = swelling[8000:40000].reshape(-1, 800).std(1)
    assert frames.max() / frames.min() > 1.5


def test_layered_mixes_at_equal_loudness(folder):
    a, b = SoundFont(str(folder / "tiny.sf2"), 0, 40), NoteFolder((str(folder / "notes"),))
    notes = [Note(0, 1, 69, 100)]
    both = Layered((a, b), (0.5, 0.5)).render(notes, 1.0, 16000)
    assert np.allclose(
        Layered((a, b), (1.0, 0.0)).render(notes, 1.0, 16000),
        a.render(notes, 1.0, 16000) * 0.05 / a.render(notes, 1.0, 16000).std(),
        atol=1e-4,
    )
    assert both.std() > 0.01


def test_measured_pitch_within_two_cents():
    for pitch in (40.1, 69.18, 85.0, 95.7):
        audio = tinyfont.tone(pitch, 1.0, harmonics=5).astype(np.float32)
        assert abs(recorded_notes.measure_pitch(audio, 44100, round(pitch) + 1) - pitch) < 0.02


def test_long_notes_are_sustained_without_dips(folder):
    audio = NoteFolder((str(folder / "notes"),)).render([Note(0, 5, 60, 100)], 5.0, 16000)
    frames = audio[1600:76800].reshape(-1, 1600).std(1)
    assert frames.min() > 0.4 * frames.max()
    piano = NoteFolder((str(folder / "notes"),), tuned=False)
    assert np.abs(piano.render([Note(0, 5, 60, 100)], 5.0, 16000)[32000:]).max() == 0


def test_songs_mixture_is_the_sum_and_jobs_do_not_matter(folder):
    spread = {
        "tempo": (0.8, 1.2),
        "transpose": (-3, 3),
        "timbre": 1.0,
        "onset_sd": 0.01,
        "velocity_sd": 0.1,
        "velocity": (60.0, 100.0),
        "layer_probability": 0.5,
        "variants": 2,
        "gains": (0.0, -6.0),
    }
    render.render(config(folder, **spread))
    render.render(config(folder, **spread, output=str(folder / "again"), jobs=2))
    files = sorted((folder / "out").rglob("*.flac"))
    assert [str(f.relative_to(folder / "out")) for f in files] == [
        f"song_{v}/{s}.flac" for v in (0, 1) for s in ("mixture", "piano", "violin")
    ]
    for file in files:
        other = folder / "again" / file.relative_to(folder / "out")
        assert file.read_bytes() == other.read_bytes()
    for variant in files[:3], files[3:]:
        mixture, piano, violin = (soundfile.read(f)[0] for f in variant)
        np.testing.assert_array_equal(mixture, piano + violin)
        assert np.abs(mixture).max() <= 0.951
        levels = [20 * np.log10(x.std()) for x in (violin, piano)]
        np.testing.assert_allclose(levels, [-26, -32], atol=0.1)


def test_spreads_follow_the_seed(folder):
    band = bands.read_instruments(folder / "band.toml", (str(folder),))

    def make(seed, variant=0):
        playing = build(
            rendition.Playing,
            {"rate": 8000, "tempo": (0.5, 2.0), "transpose": (-5, 5), "seed": seed},
        )
        return rendition.render_song(SONG, band, playing, variant=variant)

    first, same, other, variant = make(1), make(1), make(2), make(1, variant=1)
    np.testing.assert_array_equal(first["piano"], same["piano"])
    assert len({len(x["piano"]) for x in (first, other, variant)}) == 3
    assert len(first["piano"]) == len(first["violin"])


def test_window_clips_notes(folder):
    band = bands.read_instruments(folder / "band.toml", (str(folder),))
    playing = build(rendition.Playing, {"rate": 8000, "start": 0.5, "duration": 1.0})
    stems = rendition.render_song(SONG, band, playing)
    assert {len(x) for x in stems.values()} == {8000}
    assert np.abs(stems["piano"][:400]).max() > 0.01  # a note cut at the edge sounds at once


def test_solo_layout_and_resume(folder, capsys):
    (folder / "valid").mkdir()
    notation.write_midi(SONG, folder / "valid" / "tune.mid")
    paths = (str(folder / "train"), str(folder / "valid"))
    solo = config(folder, layout="solo", scores=paths)
    render.render(solo)
    files = sorted((folder / "out").rglob("*.flac"))
    assert [str(f.relative_to(folder / "out")) for f in files] == [
        "piano/train/song_0.flac",
        "piano/valid/tune_0.flac",
        "violin/train/song_0.flac",
        "violin/valid/tune_0.flac",
    ]
    stamps = [f.stat().st_mtime_ns for f in files]
    files[0].unlink()
    render.render(solo)
    assert "1 rendered, 3 already there" in capsys.readouterr().out
    assert [f.stat().st_mtime_ns for f in files][1:] == stamps[1:]
    with pytest.raises(UserError, match="other options"):
        render.render(config(folder, layout="solo", scores=paths, seed=5))


def test_valid_scores_use_valid_sounds(folder):
    text = (
        (folder / "band.toml")
        .read_text()
        .replace("[piano]", 'valid_sounds = [{notes = ["notes"], tuned = false}]\n[piano]')
    )
    (folder / "band.toml").write_text(text)
    band = bands.read_instruments(folder / "band.toml", (str(folder),))
    playing = build(rendition.Playing, {})
    sounds = {
        split: [
            rendition.choose_sound(band["violin"], split, playing, rendition.random(i))[0]
            for i in range(20)
        ]
        for split in ("train", "valid")
    }
    assert {type(s) for s in sounds["train"]} == {SoundFont, NoteFolder}
    assert set(sounds["valid"]) == {NoteFolder((str(folder / "notes"),), tuned=False)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("low = 55", "lowest = 55", "unknown key lowest"),
        ("program = 40", "programm = 40", "unknown key programm"),
        ("program = 40", "program = 400", "program must be in"),
        ('"tiny.sf2", program = 0', '"none.sf2"', "no none.sf2 in"),
        ("[piano]", "[piano", "not TOML"),
    ],
)
def test_bad_instruments_are_refused(folder, old, new, message):
    text = (folder / "band.toml").read_text()
    assert old in text
    (folder / "band.toml").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        render.render(config(folder))


def test_lines_move_by_octaves():
    notes = [Note(0, 1, 50), Note(1, 2, 60)]
    assert [n.pitch for n in rendition.into_range(notes, 55, 100)] == [62, 72]
    assert [n.pitch for n in rendition.into_range(notes, 20, 49)] == [38, 48]


def test_command_refuses_in_one_line(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["render", str(folder / "train"), "--output", "o"])
    with pytest.raises(SystemExit) as stop:
        errors.run(render.main)
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from gensep import render\ntry: render.main(['--help'])\n"
        "except SystemExit: pass\n"
        "bad = {'jax', 'scipy', 'soundfile', 'soxr', 'mido', 'midirenderer', 'music21'}\n"
        "sys.exit(str(bad & set(sys.modules)) if bad & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_trimmed_font_plays_the_same(folder):
    trimmer = load("scripts/trim_soundfont.py")
    whole = (folder / "tiny.sf2").read_bytes()
    assert trimmer.presets(trimmer.read_font(whole)) == [(0, 0, "p0"), (0, 40, "p40")]
    for program in (0, 40):
        small = folder / f"small{program}.sf2"
        trimmer.main([str(folder / "tiny.sf2"), str(small), "--programs", str(program)])
        assert small.stat().st_size < len(whole) - 1500
        notes = SONG.tracks["piano"]
        np.testing.assert_array_equal(
            SoundFont(str(small), 0, program).render(notes, 2.0, 48000),
            SoundFont(str(folder / "tiny.sf2"), 0, program).render(notes, 2.0, 48000),
        )
    with pytest.raises(UserError, match="none of the wanted"):
        trimmer.trim(whole, lambda bank, program: program == 7)
    with pytest.raises(UserError, match="not an SF2"):
        trimmer.read_font(b"RIFF")
