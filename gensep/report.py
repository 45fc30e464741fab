"""Write a web page to listen to separations and compare them, without a server."""

import sys
from dataclasses import dataclass

from gensep.cli import config
from gensep.cli.options import Positional
from gensep.runtime.errors import UserError, run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of gensep.report."""

    runs: Positional[tuple[str, ...]] = ("separated",)
    """Folders that gensep.basis wrote, or folders of such folders; several are compared."""
    output: str | None = None
    """File NAME.html, or a folder for index.html and its audio. By default RUN/report.html,
    RUN/report/ if it is large, and report.html in this folder for several RUNs."""
    references: str | None = None
    """Folder of true stems, or a folder of one such folder per song; by default that of the
    separation; none to leave them out."""
    root: str = "."
    """Folder that the paths in separation.json are relative to."""
    start: float = 0.0
    """Seconds to skip at the start of each separated excerpt."""
    duration: float = 60.0
    """Largest number of seconds of each song; 0 for all."""
    inline_limit: float = 40.0
    """Largest size in MB of a page that holds everything in one file."""

    def __post_init__(self) -> None:
        if self.start < 0 or self.duration < 0 or self.inline_limit < 0:
            raise ValueError(
                "expected start, duration and inline_limit of 0 or more, not "
                f"{self.start:g}, {self.duration:g}, {self.inline_limit:g}"
            )


def main(argv: list[str]) -> None:
    """Make the page and say where it is."""
    c = config.parse(Config, argv)
    if not c.runs:
        raise UserError("expected folders that gensep.basis wrote, e.g. separated/NAME; see --help")
    from gensep.cli.records import command
    from gensep.listening.report import make_report

    folders, excerpt = (c.output, c.references, c.root), (c.start, c.duration or None)
    path, songs = make_report(c.runs, *folders, *excerpt, c.inline_limit, command(c))
    count = "1 song" if songs == 1 else f"{songs} songs"
    print(f"{path}: {count}; open it in a browser", file=sys.stderr)


if __name__ == "__main__":
    run(main)
