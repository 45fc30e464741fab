"""Excerpts of recordings that have nothing to do with one another."""

import numpy as np
import pytest
import soundfile

from gensep.audio.excerpt import Excerpt
from gensep.mixtures.options import Unpairing
from gensep.mixtures.recordings import Target
from gensep.mixtures.unpaired import open_unpaired
from gensep.partitions.partition import Partition, Sum
from gensep.runtime.errors import UserError

RATE, SAMPLES, STEPS = 8000, 400, 2
PLAIN = {"unpaired_gain_low": 1.0, "unpaired_gain_high": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Recordings whose samples count upwards; the whole part of sample / 100,000 is the file."""
    folder = tmp_path_factory.mktemp("waves")
    for i, samples in enumerate((3000, 2000, 4000, 100), start=1):
        wave = (np.arange(samples) + 100_000 * i) / 1e6
        soundfile.write(folder / f"{i}.wav", wave.astype(np.float32), RATE, "FLOAT")
    return folder


def unpaired(folder, mixtures, *solos, **changed):
    def sounds(numbers):
        files = (n if isinstance(n, Sum) else Excerpt(folder / f"{n}.wav") for n in numbers)
        return [file if isinstance(file, Sum) else Sum((file,)) for file in files]

    names = tuple("abc"[: len(solos)])
    lists = {name: sounds(x) for name, x in zip(("mixture", *names), (mixtures, *solos))}  # noqa: B905
    c = Unpairing(**PLAIN | changed)
    partition = Partition(names, [], lists, [], [])
    return open_unpaired(partition, names, SAMPLES, Target(RATE, 1), c, STEPS)


def test_excerpts_come_from_their_lists_whatever_the_lengths_of_these(folder):
    waves = unpaired(folder, [1], [2, 3], [4]).batch(0, 0, 5)
    mixtures, solos = waves["mixtures"], waves["solos"]
    assert mixtures.shape == (5, STEPS + 1, 1, SAMPLES)
    assert solos.shape == (5, STEPS, 2, 1, SAMPLES)
    assert mixtures.dtype == solos.dtype == np.float32

    def files(x):
        return set(np.rint(1e6 * x[..., 0].ravel()).astype(int) // 100_000)

    assert files(mixtures) == {1}
    assert files(solos[:, :, 0]) == {2, 3}
    assert files(solos[:, :, 1]) == {4}
    np.testing.assert_allclose(1e6 * np.diff(mixtures), 1, atol=0.1)  # one piece each
    starts = 1e6 * mixtures[..., 0].ravel() - 100_000
    assert len(set(np.rint(starts))) > 10
    assert starts.max() <= 3000 - SAMPLES
    # a short recording ends in silence
    np.testing.assert_allclose(1e6 * solos[:, :, 1, :, :100], 400_000, rtol=1e-3)
    assert not solos[:, :, 1, :, 100:].any()


def test_longer_recordings_are_heard_more_often(folder):
    """Silence of 5 s beside half a second of sound: ten of eleven excerpts are silent."""
    solos = unpaired(folder, [1], [3, Sum(silence=5.0)]).batch(0, 0, 200)["solos"]
    silent = np.mean(~solos.any(axis=(2, 3, 4)))
    assert abs(silent - 10 / 11) < 0.06


def test_sums_of_sounds_are_read_at_one_place(folder):
    both = Sum((Excerpt(folder / "1.wav"), Excerpt(folder / "3.wav")))
    solos = (
        unpaired(folder, [1], [both]).batch(0, 0, 30)["solos"][..., 0, 0, :].reshape(-1, SAMPLES)
    )
    both_sound = solos[1e6 * solos[:, -1] > 400_000]
    np.testing.assert_allclose(1e6 * np.diff(both_sound), 2, atol=0.2)
    assert (1e6 * solos[:, 0]).max() < 400_000 + 6000 + 10  # starts up to the end of the longer one


@pytest.mark.parametrize("fresh", [1.0, 0.25])
def test_a_batch_is_a_function_of_seed_and_step(folder, fresh):
    """So a run that is resumed sees what it would have seen, whatever is in memory."""
    make = lambda: unpaired(folder, [1, 2], [2, 3], [3, 4], fresh=fresh, kept=24)  # noqa: E731
    one, other = make(), make()
    batches = [one.batch(3, step, 4) for step in range(12)]
    for step in (11, 0, 7):
        again = other.batch(3, step, 4)
        assert all(np.array_equal(again[name], batches[step][name]) for name in again)
    for different in (one.batch(4, 0, 4), batches[1]):
        assert not np.array_equal(different["solos"], batches[0]["solos"])
    assert not np.array_equal(batches[0]["solos"][:, :, 0], batches[0]["solos"][:, :, 1])


def test_excerpts_in_memory_are_replaced_one_by_one(folder, monkeypatch):
    """A quarter of 8 solos is new in every update; what was replaced long ago is forgotten."""
    waves, count = unpaired(folder, [1], [3], fresh=0.25, kept=16), []
    read = type(waves.lists[1][0]).read
    monkeypatch.setattr(
        type(waves.lists[1][0]), "read", lambda *given: count.append(1) or read(*given)
    )
    seen, made = set(), []
    for step in range(60):
        count.clear()
        solos = waves.batch(0, step, 4)["solos"]
        seen |= set(np.rint(1e6 * solos[..., 0]).ravel())
        made.append(len(count))
    # the mixtures are 12 an update, of which 3 are new
    assert np.mean(made[20:]) == pytest.approx(2 + 3, abs=0.5)
    assert all(len(memory) <= 16 + 8 * 3 + 12 for memory in waves._memory)
    assert len(seen) > 60


def test_gains_are_drawn_for_every_excerpt(folder):
    low, high = {"unpaired_gain_low": 0.2}, {"unpaired_gain_high": 1.2}
    solos = unpaired(folder, [1], [4], **low, **high).batch(0, 0, 200)["solos"]
    gains = solos[..., 0, 0, 0].ravel() / 0.4
    assert 0.2 <= gains.min() < 0.23
    assert 1.17 < gains.max() <= 1.2
    assert abs(gains.mean() - 0.7) < 0.05


def test_bad_files_are_refused_when_training_starts(folder, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF no audio")
    bad = Sum((Excerpt(tmp_path / "bad.wav"),))
    with pytest.raises(UserError, match="bad.wav is no audio"):
        unpaired(folder, [1], [bad])
    soundfile.write(tmp_path / "slow.wav", np.zeros(100), 4000)
    mixed = Sum((Excerpt(folder / "1.wav"), Excerpt(tmp_path / "slow.wav")))
    with pytest.raises(UserError, match=r"train_unsup.a\[1\]: .* rates 8000, 4000; make them"):
        unpaired(folder, [1], [2, mixed])
    with pytest.raises(UserError, match="no unpaired recordings; add train_unsup"):
        open_unpaired(Partition(("a",), [], {}, [], []), ("a",), 1, Target(1, 1), Unpairing(), 1)


def test_a_file_that_is_damaged_later_stops_the_training_with_one_line(folder, tmp_path):
    wave = np.ones(4000, np.float32)
    wave[1000:] = np.nan
    soundfile.write(tmp_path / "nan.wav", wave, RATE, "FLOAT")
    waves = unpaired(folder, [1], [Sum((Excerpt(tmp_path / "nan.wav"),))])
    with pytest.raises(UserError, match="nan.wav holds NaN"):
        waves.batch(0, 0, 4)
