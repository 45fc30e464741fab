"""Separate songs by oracles, write the stems and score them: upper bounds of masks of a kind."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gensep.audio.stems import StemWriter
from gensep.cli.records import Json, commit, versions
from gensep.datasets.layouts import find_songs
from gensep.datasets.songs import Song
from gensep.evaluation.measures import ESTIMATE, METRICS, Protocol, SongWaves
from gensep.evaluation.oracles import ORACLES, oracle_spool
from gensep.evaluation.statistics import aligned, decibels, mean_known
from gensep.runtime.errors import UserError
from gensep.runtime.files import check_writable, write_atomically
from gensep.runtime.spool import spooled

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
            raise UserError(
                "expected start >= 0, duration > 0 and window >= 0.01 s, not "
                f"{self.start}, {self.duration} and {self.window}"
            )

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
    The arguments are the options of `gensep.oracle`.

    Returns:
        A row per song, oracle and stem: `method`, `song`, `source`, and in dB `si_sdr`,
        `si_sdr_gain` and `sdr` (the median over frames), None where a stem is silent.

    Raises:
        UserError: for unknown oracles, or files that cannot be used.
    """
    for name in methods:
        if name not in ORACLES:
            raise UserError(f"method must be of {', '.join(ORACLES)}, not '{name}'")
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
        waves = read_waves(song, options)
        for name, folder in folders.items():
            if done[name] is None:
                done[name] = separate_song(name, waves, folder, song, options)
    return [row for rows in done.values() for row in rows or ()]


def read_waves(song: Song, options: Options) -> SongWaves:
    """Read stems and mixture to disk.

    Raises:
        UserError: if the mixture differs from the stems in rate, channels or length.
    """
    excerpt = song.part(options.start, options.duration)
    stems, rate = excerpt.read_stems()
    mixture, other = excerpt.read_mixture()
    wanted = next(iter(stems.values())).shape
    if mixture.shape != wanted or other != rate:
        raise UserError(
            f"{song.name}: the mixture has {mixture.shape[0]} channels of "
            f"{mixture.shape[1]} samples at {other} Hz, the stems {wanted[0]} of "
            f"{wanted[1]} at {rate} Hz; make them alike"
        )
    true = spooled([[wave] for wave in stems.values()], *wanted)
    return SongWaves(list(stems), {}, true, spooled([[mixture]], *wanted), rate)


def separate_song(
    method: str, waves: SongWaves, folder: Path, song: Song, options: Options
) -> list[Json]:
    """Write the estimates of one oracle and their scores."""
    targets = options.files(folder, waves.names)
    _, channels, samples = waves.references.shape
    writer = StemWriter(targets, waves.rate, channels, samples, options.subtype)
    estimates = oracle_spool(method, waves.references, waves.mixture, waves.rate)
    with writer:
        for i in range(len(estimates)):
            for block in estimates.blocks(i):
                writer.write(i, block)
    scored = waves._replace(methods={ESTIMATE: estimates})
    protocol = Protocol(win=options.window, hop=options.window)
    found = {
        name: value
        for metric in ("si_sdr", "sdr")
        for name, value in METRICS[metric].measure(scored, protocol)[ESTIMATE].items()
    }
    rows = []
    for i, stem in enumerate(waves.names):
        frames = found["SDR"][i][np.isfinite(found["SDR"][i])]
        values = {name: found[name][i] for name in ("si_sdr", "si_sdr_gain")}
        values["sdr"] = np.median(frames) if len(frames) else np.nan
        known = {name: float(v) if np.isfinite(v) else None for name, v in values.items()}
        place = str(Path(song.split) / song.name)
        rows.append({"method": method, "song": place, "source": stem, **known})
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
    whole = {
        "scores": rows,
        "aggregation": "sdr: median over frames of a song; tables: mean over songs",
        "options": asdict(options),
        "versions": versions(),
        "commit": commit(),
    }
    write_atomically(folder / RECORD, json.dumps(whole, indent=1, allow_nan=False) + "\n")


def oracle_table(rows: Sequence[Json]) -> str:
    """Return SI-SDR gain and SDR by method and source, means over songs, as a text table."""
    methods, sources = (
        list(dict.fromkeys(row[key] for row in rows)) for key in ("method", "source")
    )
    songs = len({row["song"] for row in rows})
    lines = [("method", "source", "SI-SDR gain", "SDR")]
    for method in methods:
        for source in [*sources, *(["mean"] if len(sources) > 1 else [])]:
            mine = [
                row for row in rows if row["method"] == method and source in (row["source"], "mean")
            ]
            cells = [decibels(mean_known(r[k] for r in mine)) for k in ("si_sdr_gain", "sdr")]
            lines.append((method, source, *cells))
    table = aligned(lines, ("<12", "<12", ">12", ">10"))
    return f"dB, mean over {songs} songs; SDR: median over frames of a song\n{table}"
