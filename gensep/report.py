"""Make a page to listen to separations and compare them: it opens from disk, without a server."""

import sys
from dataclasses import dataclass

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import UserError, run

PROG = "python -m gensep.report"


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

    def __post_init__(self) -> None:
        if self.start < 0 or self.duration < 0 or self.inline_limit < 0:
            raise ValueError(
                "expected start, duration and inline_limit of 0 or more, not "
                f"{self.start:g}, {self.duration:g}, {self.inline_limit:g}"
            )


def main(argv: list[str]) -> None:
    """Make the page and say where it is."""
    c = config.parse(Config, argv, prog=PROG, about=__doc__ or "")
    if not c.runs:
        raise UserError(f"expected a folder of stems: {PROG} separated/NAME; see --help")
    from gensep.cli.records import command
    from gensep.listening.report import make_report

    excerpt = (c.start, c.duration or None)
    path, songs = make_report(
        c.runs, c.output, c.references, c.root, *excerpt, c.inline_limit, command(c, PROG)
    )
    print(
        f"{path}: {songs} {'song' if songs == 1 else 'songs'}; open it in a browser",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run(main)
