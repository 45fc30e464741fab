"""Separation by networks of mixtures, from files and from memory: what is written."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import nnx

import gensep
from gensep.audio.excerpt import Excerpt
from gensep.cli.options import StemChoice
from gensep.datasets.separations import read_separation
from gensep.inversion.mask_file import read_masks
from gensep.inversion.masking import apply_masks
from gensep.representation.analysis import analyse
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.separation.by_network import by_network, mel_masks, separate_by
from gensep.separation.run import Outputs, separate_file
from gensep.separation.stems import choose_stems
from gensep.separators.files import LoadedSeparator
from gensep.separators.mel_mask import MelMask
from helpers.fakeseparators import Convolved, Planes, Same, add_rows, loaded

pytestmark = pytest.mark.usefixtures("hasty", "rows")
FORM = Representation(n_fft=256, hop_length=128, n_mels=6)
FOUR = ("vocals", "drums", "bass", "other")


@pytest.fixture
def rows(monkeypatch):
    add_rows(monkeypatch)


@pytest.fixture(scope="module")
def rival():
    """Give a mel mask of random weights, also those that begin as zeros."""

    def stirred(leaf):
        return leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape)

    network = jax.tree.map(stirred, MelMask(FORM, 2, 8, 2, rngs=nnx.Rngs(0)))
    settings = {"network": "mel_mask", "sources": ["low", "high"], "spectra": {}}
    return LoadedSeparator("rival", network, settings, {})


def noise(channels, samples):
    return 0.1 * np.random.default_rng(1).normal(size=(channels, samples)).astype("f4")


@pytest.fixture
def song(tmp_path):
    soundfile.write(tmp_path / "m.wav", noise(2, 12_000).T, 8000, subtype="PCM_24")
    return Excerpt(tmp_path / "m.wav", 0.25, 1.0)


def test_a_mel_mask_separates_as_priors_do_by_the_masks_of_the_whole_file(rival, monkeypatch):
    monkeypatch.setattr("gensep.separation.by_network.MEL_FRAMES", 64)
    wave, network = noise(2, 22_050 * 2), rival.network
    stems = separate_by(wave, 16_000, rival)
    analysis = analyse([wave.mean(0)], FORM)
    masks = np.asarray(network.masks(jnp.asarray(analysis.at_level(FORM.level_db))[None]))[0]
    assert len(analysis.power) > 300
    assert masks.std() > 0.02
    np.testing.assert_allclose(mel_masks(network, analysis, lambda *_: None), masks, atol=1e-6)
    want = np.concatenate(list(apply_masks([wave], 16_000, masks, FORM)), -1)
    np.testing.assert_allclose(list(stems.values()), want, atol=1e-6)
    np.testing.assert_allclose(sum(stems.values()), wave, atol=1e-6)
    silent = separate_by(np.zeros(500), 16_000, rival)
    assert not silent["low"].any()


def test_a_file_is_separated_without_a_command(song, rival, tmp_path):
    truth = tmp_path / "true"
    truth.mkdir()
    for name in ("low", "high"):
        soundfile.write(truth / f"{name}.wav", noise(2, 12_000).T / 2, 8000, subtype="FLOAT")
    outputs = Outputs(save_masks=True, reference=str(truth), subtype="same")
    done = separate_file(song, by_network(rival), tmp_path / "out", outputs)
    assert sorted(p.name for p in done.folder.iterdir()) == [
        "high.wav",
        "low.wav",
        "masks.npz",
        "separation.json",
        "spectrograms.png",
    ]
    wave = song.read()[0]
    want = separate_by(wave, 8000, rival)
    for stem in done.stems:
        info = soundfile.info(stem)
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (
            8000,
            2,
            8000,
            "PCM_24",
        )
        np.testing.assert_allclose(soundfile.read(stem)[0].T, want[stem.stem], atol=2e-7)
    np.testing.assert_allclose(
        read_masks(done.folder / "masks.npz").masks, done.masks.masks, atol=1e-3
    )
    found = read_separation(done.folder)
    assert found.mixture == song
    assert found.representation == FORM
    record = json.loads((done.folder / "separation.json").read_text())
    assert record["settings"] == {"separator": "rival", "network": "mel_mask"}
    assert record["separation_seconds"] > 0
    assert set(record["scores"]) == {"low", "high"}
    assert "partial" not in record


def test_networks_of_spectra_have_no_masks_to_keep(song, tmp_path):
    method, outputs = by_network(loaded(Same(1, 0))), Outputs(save_masks=True)
    with pytest.raises(UserError, match="save_masks"):
        separate_file(song, method, tmp_path / "out", outputs)
    assert not (tmp_path / "out").exists()


def test_stems_that_are_chosen_are_sums_of_sources_and_rests_of_the_mixture():
    shares, wave = (0.1, 0.2, 0.3, 0.5), noise(2, 900)
    model = loaded(Same(*shares), "loose", FOUR)
    every = separate_by(wave, 8000, model)
    assert list(every) == list(FOUR)

    def check(want, **options):
        got = separate_by(wave, 8000, model, **options)
        assert list(got) == list(want)
        for name, value in want.items():
            np.testing.assert_array_equal(got[name], value)

    v, d, b, o = every.values()
    rest = np.stack([d, b, o]).sum(0)
    check({"bass": b, "vocals": v}, targets=("bass", "vocals"))
    check({"vocals": v, "no_vocals": wave - v}, two_stems="vocals")
    check({"vocals": v, "accompaniment": rest}, aggregate=("accompaniment=drums,bass,other",))
    check({"vocals": v, "accompaniment": wave - v}, targets=("vocals",), residual=True)
    check({"drums": d, "residual": wave - d}, targets=("drums",), residual=True)
    left = wave - np.stack([v, d, b, o]).sum(0)
    check({**every, "residual": left}, residual=True)
    check(
        {"bass": b, "most": np.stack([v, d]).sum(0), "residual": wave - np.stack([v, d, b]).sum(0)},
        targets=("vocals", "drums", "bass"),
        aggregate=("most=vocals,drums",),
        residual=True,
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"targets": ("voice",)}, "no source voice; the model gives vocals, drums"),
        ({"two_stems": "voice"}, "two_stems: there is no source voice"),
        ({"two_stems": "vocals", "residual": True}, "leave targets, aggregate and residual"),
        ({"aggregate": ("drums,bass",)}, "NAME=SOURCE,SOURCE"),
        ({"aggregate": ("a=drums,pan",)}, "no source pan"),
        ({"aggregate": ("a=drums",), "targets": ("bass",)}, "not among the targets"),
        ({"aggregate": ("vocals=drums,bass",)}, "two stems have one name"),
    ],
)
def test_stems_that_cannot_be_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        choose_stems(FOUR, StemChoice(**options))


def test_options_that_do_not_fit_the_network_are_refused(rival):
    one = loaded(Same(1.0), "loose", ("vocals",))
    for model, options, words in (
        (rival, {"niter": 1}, "gives masks of mel bands"),
        (rival, {"softmask": True}, "gives masks of mel bands"),
        (one, {"niter": 1}, "one source, vocals"),
        (one, {"niter": -1}, "at least 0"),
        (one, {"scores": "here"}, "reads no scores"),
        (one, {"steps": 3}, "unknown option steps"),
        (loaded(Same(1, 0), "scored"), {}, "needs the scores"),
        (loaded(Same(1, 0), "scored"), {"scores": "nowhere"}, "nowhere"),
    ):
        with pytest.raises(UserError, match=words):
            separate_by(noise(1, 100), 8000, model, **options)
    for audio, words in ((np.zeros((0,)), "at least one"), (np.array([np.nan]), "not finite")):
        with pytest.raises(UserError, match=words):
            separate_by(audio, 8000, one)
    assert list(separate_by(noise(1, 400), 8000, one, niter=1, residual=True)) == [
        "vocals",
        "accompaniment",
    ]


def test_the_public_call_takes_a_model_in_place_of_priors():
    wave, model = noise(2, 1000), loaded(Convolved())
    got, want = gensep.separate(wave, 8000, model=model), separate_by(wave, 8000, model)
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value)
    mono = gensep.separate(wave[0], 8000, model=model, two_stems="low")
    assert {name: stem.shape for name, stem in mono.items()} == {"low": (1000,), "no_low": (1000,)}


def test_scores_say_what_the_network_hears_of_each_source(tmp_path):
    """A network that takes its planes for the sources: a tone goes to the source that plays it."""

    at = np.arange(16_000) / 8000
    tones = [0.2 * np.sin(2 * np.pi * f * at) for f in (440.0, 1244.5)]  # A4, D#6
    (tmp_path / "low.txt").write_text("0,1,A4\n1,2,D#6\n")
    (tmp_path / "high.txt").write_text("0,1,D#6\n1,2,A4\n")
    model = loaded(Planes(1), "scored", n_fft=1024, hop_length=256)
    mixture = Excerpt(tmp_path / "m.wav", 1.0)
    soundfile.write(mixture.path, sum(tones), 8000, subtype="FLOAT")
    for wave in (sum(tones), None):
        if wave is not None:
            got = separate_by(wave, 8000, model, scores=str(tmp_path))
            low, high = (got[name][1600:5600] for name in ("low", "high"))
            first, second = (tone[1600:5600] for tone in tones)
        else:  # from the second note on
            method = by_network(model, scores=str(tmp_path))
            outputs = Outputs(picture=False, subtype="FLOAT")
            done = separate_file(mixture, method, tmp_path / "out", outputs)
            high, low = (soundfile.read(stem)[0][2400:7000] for stem in done.stems)
            first, second = (tone[10_400:15_000] for tone in tones)
        assert np.abs(low - first).max() < 0.02
        assert np.abs(high - second).max() < 0.02
    (tmp_path / "high.txt").unlink()
    with pytest.raises(UserError, match="high"):
        separate_by(noise(1, 100), 8000, model, scores=str(tmp_path))


def test_a_run_that_fails_leaves_nothing_and_keeps_what_was_there(song, tmp_path):
    class Failing(Excerpt):
        def blocks(self):
            yield from super().blocks()
            raise UserError("the disk is gone")

    method, folder = by_network(loaded(Convolved())), tmp_path / "out"
    with pytest.raises(UserError, match="gone"):
        separate_file(Failing(*song), method, folder)
    assert not folder.exists()
    separate_file(song, method, folder, Outputs(picture=False))
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(UserError, match="gone"):
        separate_file(Failing(*song), method, folder, Outputs(picture=False))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
