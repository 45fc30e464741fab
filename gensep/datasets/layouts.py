"""Find songs with stems in the layouts of the public data sets and of gensep's commands.

A stem is a file, a stream of a `.stem.mp4`, or a channel of a stereo file. Dot files and files
other than sound are ignored.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gensep.audio.excerpt import Excerpt
from gensep.datasets.separations import FILE, read_separation
from gensep.datasets.songs import Song
from gensep.runtime.errors import UserError

SUFFIXES = (".wav", ".flac", ".aiff", ".aif", ".ogg", ".oga", ".opus", ".mp3")
MIXTURES = ("mixture", "mix")
VALID = ("valid", "validation", "val")  # names of folders with songs for validation
TEST = ("test", "Test")
STEM_MP4 = ".stem.mp4"
VERSIONS = ("gt", "fast", "slow", "original")  # of Bach10 by Sibelius: tempo and timing of notes
STREAMS = ("mixture", "drums", "bass", "other", "vocals")  # MUSDB18; the files carry no names


def find_songs(
    folder: str | Path,
    layout: str = "auto",
    split: str | None = None,
    stems: Sequence[str] | None = None,
) -> list[Song]:
    """Find the songs of a folder, sorted by split and name, each with at least one stem.

    The folder is a data set, one of its splits, or one song. The layout is a key of `LAYOUTS`; auto
    takes the first that finds a song. Only songs of `split` and stems named in `stems` are kept.

    Raises:
        UserError: if there is no song, or a song lacks a stem; the message names it.
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
        expected = "expected, for example, SONG/{mixture,SOURCE,...}.wav"
        raise UserError(f"{folder} holds no songs with stems in {kind}; {expected}")
    if split is not None:
        there = sorted({song.split for song in songs} - {""})
        songs = [song for song in songs if song.split == split]
        if not songs:
            raise UserError(f"{folder} has no split '{split}'; it has {', '.join(there) or 'none'}")
    for song in songs:
        missing = [f"no {name}" for name in stems or () if name not in song.stems]
        if missing or not song.stems:
            has = f"has {', '.join(missing) or 'no stems'}"
            has += f" (it has {', '.join(song.stems) or 'a mixture only'})"
            raise UserError(f"{song.name} in {folder} {has}; add the file or leave the song out")
    for i, song in enumerate(songs):
        names = sorted(stems or song.stems)
        songs[i] = song._replace(stems={name: song.stems[name] for name in names})
    return sorted(songs, key=lambda song: (song.split, song.name))


def _stem_mp4(root: Path) -> Iterator[Song]:
    """Read MUSDB18: `[SPLIT/]Artist - Title.stem.mp4`, five audio streams each."""
    for folder, split in [(root, ""), *((sub, sub.name) for sub in _folders(root))]:
        for path in _files(folder):
            if path.name.lower().endswith(STEM_MP4):
                sounds = {name: Excerpt(path, stream=i) for i, name in enumerate(STREAMS)}
                yield _song(path.name[: -len(STEM_MP4)], sounds, split)


def _dsd100(root: Path) -> Iterator[Song]:
    """Read DSD100: `Sources/SPLIT/SONG/SOURCE.wav` and `Mixtures/SPLIT/SONG/mixture.wav`."""
    splits = {sub.name for part in ("Sources", "Mixtures") for sub in _folders(root / part)}
    for split in sorted(splits):
        sources, mixtures = root / "Sources" / split, root / "Mixtures" / split
        names = {sub.name for part in (sources, mixtures) for sub in _folders(part)}
        for name in sorted(names):
            yield _song(name, _sounds(mixtures / name) | _sounds(sources / name), split)


def _ikala(root: Path) -> Iterator[Song]:
    """Read iKala: `Wavfile/ID_PART.wav`, accompaniment left, voice right."""
    for name, sound in _sounds(root / "Wavfile").items():
        left, right = (sound._replace(channel=i) for i in (0, 1))
        yield Song(name, None, {"accompaniment": left, "voice": right})


