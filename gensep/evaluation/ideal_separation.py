"""Separate songs by oracles, write the stems and score them: upper bounds of masks of a kind."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gensep.audio.stems import StemWriter
from gensep.cli.records import Json, write_record
from gensep.datasets.layouts import find_songs
from gensep.datasets.songs import Song
from gensep.evaluation.measures import ESTIMATE, METRICS, Protocol, SongWaves
from gensep.evaluation.oracles import ORACLES, oracle_spool
from gensep.evaluation.statistics import aligned, decibels, finite, mean_known
from gensep.runtime.errors import UserError
from gensep.runtime.files import check_writable

RECORD = "oracle.json"


@dataclass(frozen=True)
class Options:
    """Options of `gensep.oracle` that decide the results of a song."""

    folder: str
    stems: tuple[str, ...] = ()
    start: float = 0.0
    duration: float | None = None
    window: float = 1.0
    ext: str = "wav"
    subtype: str | None = None

    def __post_init__(self) -> None:
        short = self.duration is not None and self.duration <= 0
        if self.start < 0 or short or self.window < 0.01:
            got = f"{self.start}, {self.duration} and {self.window}"
            raise UserError(f"expected start >= 0, duration > 0 and window >= 0.01 s, not {got}")

    def files(self, folder: Path, names: Sequence[str]) -> list[Path]:
        """Return the file of each stem."""
        return [folder / f"{name}.{self.ext.lstrip('.')}" for name in names]


def separate_ideally(
    options: Options,
    methods: Sequence[str],
    output: str = "oracles",
    layout: str = "auto",
    split: str | None = None,
) -> list[Json]:
    """Separate and score every song by every oracle; results that are there already are kept.

    Write OUTPUT/METHOD/SONG/STEM.EXT, a record beside them, and all scores in OUTPUT/oracle.json.
    Return a row per song, oracle and stem: `method`, `song`, `source`, and in dB `si_sdr`,
    `si_sdr_gain` and `sdr` (the median over frames), None where a stem is silent.

    Raises:
        UserError: for unusable files, and for methods that are unknown, none, or not distinct.
    """
    if unknown := [name for name in methods if name not in ORACLES]:
        raise UserError(f"method must be of {', '.join(ORACLES)}, not '{unknown[0]}'")
    if not methods or len(set(methods)) < len(methods):
        raise UserError(f"name one or more oracles, each once, not {' '.join(methods) or 'none'}")
    songs = find_songs(options.folder, layout, split, options.stems or None)
    check_writable(output)
    from tqdm import tqdm

    rows: list[Json] = []
    with tqdm(songs, unit="song", dynamic_ncols=True, disable=None) as bar:
        for song in bar:
            bar.set_description(song.name)
            rows += _song_rows(song, Path(output), methods, options)
    _write(Path(output), rows, options)
    return rows


def _song_rows(song: Song, output: Path, methods: Sequence[str], options: Options) -> list[Json]:
    """Return the scores of a song by every oracle, from its records where they are there."""
    folders = {name: output / name / song.split / song.name for name in methods}
    done = {name: _read(folder, options) for name, folder in folders.items()}
    if None in done.values():
        excerpt = song.part(options.start, options.duration)
        wanted, mixture = excerpt.shape(), excerpt.mixture
        if mixture is not None and mixture.shape() != wanted:
            problem = f"the mixture has {mixture.shape()}, the stems {wanted}"
            raise UserError(f"{song.name}: {problem}; make them alike")
        waves = SongWaves(list(song.stems), {}, *excerpt.to_disk(), wanted.rate)
        for name, folder in folders.items():
            if done[name] is None:
                done[name] = separate_song(name, waves, folder, song, options)
    return [row for rows in done.values() for row in rows or ()]


def separate_song(
    method: str, waves: SongWaves, folder: Path, song: Song, options: Options
) -> list[Json]:
    """Write the estimates of one oracle and their scores."""
    targets = options.files(folder, waves.names)
    writer = StemWriter(targets, waves.rate, *waves.references.shape[1:], options.subtype)
    estimates = oracle_spool(method, waves.references, waves.mixture, waves.rate)
    with writer:
        for i in range(len(estimates)):
            for block in estimates.blocks(i):
                writer.write(i, block)
    scored = waves._replace(methods={ESTIMATE: estimates})
    protocol = Protocol(win=options.window, hop=options.window)
    found = METRICS["si_sdr"].measure(scored, protocol)[ESTIMATE]
    framewise = METRICS["sdr"].measure(scored, protocol)[ESTIMATE]["SDR"]
    rows: list[Json] = []
    for i, stem in enumerate(waves.names):
        row: Json = {"method": method, "song": str(Path(song.split) / song.name), "source": stem}
        row |= {name: finite(values[i]) for name, values in found.items()}
        frames = framewise[i][np.isfinite(framewise[i])]
        rows.append({**row, "sdr": float(np.median(frames)) if len(frames) else None})
    _write(folder, rows, options)
    return rows


def _read(folder: Path, options: Options) -> list[Json] | None:
    """Return the scores of a song that was done with these options, None otherwise."""
    try:
        found = json.loads((folder / RECORD).read_text())
        rows = found["scores"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = found.get("options") == json.loads(json.dumps(asdict(options)))
    there = all(path.is_file() for path in options.files(folder, [row["source"] for row in rows]))
    return rows if same and there else None


def _write(folder: Path, rows: list[Json], options: Options) -> None:
    """Write scores with what is needed to make them again."""
    about = "sdr: median over frames of a song; tables: mean over songs"
    facts = {"scores": rows, "aggregation": about, "options": asdict(options)}
    write_record(folder / RECORD, None, facts)


def oracle_table(rows: Sequence[Json]) -> str:
    """Return SI-SDR gain and SDR by method and source, means over songs, as a text table."""
    methods = dict.fromkeys(row["method"] for row in rows)
    sources = list(dict.fromkeys(row["source"] for row in rows))
    lines = [("method", "source", "SI-SDR gain", "SDR")]
    for method in methods:
        for source in sources + ["mean"] * (len(sources) > 1):
            mine = [r for r in rows if r["method"] == method and source in (r["source"], "mean")]
            cells = [decibels(mean_known(r[k] for r in mine)) for k in ("si_sdr_gain", "sdr")]
            lines.append((method, source, *cells))
    songs = len({row["song"] for row in rows})
    table = aligned(lines, ("<12", "<12", ">12", ">10"))
    return f"dB, mean over {songs} songs; SDR: median over frames of a song\n{table}"
