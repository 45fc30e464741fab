"""From folders of songs to features: song by song, in several processes, resumable."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gensep.cli.records import Json
from gensep.mixtures.feature_store import (
    METADATA,
    RECORD_FRAMES,
    SONG,
    read_song,
    write_features,
    write_song,
)
from gensep.mixtures.options import Songs
from gensep.mixtures.recordings import Target
from gensep.mixtures.scored_songs import ScoreFiles
from gensep.mixtures.song_waves import Track, find_all_songs, open_tracks
from gensep.representation.blocks import spectrum_blocks
from gensep.representation.magnitude import Spectra
from gensep.runtime.errors import UserError
from gensep.runtime.files import check_writable
from gensep.runtime.parallel import job_count, results


class Extras(NamedTuple):
    """What is written besides the magnitudes."""

    phase: bool = False  # of the mixture
    scores: ScoreFiles | None = None  # as piano rolls


MAGNITUDES = Extras()  # nothing besides them


class Making(NamedTuple):
    """What is written of every song."""

    spectra: Spectra
    sources: tuple[str, ...]
    extras: Extras


def make_features(
    folders: Sequence[str],
    output: Path,
    songs: Songs,
    spectra: Spectra,
    extras: Extras = MAGNITUDES,
    *,
    jobs: int = 1,
    force: bool = False,
    report: Callable[[str], object] = print,
) -> None:
    """Write the features of all songs of some folders, leaving those that are up to date.

    Songs that are no longer there are removed from the output. `report` is called with a line of
    what was done.

    Raises:
        UserError: if a song or its score cannot be read, or the output holds something else.
    """
    tracks, sources = open_tracks(find_all_songs(folders, songs.layout), songs)
    making, place = Making(spectra, sources, extras), output / "songs"
    if output.is_dir() and any(output.iterdir()) and not (output / METADATA).is_file():
        raise UserError(f"{output} exists and holds no features; choose another folder")
    check_writable(place)
    about: Json = {"sources": sources, "compat": extras.scores and extras.scores.compat}
    write_features(output, spectra, about)
    wanted = {_folder_name(track): track for track in tracks}
    for old in place.iterdir():  # also what a killed run left
        if old.name.startswith(".part-") or (old.name not in wanted and (old / SONG).is_file()):
            shutil.rmtree(old)
    tasks = [
        (track, making, place / name)
        for name, track in wanted.items()
        if force or read_song(place / name).get("fingerprint") != fingerprint(track, making)
    ]
    with tqdm(total=len(tasks), unit="song", disable=not tasks) as bar:
        for _ in results(make_song, tasks, job_count(jobs, len(tasks))):
            bar.update()
    there = [{"folder": name, **read_song(place / name)} for name in wanted]
    write_features(output, spectra, about, [_listed(song) for song in there])
    frames = sum(song["frames"] for song in there)
    hours = frames * spectra.hop_length / spectra.sample_rate / 3600
    done = f"{len(tasks)} written, {len(wanted) - len(tasks)} were up to date"
    report(f"{output}: {len(wanted)} songs, {hours:.2f} h of {', '.join(sources)}; {done}")


def make_song(track: Track, making: Making, folder: Path) -> None:
    """Write the features of one song, a few seconds at a time."""
    about = {"name": track.name, "split": track.split, "fingerprint": fingerprint(track, making)}
    blocks, spectra = features_of(track, making), making.spectra
    if scores := making.extras.scores:
        frames = spectra.frames(track.first.samples(spectra.sample_rate))
        where = track.folder, track.split
        blocks = scores.rolls(*where, making.sources, spectra, frames).blocks(blocks)
    write_song(folder, blocks, about)


def features_of(track: Track, making: Making) -> Iterator[dict[str, np.ndarray]]:
    """Yield the features of a song in blocks of RECORD_FRAMES frames, the last one shorter."""
    spectra = making.spectra
    waves = track.whole(making.sources, Target(spectra.sample_rate, spectra.channels)).blocks
    for block in spectrum_blocks(spectra, waves, RECORD_FRAMES):
        by_frame = np.moveaxis(block, 2, 0)  # [frame, 1 + source, channel, bin]
        features = {"magnitude": np.abs(by_frame)}
        if making.extras.phase:
            features["phase"] = np.angle(by_frame[:, 0])
        yield features


def fingerprint(track: Track, making: Making) -> str:
    """Digest what the features of a song depend on: equal for equal features."""
    spectra, *options = making
    facts: list[object] = [track.name, track.split, track.residual, asdict(spectra), options]
    sounds = track.sounds()
    facts += [(name, sound[1:]) for name, sound in sorted(sounds.items())]
    paths = sorted(sound.path for sound in sounds.values())
    if scores := making.extras.scores:
        paths += scores.paths(track.folder, track.split)
    for path in paths:
        stat = path.stat()
        facts.append((path.name, stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _folder_name(track: Track) -> str:
    """Return a name for the folder of a song that any file system takes."""
    both = f"{track.split}/{track.name}"
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", both.removeprefix("/"))[:60]
    return f"{plain}-{hashlib.sha256(both.encode()).hexdigest()[:8]}"


def _listed(song: Json) -> Json:
    return {name: song[name] for name in ("folder", "name", "split", "frames")}
