"""Find songs with stems in the layouts of the public data sets and of gensep's commands."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gensep.datasets.songs import Song, Track
from gensep.runtime.errors import UserError

SUFFIXES = (".wav", ".flac", ".aiff", ".aif", ".ogg", ".oga", ".opus", ".mp3")
MIXTURES = ("mixture", "mix")
STEM_MP4 = ".stem.mp4"
STREAMS = ("mixture", "drums", "bass", "other", "vocals")  # MUSDB18; the files carry no names


def find_songs(
    folder: str | Path,
    layout: str = "auto",
    split: str | None = None,
    stems: Sequence[str] | None = None,
) -> list[Song]:
    """Find the songs of a folder, sorted by split and name, each with at least one stem.

    Args:
        folder: the data set's root, one of its splits, or one song.
        layout: a key of `LAYOUTS`; auto takes the first of them that finds a song.
        split: keep only songs of this split.
        stems: keep these stems, and refuse songs that lack one; by default all that is there.

    Raises:
        UserError: where there is no song, or a song lacks a file, with its name.
    """
    folder = Path(folder)
    if layout != "auto" and layout not in LAYOUTS:
        raise UserError(f"layout must be one of auto, {', '.join(LAYOUTS)}, not '{layout}'")
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; check the name")
    finders = LAYOUTS.values() if layout == "auto" else [LAYOUTS[layout]]
    songs = next(filter(None, (list(find(folder)) for find in finders)), [])
    if not songs:
        kind = "any layout" if layout == "auto" else f"the layout {layout}"
        raise UserError(
            f"{folder} holds no songs with stems in {kind}; expected, for example, "
            "SONG/{mixture,SOURCE,...}.wav"
        )
    if split is not None:
        there = sorted({song.split for song in songs} - {""})
        songs = [song for song in songs if song.split == split]
        if not songs:
            raise UserError(f"{folder} has no split '{split}'; it has {', '.join(there) or 'none'}")
    for song in songs:
        missing = [f"no {name}" for name in stems or () if name not in song.stems]
        if missing or not song.stems:
            raise UserError(
                f"{song.name} in {folder} has {', '.join(missing) or 'no stems'} (it "
                f"has {', '.join(song.stems) or 'a mixture only'}); add the file or "
                "leave the song out"
            )
    kept = [
        song._replace(stems={name: song.stems[name] for name in sorted(stems or song.stems)})
        for song in songs
    ]
    return sorted(kept, key=lambda song: (song.split, song.name))


def _stem_mp4(root: Path) -> Iterator[Song]:
    """MUSDB18: `[SPLIT/]Artist - Title.stem.mp4`, five audio streams each."""
    for folder, split in [(root, ""), *((sub, sub.name) for sub in _folders(root))]:
        for path in _files(folder):
            if path.name.lower().endswith(STEM_MP4):
                tracks = {name: Track(path, stream=i) for i, name in enumerate(STREAMS)}
                yield _song(path.name[: -len(STEM_MP4)], tracks, split)


def _dsd100(root: Path) -> Iterator[Song]:
    """DSD100: `Sources/SPLIT/SONG/SOURCE.wav` and `Mixtures/SPLIT/SONG/mixture.wav`."""
    splits = {sub.name for part in ("Sources", "Mixtures") for sub in _folders(root / part)}
    for split in sorted(splits):
        sources, mixtures = root / "Sources" / split, root / "Mixtures" / split
        names = {sub.name for part in (sources, mixtures) for sub in _folders(part)}
        for name in sorted(names):
            yield _song(name, _sounds(mixtures / name) | _sounds(sources / name), split)


def _ikala(root: Path) -> Iterator[Song]:
    """Read iKala: `Wavfile/ID_PART.wav`, accompaniment on the left, voice on the right."""
    for name, track in _sounds(root / "Wavfile").items():
        yield Song(
            name,
            None,
            {"accompaniment": track._replace(channel=0), "voice": track._replace(channel=1)},
        )


def _bach10(root: Path) -> Iterator[Song]:
    """Bach10: `NN-Title/NN-Title-SOURCE.wav`, perhaps with the mixture `NN-Title.wav`."""
    for folder in _folders(root):
        if not folder.name[0].isdigit():
            continue
        # the set itself writes saxphone
        sounds = {
            "mixture"
            if name == folder.name
            else name.removeprefix(f"{folder.name}-").replace("saxphone", "saxophone"): track
            for name, track in _sounds(folder).items()
            if name.startswith(folder.name)
        }
        if sounds:
            yield _song(folder.name, sounds, "")


def _separated(root: Path) -> Iterator[Song]:
    """Read what `gensep.basis` writes: folders with a separation.json that names the files."""
    for folder, split in _song_folders(root):
        record = folder / "separation.json"
        if not record.is_file():
            continue
        try:
            found = json.loads(record.read_text())
            stems = {Path(name).stem: Track(folder / name) for name in found["stems"]}
            mixture, options = Path(found["mixture"]), found.get("options", {})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{record} is no record of gensep.basis ({error!r}); separate again"
            ) from None
        for track in stems.values():
            if not track.path.is_file():
                raise UserError(
                    f"{track.path} is missing though {record.name} names it; separate again"
                )
        # of a part of a file the mixture is the sum of the stems
        whole = not options.get("start") and options.get("duration") is None
        there = whole and mixture.is_file()
        yield Song(folder.resolve().name, Track(mixture) if there else None, stems, split)


def _flat(root: Path) -> Iterator[Song]:
    """Read one song's folder: `{mixture,SOURCE,...}.EXT`; one file alone is no song."""
    sounds = _sounds(root)
    if len(sounds) > 1:
        yield _song(root.resolve().name, sounds, "")


def _tree(root: Path) -> Iterator[Song]:
    """Read any tree `[SPLIT/]SONG/{mixture,SOURCE,...}.EXT`, as MUSDB18-HQ has."""
    for folder, split in _song_folders(root):
        if folder != root and (sounds := _sounds(folder)):
            yield _song(folder.name, sounds, split)


# auto tries them in this order: the more particular ones first
LAYOUTS: dict[str, Callable[[Path], Iterator[Song]]] = {
    "stem_mp4": _stem_mp4,
    "dsd100": _dsd100,
    "ikala": _ikala,
    "bach10": _bach10,
    "separated": _separated,
    "flat": _flat,
    "musdb_hq": _tree,
    "tree": _tree,
}


def _song(name: str, tracks: dict[str, Track], split: str) -> Song:
    """Part the mixture from the stems."""
    mixture = next((tracks[m] for m in MIXTURES if m in tracks), None)
    return Song(name, mixture, {n: t for n, t in tracks.items() if n not in MIXTURES}, split)


def _song_folders(root: Path) -> Iterator[tuple[Path, str]]:
    """Give (folder, split): the root, its folders, and the folders of those without sound."""
    yield root, ""
    for folder in _folders(root):
        if _sounds(folder):
            yield folder, ""
        else:
            yield from ((sub, folder.name) for sub in _folders(folder))


def _sounds(folder: Path) -> dict[str, Track]:
    """Give name -> audio file, sorted; of one name the format that stands first in SUFFIXES."""
    files = [p for p in _files(folder) if p.suffix.lower() in SUFFIXES]
    # the last of a name wins below
    files.sort(key=lambda p: (p.stem, -SUFFIXES.index(p.suffix.lower())))
    return {path.stem: Track(path) for path in files}


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != ".")


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
