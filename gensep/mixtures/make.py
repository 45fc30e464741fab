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
from gensep.mixtures.song_waves import Track, find_all_songs, open_tracks
from gensep.representation.blocks import spectrum_blocks
from gensep.representation.magnitude import Spectra
from gensep.runtime.errors import UserError
from gensep.runtime.files import check_writable
from gensep.runtime.parallel import job_count, results


class Making(NamedTuple):
    """What is written of every song."""

    spectra: Spectra
    sources: tuple[str, ...]
    phase: bool = False  # of the mixture, besides the magnitudes


def make_features(
    folders: Sequence[str],
    output: Path,
    songs: Songs,
    spectra: Spectra,
    *,
    phase: bool = False,
    jobs: int = 1,
    force: bool = False,
    report: Callable[[str], object] = print,
) -> None:
    """Write the features of all songs of some folders, leaving those that are up to date.

    Songs that are no longer there are removed from the output. `report` is called with a line of
    what was done.

    Raises:
        UserError: if a song cannot be read, or the output holds something else.
    """
    tracks, sources = open_tracks(find_all_songs(folders, songs.layout), songs)
    making, place = Making(spectra, sources, phase), output / "songs"
    if output.is_dir() and any(output.iterdir()) and not (output / METADATA).is_file():
        raise UserError(f"{output} exists and holds no features; choose another folder")
    check_writable(place)
    write_features(output, spectra, sources)
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
    write_features(output, spectra, sources, [_listed(song) for song in there])
    frames = sum(song["frames"] for song in there)
    hours = frames * spectra.hop_length / spectra.sample_rate / 3600
    done = f"{len(tasks)} written, {len(wanted) - len(tasks)} were up to date"
    report(f"{output}: {len(wanted)} songs, {hours:.2f} h of {', '.join(sources)}; {done}")


def make_song(track: Track, making: Making, folder: Path) -> None:
    """Write the features of one song, a few seconds at a time."""
    about = {"name": track.name, "split": track.split, "fingerprint": fingerprint(track, making)}
    write_song(folder, features_of(track, making), about)


def features_of(track: Track, making: Making) -> Iterator[dict[str, np.ndarray]]:
    """Yield the features of a song in blocks of RECORD_FRAMES frames, the last one shorter."""
    spectra = making.spectra
    waves = track.whole(making.sources, Target(spectra.sample_rate, spectra.channels)).blocks
    for block in spectrum_blocks(spectra, waves, RECORD_FRAMES):
        by_frame = np.moveaxis(block, 2, 0)  # [frame, 1 + source, channel, bin]
        features = {"magnitude": np.abs(by_frame)}
        if making.phase:
            features["phase"] = np.angle(by_frame[:, 0])
        yield features


def fingerprint(track: Track, making: Making) -> str:
    """Digest what the features of a song depend on: equal for equal features."""
    facts: list[object] = [asdict(making.spectra), making.sources, making.phase, track.residual]
    digest = hashlib.sha256(repr((track.name, track.split, facts)).encode())
    recordings = {"": track.mixture, **track.stems}
    for name, recording in sorted(recordings.items()):
        if recording is None:
            continue
        sound = recording.sound
        stat = sound.path.stat()
        own = name, sound.path.name, sound[1:], stat.st_size, stat.st_mtime_ns
        digest.update(repr(own).encode())
    return digest.hexdigest()


def _folder_name(track: Track) -> str:
    """Return a name for the folder of a song that any file system takes."""
    both = f"{track.split}/{track.name}"
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", both.removeprefix("/"))[:60]
    return f"{plain}-{hashlib.sha256(both.encode()).hexdigest()[:8]}"


def _listed(song: Json) -> Json:
    return {name: song[name] for name in ("folder", "name", "split", "frames")}