def _bach10(root: Path) -> Iterator[Song]:
    """Read Bach10: `NN-Title/NN-Title-SOURCE.wav`, perhaps with the mixture `NN-Title.wav`."""
    for folder in _folders(root):
        if not folder.name[0].isdigit():
            continue
        sounds = {}
        for name, sound in _sounds(folder).items():
            if name.startswith(folder.name):
                source = name.removeprefix(f"{folder.name}-") if name != folder.name else "mixture"
                # The files of the data set say "saxphone".
                sounds[source.replace("saxphone", "saxophone")] = sound
        if sounds:
            yield _song(folder.name, sounds, "")


def _sibelius(root: Path) -> Iterator[Song]:
    """Read the renderings of Bach10 by Sibelius: `NN-Title/NN-Title_VERSION_SOURCE.wav`.

    The versions (gt, fast, slow, original) are splits, so that one can train on some of them.
    """
    for folder in _folders(root):
        versions: dict[str, dict[str, Excerpt]] = {}
        for name, sound in _sounds(folder).items():
            version, _, source = name.removeprefix(f"{folder.name}_").partition("_")
            if folder.name[0].isdigit() and version in VERSIONS and source:
                known = versions.setdefault(version, {})
                known[source.replace("saxphone", "saxophone")] = sound
        for version, sounds in sorted(versions.items()):
            yield _song(folder.name, sounds, version)


def _separated(root: Path) -> Iterator[Song]:
    """Read what `gensep.basis` writes: folders with a separation.json that names the files."""
    for folder, split in _song_folders(root):
        if not (folder / FILE).is_file():
            continue
        found = read_separation(folder)
        for path in found.stems.values():
            if not path.is_file():
                raise UserError(f"{path} is missing though {FILE} names it; separate again")
        # The mixture of an excerpt is longer than its stems; use their sum.
        path = found.mixture.path
        whole = found.mixture == Excerpt(path) and path.is_file()
        stems = {name: Excerpt(path) for name, path in found.stems.items()}
        yield Song(folder.resolve().name, found.mixture if whole else None, stems, split)


def _flat(root: Path) -> Iterator[Song]:
    """Read the folder of one song, `{mixture,SOURCE,...}.EXT`; a single file is no song."""
    sounds = _sounds(root)
    if len(sounds) > 1:
        yield _song(root.resolve().name, sounds, "")


def _tree(root: Path) -> Iterator[Song]:
    """Read any tree `[SPLIT/]SONG/{mixture,SOURCE,...}.EXT`, as MUSDB18-HQ has."""
    for folder, split in _song_folders(root):
        if folder != root and (sounds := _sounds(folder)):
            yield _song(folder.name, sounds, split)


# The layout "auto" tries them in this order, the most specific first.
LAYOUTS: dict[str, Callable[[Path], Iterator[Song]]] = {
    "stem_mp4": _stem_mp4,
    "dsd100": _dsd100,
    "ikala": _ikala,
    "bach10_sibelius": _sibelius,
    "bach10": _bach10,
    "separated": _separated,
    "flat": _flat,
    "musdb_hq": _tree,
    "tree": _tree,
}


def _song(name: str, sounds: dict[str, Excerpt], split: str) -> Song:
    """Return the song of some sounds; those with the name of a mixture are no stems."""
    mixture = next((sounds[m] for m in MIXTURES if m in sounds), None)
    return Song(name, mixture, {n: s for n, s in sounds.items() if n not in MIXTURES}, split)


def _song_folders(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield (folder, split): the root, its folders, and the folders in those without sound."""
    yield root, ""
    for folder in _folders(root):
        if _sounds(folder):
            yield folder, ""
        else:
            yield from ((sub, folder.name) for sub in _folders(folder))


def _sounds(folder: Path) -> dict[str, Excerpt]:
    """Return audio files by name, sorted; of equal names the format that is first in SUFFIXES."""
    files = [p for p in _files(folder) if p.suffix.lower() in SUFFIXES]
    # The last file of a name wins below.
    files.sort(key=lambda p: (p.stem, -SUFFIXES.index(p.suffix.lower())))
    return {path.stem: Excerpt(path) for path in files}


def _files(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_file()]


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name[0] != ".")


def audio_files(folder: Path) -> list[Path]:
    """Return the sounds in a folder and in its folders, but for those for testing, sorted."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "." and name not in TEST]
        paths = [Path(parent) / name for name in names if name[0] != "."]
        found += [path for path in paths if path.suffix.lower() in SUFFIXES]
    return sorted(found)
