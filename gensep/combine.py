"""Make many songs with stems from a few: combinations of time, intensity, style and timbre.

INPUTS are scores (folders of score text files, MIDI, MusicXML), which the sounds of an instruments
file play: OUTPUT/<piece>_<number>/{<source>.wav ..., mixture.wav, <source>_b.txt ...}. With --remix
they are folders of songs with stems: mix takes every stem from another song, drop leaves out each
source in turn, shift delays sources. OUTPUT/combinations.tsv says what every song is made of.
"""

import dataclasses
import hashlib
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from gensep.cli.config import parse, to_toml
from gensep.cli.options import Count, Fraction, Positional, Range, StemFormat
from gensep.rendering import combined_songs
from gensep.rendering.combinations import Combination, combine_scores
from gensep.rendering.instruments_file import read_instruments
from gensep.rendering.rendition import Playing, random
from gensep.rendering.score_text import ALIGNED, find_scores, read_score
from gensep.runtime import errors
from gensep.runtime.errors import UserError
from gensep.runtime.files import claim, write_atomically
from gensep.runtime.parallel import job_count, results

if TYPE_CHECKING:
    from gensep.datasets.remixes import Remix

REMIX_OPTIONS = {"inputs", "output", "remix", "share", "times", "size", "jobs", "ext", "subtype"}
REMIX_OPTIONS |= {"seed", "start", "duration"}


@dataclass(frozen=True, kw_only=True)
class Config(Playing, StemFormat):
    """Options of gensep.combine."""

    inputs: Positional[tuple[str, ...]]
    """Scores, or folders of them; with --remix folders of songs with stems."""
    output: str
    """Folder to write to; songs that are complete there are kept."""
    instruments: str = ""
    """TOML file with one table per source; its sounds are the timbres."""
    sounds: tuple[str, ...] = (".",)
    """Folders that are searched for SoundFonts, recorded notes and RWC."""
    suffix: str = ALIGNED
    """What score text files are called: SOURCE<suffix>.txt."""
    times: tuple[float, ...] = ()
    """Seconds that a source can be late; by default 0, 0.1, 0.2, with --remix shift 0 and 0.2."""
    intensities: tuple[Literal["F", "M", "P"], ...] = ("F", "M", "P")
    """Intensities: of RWC's recordings, or by velocity; each 6 dB above the next."""
    styles: tuple[str, ...] = ("NO",)
    """Styles of playing, as RWC calls them; other sounds have one style."""
    timbres: tuple[int, ...] = ()
    """Numbers of the sounds that take part, from 1; by default all that every source has."""
    size: Count = 400
    """Most songs from each score or song (from all with --remix mix); they are drawn at random."""
    remix: Literal["mix", "drop", "shift"] | None = None
    """Make new songs from the stems of others instead of from scores."""
    share: Fraction = 0.1
    """Share of all sets of songs, one per source, that --remix mix makes."""
    jobs: Annotated[int, Range(0)] = 0
    """Number of processes; 0 means one per core."""

    def __post_init__(self) -> None:
        """Refuse options that would have no effect, and times that cannot be."""
        super().__post_init__()
        given = {f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        if wrong := sorted(given - REMIX_OPTIONS if self.remix else given & {"share"}):
            has = f"--remix {self.remix} has" if self.remix else "scores have"
            raise ValueError(f"{has} no use for {wrong[0]}; leave it out")
        if self.layer_probability:
            raise ValueError("layer_probability has no use where combinations choose the sounds")
        if not all(0 <= time < float("inf") for time in self.times):
            raise ValueError(f"times must be at least 0 s, not {self.times}")
        if not (self.intensities and self.styles):
            raise ValueError("intensities and styles need one value or more")


def _songs(c: Config) -> "list[Combination] | list[Remix]":
    """List the songs to be made."""
    if c.remix is None:
        if not c.instruments:
            raise UserError("--instruments is missing: the file of the sounds that play the scores")
        instruments = _instruments(c.instruments, c.sounds)
        choice = c.times or (0.0, 0.1, 0.2), c.intensities, c.styles, c.timbres
        variants = combined_songs.variants_of(instruments, *choice)
        scores = find_scores(c.inputs, c.suffix)
        return combine_scores(scores, list(instruments), variants, c.size, c.seed)
    from gensep.datasets.layouts import find_songs
    from gensep.datasets.remixes import remix_songs

    songs = [song for folder in c.inputs for song in find_songs(folder)]
    if c.start or c.duration is not None:
        songs = [song.part(c.start, c.duration) for song in songs]
    times = c.times or (0.0, 0.2)
    return remix_songs(c.remix, songs, times, c.share, c.size, random(c.seed, "remix", c.remix))


def _make(song: "Combination | Remix", folder: Path, c: Config) -> float | str:
    """Write one song; return its seconds, or why it cannot be made."""
    if isinstance(song, Combination):
        piece, instruments = _piece(song.score, c.suffix), _instruments(c.instruments, c.sounds)
        played = combined_songs.render_combination(piece, instruments, song, c)
        if isinstance(played, str):
            return played
        return combined_songs.write_song(played, folder, c.rate, c.ext, c.subtype)
    from gensep.datasets.remixes import write_remix

    return write_remix(song, folder, c.ext, c.subtype)


# every process keeps its instruments and the last piece
_instruments = lru_cache(read_instruments)
_piece = lru_cache(maxsize=1)(read_score)


def _done(folder: Path, c: Config) -> bool:
    return (folder / f"mixture.{c.ext}").exists()


def main(argv: list[str]) -> None:
    """Run the command."""
    combine(parse(Config, argv))


def combine(c: Config) -> None:
    """Write the songs that are missing in the output folder.

    Raises:
        UserError: if inputs are wrong, two songs would have one name, or none can be made.
    """
    from tqdm import tqdm

    wanted = _songs(c)
    songs = {Path(c.output) / song.split / song.name: song for song in wanted}
    if len(songs) < len(wanted):
        raise UserError("two inputs have one name, and so would their songs; rename one")
    options = dataclasses.replace(c, inputs=(), output="", sounds=(".",), jobs=0, size=1)
    sounds = hashlib.sha256(Path(c.instruments).read_bytes()).hexdigest() if c.instruments else ""
    claim(Path(c.output) / "combine.toml", f"{to_toml(options)}# {sounds}\n")
    todo = {folder: song for folder, song in songs.items() if not _done(folder, c)}
    tasks = [(song, folder, c) for folder, song in todo.items()]
    work = results(_make, tasks, job_count(c.jobs, len(tasks)))
    made = list(tqdm(work, total=len(tasks), unit="song", disable=not sys.stderr.isatty()))
    whole = [(folder, song) for folder, song in songs.items() if _done(folder, c)]
    rows = [f"{f.name}\t{name}\t{text}\n" for f, s in whole for name, text in s.describe()]
    table = "".join(["song\tsource\tmade of\n", *rows])
    write_atomically(Path(c.output) / "combinations.tsv", table)
    reasons = [result for result in made if isinstance(result, str)]
    if not whole:
        raise UserError(f"no song can be made: {reasons[0]}; see --intensities and --styles")
    seconds = sum(result for result in made if not isinstance(result, str))
    written, there = len(made) - len(reasons), len(songs) - len(todo)
    note = f", {len(reasons)} left out (for example, {reasons[0]})" if reasons else ""
    print(f"{written} songs written ({seconds:.0f} s), {there} already there{note}")


if __name__ == "__main__":
    errors.run(main)
