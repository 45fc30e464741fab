"""Waves of a partition: its songs, and random excerpts of its unpaired recordings."""

from collections.abc import Sequence

import numpy as np

from gensep.mixtures.options import Unpairing
from gensep.mixtures.recordings import Silence, Sound, Summed, Target, open_recording
from gensep.mixtures.song_waves import Track, random_place
from gensep.partitions.partition import MIXTURE, PairedSong, Partition, Sum
from gensep.runtime.errors import UserError

BEHIND = 8  # updates that may still want excerpts which a later one has replaced
# last words of seeds, so that no two generators are alike
CHOICE, CONTENT = 11, 12


class UnpairedWaves:
    """Random excerpts of mixtures and of solo recordings, varied in loudness.

    Satisfies the protocol `Unpaired` of gensep.training.adversarial_task. Every list is an endless
    sequence of excerpts, each a pure function of the seed and its number. An update chooses at
    random among `c.kept` of them, and `c.fresh` of the excerpts that it takes are then replaced by
    the next ones of the sequence: so a batch does not depend on what is in memory.
    """

    def __init__(
        self,
        mixtures: Sequence[Sound],
        solos: Sequence[Sequence[Sound]],
        samples: int,
        target: Target,
        c: Unpairing,
        steps: int,
    ) -> None:
        """Set the lists, the length of an excerpt, and how many steps the critics make."""
        self.lists, self.samples, self.target = (mixtures, *solos), samples, target
        self.c, self.steps = c, steps
        lengths = [[sound.samples(target.rate) for sound in sounds] for sounds in self.lists]
        # long recordings are heard more often than short ones
        self._until = [np.cumsum(each) for each in lengths]
        self._memory: list[dict[tuple[int, int], np.ndarray]] = [{} for _ in self.lists]

    def batch(self, seed: int, step: int, size: int) -> dict[str, np.ndarray]:
        """Return waves, a pure function of the arguments.

        mixtures: `[size, critic steps + 1, channel, samples]`; solos:
        `[size, critic steps, source, channel, samples]`.

        Raises:
            UserError: if a file is damaged.
        """
        mixtures = self._take(seed, step, 0, (size, self.steps + 1))
        solos = [self._take(seed, step, i, (size, self.steps)) for i in range(1, len(self.lists))]
        return {"mixtures": mixtures, "solos": np.stack(solos, axis=2)}

    def _take(self, seed: int, step: int, index: int, shape: tuple[int, int]) -> np.ndarray:
        """Return excerpts of a list, `[*shape, channel, samples]`, each times a random factor."""
        count = shape[0] * shape[1]
        fresh = round(self.c.fresh * count)
        kept = max(self.c.kept, count) if fresh < count else count
        rng = np.random.default_rng((seed, step, index, CHOICE))
        chosen = step * fresh + rng.permutation(kept)[:count]
        low, high = self.c.unpaired_gain_low, self.c.unpaired_gain_high
        gains = rng.uniform(low, high, (count, 1, 1)).astype(np.float32)
        found = [self._excerpt(seed, index, int(number), keep=fresh < count) for number in chosen]
        self._forget(index, (step - BEHIND) * fresh)
        waves = gains * np.stack(found)
        return waves.reshape(*shape, *waves.shape[1:])

    def _excerpt(self, seed: int, index: int, number: int, *, keep: bool) -> np.ndarray:
        """Return one excerpt of a list, `[channel, samples]`, from memory if it is there."""
        memory, key = self._memory[index], (seed, number)
        if (known := memory.get(key)) is not None:
            return known
        rng, until = np.random.default_rng((seed, number, index, CONTENT)), self._until[index]
        sound = self.lists[index][np.searchsorted(until, rng.integers(until[-1]), side="right")]
        at = random_place(rng, sound, self.samples, self.target.rate)
        wave = sound.read(at, self.samples, self.target)
        if keep:
            memory[key] = wave
        return wave

    def _forget(self, index: int, first: int) -> None:
        """Drop the excerpts before number `first`; several threads may do so at once."""
        memory = self._memory[index]
        for key in [key for key in list(memory) if key[1] < first]:
            memory.pop(key, None)


def open_unpaired(
    partition: Partition,
    sources: Sequence[str],
    samples: int,
    target: Target,
    c: Unpairing,
    steps: int,
) -> UnpairedWaves:
    """Read the headers of all unpaired recordings.

    Raises:
        UserError: if the partition has none, or a file cannot be read.
    """
    if not partition.train_unsup:
        remedy = "add train_unsup, or train with gensep.train_separator"
        raise UserError(f"the partition has no unpaired recordings; {remedy}")
    lists = {
        name: [_open(sound, f"train_unsup.{name}[{i}]") for i, sound in enumerate(sounds)]
        for name, sounds in partition.train_unsup.items()
    }
    solos = [lists[name] for name in sources]
    return UnpairedWaves(lists[MIXTURE], solos, samples, target, c, steps)


def open_songs(songs: Sequence[PairedSong]) -> list[Track]:
    """Read the headers of songs of a partition.

    Raises:
        UserError: if a file cannot be read, or stems differ in rate or length.
    """
    return [_track(song) for song in songs]


def _track(song: PairedSong) -> Track:
    stems = {
        name: _summed(stem, f"{song.name}, {name}")
        for name, stem in song.stems.items()
        if stem.sounds
    }
    mixture = _summed(song.mixture, f"{song.name}, mixture") if song.mixture else None
    lengths = {name: (sound.rate, sound.samples(sound.rate)) for name, sound in stems.items()}
    first, *others = lengths
    if mixture:  # may be longer or shorter than the stems
        lengths[MIXTURE] = mixture.rate, lengths[first][1]
        others.append(MIXTURE)
    for name in others:
        if lengths[name] != lengths[first]:
            (a, n), (b, m) = lengths[first], lengths[name]
            both = f"{first} has {n} samples at {a} Hz, {name} {m} at {b} Hz"
            raise UserError(f"{song.name}: {both}; make the files alike")
    return Track(song.name, "", mixture, dict(stems), None)


def _open(sound: Sum, place: str) -> Sound:
    return _summed(sound, place) if sound.sounds else Silence(sound.silence)


def _summed(sound: Sum, place: str) -> Summed:
    parts = tuple(open_recording(part) for part in sound.sounds)
    if len({part.shape.rate for part in parts}) > 1:
        rates = ", ".join(str(part.shape.rate) for part in parts)
        raise UserError(f"{place}: sounds that are added have rates {rates}; make them alike")
    return Summed(parts)
