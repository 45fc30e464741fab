"""Make the listening page of separations and put it where it belongs."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from gensep.cli.records import Json, commit, versions
from gensep.listening import page
from gensep.listening.tracks import find_runs, load_song
from gensep.runtime.errors import UserError
from gensep.runtime.files import check_writable, write_atomically

PARTS = ("audio", "images")  # folders beside index.html


def make_report(
    runs: Sequence[str],
    output: str | None = None,
    references: str | None = None,
    root: str = ".",
    start: float = 0.0,
    duration: float | None = 60.0,
    inline_limit: float = 40.0,
    command: str = "",
) -> tuple[Path, int]:
    """Make a page to listen to separations; return the file to open and the number of songs.

    The arguments are the options of `gensep.report`, save that a duration of None takes all; the
    page shows `command`.

    Raises:
        UserError: if files are missing or do not fit together, or `output` is no earlier page.
    """
    songs = find_runs(runs, root)
    base = Path(output or (Path(runs[0]) / "report" if len(runs) == 1 else "report"))
    check_writable(base.parent)
    one_file = base.suffix == ".html"
    if base.exists() and not (base.is_file() if one_file else _is_page(base)):
        raise UserError(f"{base} exists and is no page; name another file or folder with --output")
    part = base.with_name(f".{base.name}.{os.getpid()}.making")
    try:
        part.mkdir()
        shown: list[Json] = []
        for name, of_song in tqdm(songs.items(), unit="song", leave=False, disable=None):
            song = load_song(name, of_song, references, start, duration)
            shown.append(page.write_song(part, len(shown), song))
        data: Json = {"songs": shown, "overview": page.overview(shown)}
        data |= {"scale_db": page.SCALE_DB, "deviation_db": page.DEVIATION_DB}
        data |= {"command": command, "versions": versions(), "commit": commit()}
        made = _put(part, base, data, inline_limit, may_be_file=one_file or not output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return made, len(songs)


def _put(part: Path, base: Path, data: Json, inline_limit: float, *, may_be_file: bool) -> Path:
    """Move the page whose files are in `part` to its place; return the file to open."""
    megabytes = page.size(part) / 1e6
    if megabytes <= inline_limit:
        html = page.one_file(part, data)
        if may_be_file:
            write_atomically(base.with_suffix(".html"), html)
            return base.with_suffix(".html")
        shutil.rmtree(part)
        part.mkdir()
        (part / "index.html").write_text(html, "utf-8")
    elif base.suffix == ".html":
        remedy = "raise it, take less with --duration, or give a folder as --output"
        excess = f"{megabytes:.1f} MB, over --inline_limit {inline_limit:g}"
        raise UserError(f"{base} would have {excess}; {remedy}")
    else:
        page.make_folder(part, data)
    old = base.with_name(f"{part.name}.old")
    if base.exists():
        base.rename(old)
    part.rename(base)
    shutil.rmtree(old, ignore_errors=True)
    return base / "index.html"


def _is_page(folder: Path) -> bool:
    """Return whether a folder holds an earlier page, or nothing, and may be replaced."""
    return folder.is_dir() and {p.name for p in folder.iterdir()} <= {"index.html", *PARTS}
