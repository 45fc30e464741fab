"""Separate songs with masks made from their true stems: the ceilings of masks of a kind."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from gensep.cli import config
from gensep.cli.options import Layout, Positional, StemFormat, choices
from gensep.runtime.errors import UserError, run

RECORD = "oracle.json"
DEFAULT = ("ibm1", "ibm2", "irm1", "irm2", "mwf", "psm", "mix", "mel_irm", "mel_ibm")


@dataclass(frozen=True, kw_only=True)
class Config(StemFormat):
    """Options of gensep.oracle."""

    folder: Positional[str]
    """Folder of songs with stems: a data set, a split of it, or one song."""
    method: tuple[Annotated[str, choices("gensep.evaluation.oracles:ORACLES")], ...] = DEFAULT
    """Oracle masks to apply."""
    output: str = "oracles"
    """Folder of the results, OUTPUT/METHOD/SONG/SOURCE.wav."""
    layout: Layout = "auto"
    """Layout of the folder."""
    split: str | None = None
    """Separate only songs of this split."""
    stems: tuple[str, ...] = ()
    """Use only these stems; by default all."""
    start: float = 0.0
    """Seconds to skip at the start of each song."""
    duration: float | None = None
    """Seconds of each song to separate; by default all."""
    window: float = 1.0
    """Length of a frame of the framewise SDR in seconds."""


def main(argv: list[str]) -> None:
    """Write and score every song by every oracle; what is there already is kept."""
    c = config.parse(Config, argv)
    from tqdm import tqdm

    from gensep.datasets.layouts import find_songs
    from gensep.runtime.files import check_writable

    if not c.method or len(set(c.method)) < len(c.method):
        raise UserError(f"name one or more oracles, each once, not {' '.join(c.method) or 'none'}")
    if c.start < 0 or (c.duration is not None and c.duration <= 0) or c.window < 0.01:
        raise UserError(
            "expected start >= 0, duration > 0 and window >= 0.01 s, not "
            f"{c.start}, {c.duration} and {c.window}"
        )
    songs = find_songs(c.folder, c.layout, c.split, c.stems or None)
    output = Path(c.output)
    check_writable(output)
    rows: list[dict[str, Any]] = []
    with tqdm(songs, unit="song", dynamic_ncols=True, disable=None) as bar:
        for song in bar:
            bar.set_description(song.name)
            rows += song_rows(song, output, c)
    text = json.dumps(record(rows, c), indent=1, allow_nan=False) + "\n"
    from gensep.runtime.files import write_atomically

    write_atomically(output / RECORD, text)
    print(table(rows, c.method))


def song_rows(song: Any, output: Path, c: Config) -> list[dict[str, Any]]:
    """Give the scores of a song by every oracle, from its records where they are there."""
    own = Path(song.split) / song.name
    done = {name: read_record(output / name / own, c) for name in c.method}
    missing = [name for name in c.method if done[name] is None]
    if missing:
        stems, mixture, rate = read_song(song, c)
        for name in missing:
            done[name] = separate(name, stems, mixture, rate, output / name / own, song, c)
    return [row for name in c.method for row in done[name] or ()]


def read_song(song: Any, c: Config) -> tuple[dict[str, Any], Any, int]:
    """Read stems and mixture; refuse a mixture of another shape."""
    excerpt = song.part(c.start, c.duration)
    stems, rate = excerpt.read_stems()
    mixture, other = excerpt.read_mixture()
    wanted = next(iter(stems.values())).shape
    if mixture.shape != wanted or other != rate:
        raise UserError(
            f"{song.name}: the mixture has {mixture.shape[0]} channels of "
            f"{mixture.shape[1]} samples at {other} Hz, the stems {wanted[0]} of "
            f"{wanted[1]} at {rate} Hz; make them alike"
        )
    return stems, mixture, rate


def separate(
    name: str, stems: dict[str, Any], mixture: Any, rate: int, folder: Path, song: Any, c: Config
) -> list[dict[str, Any]]:
    """Write the estimates of one oracle and their scores."""
    import numpy as np

    from gensep.audio.stems import StemWriter
    from gensep.evaluation.metrics import framewise_sdr, si_sdr
    from gensep.evaluation.oracles import oracle_stems
    from gensep.runtime.files import write_atomically

    true = np.stack(list(stems.values()))
    targets = [folder / f"{stem}.{c.ext.lstrip('.')}" for stem in stems]
    writer = StemWriter(targets, rate, len(mixture), mixture.shape[1], c.subtype)
    estimates = oracle_stems(name, true, mixture, rate)
    with writer:
        for i, estimate in enumerate(estimates):
            writer.write(i, estimate)
    frames = framewise_sdr(estimates, true, rate, win=c.window, hop=c.window)
    rows = []
    for i, stem in enumerate(stems):
        base, own = si_sdr(mixture, true[i]), frames[i][np.isfinite(frames[i])]
        values = {
            "si_sdr": si_sdr(estimates[i], true[i]),
            "si_sdr_gain": si_sdr(estimates[i], true[i]) - base,
            "sdr": float(np.median(own)) if len(own) else np.nan,
        }
        # of a silent stem there are none
        rows.append(
            {
                "method": name,
                "song": str(Path(song.split) / song.name),
                "source": stem,
                **{k: float(v) if np.isfinite(v) else None for k, v in values.items()},
            }
        )
    text = json.dumps(record(rows, c), indent=1, allow_nan=False) + "\n"
    write_atomically(folder / RECORD, text)
    return rows


def read_record(folder: Path, c: Config) -> list[dict[str, Any]] | None:
    """Give the scores of a song that was done with these options, None otherwise."""
    try:
        found = json.loads((folder / RECORD).read_text())
        rows = found["scores"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = found.get("options") == json.loads(json.dumps(deciding(c)))
    there = all((folder / f"{row['source']}.{c.ext.lstrip('.')}").is_file() for row in rows)
    return rows if same and there else None


def deciding(c: Config) -> dict[str, Any]:
    """Give the options that decide a song's results."""
    kept = ("folder", "stems", "start", "duration", "window", "ext", "subtype")
    return {name: getattr(c, name) for name in kept}


def record(rows: list[dict[str, Any]], c: Config) -> dict[str, Any]:
    """Give what is written beside results."""
    from gensep.cli.records import commit, versions

    return {
        "scores": rows,
        "aggregation": "sdr: median over frames of a song; tables: mean over songs",
        "options": deciding(c),
        "versions": versions(),
        "commit": commit(),
    }


def table(rows: list[dict[str, Any]], methods: tuple[str, ...]) -> str:
    """Give SI-SDR gain and SDR by method and source, means over songs."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    songs = len({row["song"] for row in rows})
    lines = [
        f"dB, mean over {songs} songs; SDR: median over frames of a song",
        f"{'method':<12}{'source':<12}{'SI-SDR gain':>12}{'SDR':>10}",
    ]
    for method in methods:
        for source in [*sources, *(["mean"] if len(sources) > 1 else [])]:
            mine = [
                row for row in rows if row["method"] == method and source in (row["source"], "mean")
            ]
            cells = [mean([row[name] for row in mine]) for name in ("si_sdr_gain", "sdr")]
            lines.append(f"{method:<12}{source:<12}{cells[0]:>12}{cells[1]:>10}")
    return "\n".join(lines)


def mean(values: list[float | None]) -> str:
    """Give the mean of what is there, - without any."""
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.2f}" if known else "-"


if __name__ == "__main__":
    run(main)
