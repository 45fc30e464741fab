"""Make a page to listen to separations and compare them: it opens from disk, without a server."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import UserError, run

PROG = "python -m gensep.report"
PARTS = ("audio", "images")  # folders beside index.html


@dataclass(frozen=True)
class Config:
    """Options of `gensep.report`."""

    runs: tuple[str, ...] = option(
        ("separated",),
        "folders that gensep.basis wrote, or folders of such; several are compared as methods",
        positional=True,
    )
    output: str | None = option(
        None,
        "page.html, or a folder for index.html and what belongs to "
        "it; by default RUN/report.html, RUN/report/ if it is large; "
        "of several RUNs report.html here",
    )
    references: str | None = option(
        None,
        "folder of true stems, or of a folder of them a song; "
        "by default those of the separation; none for none",
    )
    root: str = option(".", "folder that the paths in separation.json start from")
    start: float = option(0.0, "seconds to skip of what was separated")
    duration: float = option(60.0, "seconds of every song, at most; 0 for all")
    inline_limit: float = option(40.0, "MB up to which everything goes into one file")

    def __post_init__(self):
        if self.start < 0 or self.duration < 0 or self.inline_limit < 0:
            raise ValueError(
                "expected start, duration and inline_limit of 0 or more, not "
                f"{self.start:g}, {self.duration:g}, {self.inline_limit:g}"
            )


def main(argv: list[str]) -> None:
    """Read the runs, make the page, say where it is."""
    c = config.parse(Config, argv, prog=PROG, about=__doc__ or "")
    if not c.runs:
        raise UserError(f"expected a folder of stems: {PROG} separated/NAME; see --help")
    from gensep.listening.tracks import find_runs
    from gensep.runtime.files import check_writable

    songs = find_runs(c.runs, c.root)
    base = Path(c.output or (Path(c.runs[0]) / "report" if len(c.runs) == 1 else "report"))
    check_writable(base.parent)
    if base.exists() and not (base.is_file() if base.suffix == ".html" else is_page(base)):
        raise UserError(
            f"{base} is there and no page; it is left as it is: name another with --output"
        )
    part = base.with_name(f".{base.name}.{os.getpid()}.making")
    try:
        part.mkdir()
        made = make(part, base, songs, c)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(
        f"{made}: {len(songs)} {'song' if len(songs) == 1 else 'songs'}; open it in a browser",
        file=sys.stderr,
    )


def make(part: Path, base: Path, songs: dict[str, Any], c: Config) -> Path:
    """Build the page in the folder `part` and move it into place; give the file to open."""
    from tqdm import tqdm

    from gensep.cli.records import command, commit, versions
    from gensep.listening import page
    from gensep.listening.tracks import load_song
    from gensep.runtime.files import write_atomically

    shown: list[dict[str, Any]] = []
    for name, runs in tqdm(songs.items(), unit="song", leave=False, disable=None):
        song = load_song(name, runs, c.references, c.start, c.duration or None)
        shown.append(page.write_song(part, len(shown), song))
    data = {
        "songs": shown,
        "overview": page.overview(shown),
        "scale_db": page.SCALE_DB,
        "deviation_db": page.DEVIATION_DB,
        "command": command(c, PROG),
        "versions": versions(),
        "commit": commit(),
    }
    megabytes, fixed = page.size(part) / 1e6, base.suffix == ".html"
    if megabytes <= c.inline_limit:
        html = page.one_file(part, data)
        if not c.output or fixed:
            write_atomically(base.with_suffix(".html"), html)
            return base.with_suffix(".html")
        shutil.rmtree(part)
        part.mkdir()
        (part / "index.html").write_text(html, "utf-8")
    elif fixed:
        raise UserError(
            f"{base} would have {megabytes:.1f} MB, over --inline_limit "
            f"{c.inline_limit:g}; raise it, take less with --duration, or give a "
            "folder as --output"
        )
    else:
        page.make_folder(part, data)
    replace_folder(part, base)
    return base / "index.html"


def is_page(folder: Path) -> bool:
    """Tell whether a folder holds an earlier page, or nothing, and may be replaced."""
    return folder.is_dir() and {p.name for p in folder.iterdir()} <= {"index.html", *PARTS}


def replace_folder(part: Path, base: Path) -> None:
    """Move a folder to its name; an older page there goes when the new one is in place."""
    old = base.with_name(f"{part.name}.old")
    if base.exists():
        base.rename(old)
    part.rename(base)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    run(main)
