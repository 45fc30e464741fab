"""The command that trains separators with critics, on tiny recordings."""

import json

import jax
import numpy as np
import pytest
import soundfile

from gensep import train_adversarial
from gensep.audio.excerpt import Excerpt
from gensep.partitions.partition import PairedSong, Partition, Sum, write_partition
from gensep.runtime.errors import UserError
from gensep.separators.files import load_separator, save_separator
from gensep.separators.networks import make_separator, settings_of

pytestmark = pytest.mark.usefixtures("hasty")

RATE = 2000
TRANSFORM = {"sample_rate": 2000, "n_fft": 32, "hop_length": 32}
NETWORK = "--width 2 --blocks 1 --sample_rate 2000 --n_fft 32 --hop_length 32".split()
CRITICS = "--seconds 0.25 --critic_steps 2 --critic_width 2 --critic_frames 12".split()
TRAINING = "--steps 1 --batch 2 --validate_every 1 --warmup 0".split()


@pytest.fixture(scope="module")
def partition(tmp_path_factory):
    """Two songs of low and high tones, one of them for validation, and unpaired ones."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)

    def tone(name, low, high):
        time = np.arange(RATE) / RATE
        wave = 0.3 * np.sin(2 * np.pi * rng.uniform(low, high) * time)
        soundfile.write(folder / name, wave, RATE)
        return Sum((Excerpt(folder / name),))

    def song(name):
        stems = {"low": tone(f"{name}_l.wav", 100, 200), "high": tone(f"{name}_h.wav", 500, 700)}
        return PairedSong(name, None, stems)

    unpaired = {
        "mixture": [Sum(song("m").stems["low"].sounds + song("n").stems["high"].sounds)],
        "low": [tone("low.wav", 100, 200), Sum(silence=0.2)],
        "high": [tone("high.wav", 500, 700)],
    }
    found = Partition(("low", "high"), [song("a")], unpaired, [song("v")], [])
    write_partition(folder / "p.json", found)
    return folder / "p.json"


def test_a_run_starts_from_a_separator_and_validates(partition, tmp_path):
    settings = settings_of("unet", ("low", "high"), TRANSFORM, width=2, blocks=1)
    first, run = tmp_path / "first.npz", tmp_path / "run"
    save_separator(first, make_separator(settings, 3), settings, half=False)
    given = ["--partition", str(partition), "--run", str(run), "--init", str(first)]
    train_adversarial.main([*given, *NETWORK, *TRAINING, *CRITICS])
    assert {"separator.npz", "estimates.png", "training.png"} <= {p.name for p in run.iterdir()}
    (row,) = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert row["step"] == 1
    assert {"valid_loss", "valid_ratio_low", "valid_ratio_high"} <= set(row)
    before, after = (load_separator(str(path)) for path in (first, run))
    assert after.settings["sources"] == ["low", "high"]  # those of the partition
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before.network, after.network)
    assert 0 < max(jax.tree.leaves(moved)) < 0.01  # by one update of Adam


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--network", "deepconvsep"], "deepconvsep sees 30 frames only; take unet or mel_mask"),
        (["--sources", "low"], "give --sources low high, or --beta 0"),
        (["--sources", "low", "far", "--beta", "0"], "the data have no source far"),
        (["--critic_frames", "64"], "critics see 64 frames, but 0.25 s have 18; take more"),
        (["--masks", "--filters", "3"], "unet has no option filters"),
        (["--unpaired_gain_low", "3"], "expected unpaired_gain_low <= unpaired_gain_high"),
    ],
)
def test_mistakes_are_refused(partition, tmp_path, given, message):
    network = NETWORK if "deepconvsep" not in given else []
    needed = ["--partition", str(partition), "--run", str(tmp_path / "run"), *network]
    with pytest.raises(UserError, match=message):
        train_adversarial.main([*needed, *CRITICS, *given])
    assert not (tmp_path / "run").exists()
