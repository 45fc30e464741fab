"""Score separated songs against their true stems: `python -m gensep.evaluate ESTIMATES REFERENCES`.

OUTPUT/<split>/<song>.json (split test where there is none) is what museval's aggregation reads;
OUTPUT/scores.csv and scores.json hold the figures of all songs. Songs that are scored already, from
the same files with the same options, are left alone.
"""

import csv
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from gensep.cli import config
from gensep.cli.options import Layout, Positional, Range, Short, choices
from gensep.runtime.errors import UserError, run

AGGREGATION = (
    "median: over songs of the median over frames; mean: over songs of the median over "
    "frames; pooled: median over the frames of all songs (msdm_gain: means of windows "
    "in the place of medians of frames); [95 % bootstrap interval over songs]"
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of gensep.evaluate."""

    estimates: Positional[str]
    """Folder of separated songs."""
    references: Positional[str]
    """Folder of songs with their true stems."""
    output: str = "scores/{name}"
    """Folder of the results; {name} is the name of the method."""
    name: str | None = None
    """Name of the method; by default the name of the folder ESTIMATES."""
    metrics: tuple[Annotated[str, choices("gensep.evaluation.scoring:METRICS")], ...] = (
        "bsseval",
        "si_sdr",
    )
    """Metrics to compute; sdr is the SDR of bsseval alone, which is much faster."""
    win: float = 1.0
    """Length of a frame of bsseval in seconds."""
    hop: float = 1.0
    """Distance between frames of bsseval in seconds."""
    mode: Literal["v4", "v3"] = "v4"
    """Distortion filters of bsseval: one per track (v4) or one per frame (v3)."""
    mixture: bool = True
    """Score the unprocessed mixture as an estimate of every source as well."""
    oracle: bool = False
    """Score the oracle mask of 96 mel bands as well."""
    silent: Literal["skip", "refuse"] = "skip"
    """What bsseval does with stems that are silent throughout."""
    compat_nan: bool = False
    """Write NaN instead of null, as museval does."""
    layout: Layout = "auto"
    """Layout of the folder REFERENCES."""
    estimate_layout: Layout = "auto"
    """Layout of the folder ESTIMATES."""
    split: str | None = None
    """Score only this split of REFERENCES."""
    stems: tuple[str, ...] = ()
    """Score only these stems; by default all that both sides have."""
    jobs: Annotated[int, Range(0), Short("-j")] = 1
    """Number of processes; 0 means one per core."""
    force: bool = False
    """Score songs again that are scored already."""


def main(argv: list[str]) -> None:
    """Score what is not scored yet, then write and print the figures of all songs."""
    c = config.parse(Config, argv)
    from gensep.evaluation.scoring import Protocol, check
    from gensep.runtime.files import check_writable

    name = c.name or Path(c.estimates).resolve().name
    output = output_folder(c.output, name)
    try:
        protocol = Protocol(
            c.metrics, c.win, c.hop, c.mode, c.mixture, c.oracle, c.silent, c.compat_nan
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    pairs, unmatched = find_pairs(c)
    for pair in pairs:
        check(pair)
    places = {output / (p.reference.split or "test") / f"{p.reference.name}.json": p for p in pairs}
    for place in places:
        check_writable(place.parent)
    score_all(c, places, protocol)
    report(c, name, output, [json.loads(place.read_text()) for place in places], unmatched)


def output_folder(template: str, name: str) -> Path:
    """Fill in {name} of a folder template."""
    try:
        return Path(template.format(name=name))
    except (KeyError, IndexError, ValueError):
        raise UserError(f"--output knows {{name}}, not what is in '{template}'") from None


def find_pairs(c: Config) -> tuple[list[Any], list[str]]:
    """Pair songs by name, and by split where both sides have one; tell what is left over."""
    from gensep.datasets.layouts import find_songs
    from gensep.evaluation.scoring import Pair

    # the references keep their other stems, which the oracle and the sum of the stems need
    estimates = find_songs(c.estimates, c.estimate_layout, stems=c.stems or None)
    references = find_songs(c.references, c.layout, c.split)
    pairs, unmatched = [], []
    for estimate in estimates:
        found = [
            r
            for r in references
            if r.name == estimate.name
            and (not r.split or not estimate.split or r.split == estimate.split)
        ]
        if len(found) > 1:
            raise UserError(
                f"{c.references} has {len(found)} songs {estimate.name}, in "
                f"{', '.join(r.split for r in found)}; choose one with --split"
            )
        if found:
            pairs.append(Pair(estimate, found[0]))
        elif c.split is None or estimate.split in ("", c.split):
            unmatched.append(f"{estimate.name} has no reference")
    taken = [pair.reference for pair in pairs]
    unmatched += [f"{r.name} has no estimate" for r in references if r not in taken]
    if not pairs:
        raise UserError(
            f"no song of {c.estimates} ({_some(estimates)}) is called like one of "
            f"{c.references} ({_some(references)}); rename the folders"
        )
    doubles = [p.reference.name for i, p in enumerate(pairs) if p.reference in taken[:i]]
    if doubles:
        raise UserError(f"{c.estimates} has several songs {doubles[0]}; score one split a run")
    return sorted(pairs, key=lambda p: (p.reference.split, p.reference.name)), unmatched


def score_all(c: Config, places: dict[Path, Any], protocol: Any) -> None:
    """Score the songs whose record is not there, or made from other files or options."""
    from tqdm import tqdm

    from gensep.runtime.parallel import job_count, results

    todo = [
        (place, pair)
        for place, pair in places.items()
        if c.force or not is_scored(place, pair, protocol)
    ]
    jobs = job_count(c.jobs, len(todo))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    if jobs > 1:  # for the processes to come: their matrix products share the cores
        os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))
    tasks = [(place, pair, protocol, threads) for place, pair in todo]
    with tqdm(
        total=len(places),
        initial=len(places) - len(todo),
        unit="song",
        desc="scoring",
        dynamic_ncols=True,
        disable=None,
    ) as bar:
        for _ in results(score_song, tasks, jobs):
            bar.update()


def score_song(place: Path, pair: Any, protocol: Any, threads: int) -> None:
    """Score one song and write its record."""
    from gensep.evaluation.scoring import score
    from gensep.runtime.files import write_atomically

    record = score(pair, protocol, threads)
    write_atomically(place, json.dumps(record, indent=1, allow_nan=protocol.compat_nan) + "\n")


def is_scored(place: Path, pair: Any, protocol: Any) -> bool:
    """Whether the record of a song is there, from these files and these options."""
    from gensep.evaluation.scoring import fingerprint

    try:
        return json.loads(place.read_text())["gensep"]["fingerprint"] == fingerprint(pair, protocol)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def report(
    c: Config, name: str, output: Path, records: list[dict[str, Any]], unmatched: list[str]
) -> None:
    """Write scores.csv and scores.json, print the table and what the reader should know."""
    import dataclasses

    import numpy as np

    from gensep.cli.records import commit, versions
    from gensep.evaluation.scoring import figures
    from gensep.evaluation.statistics import markdown, summarise
    from gensep.runtime.files import write_atomically

    rows, frames = figures(records)
    lines = summarise(rows, frames, lambda metric: np.mean if metric == "msdm_gain" else np.median)
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\n")
    sheet.writerows([rows[0]._fields if rows else (), *rows])
    write_atomically(output / "scores.csv", text.getvalue())
    notes = [f"{r['gensep']['song']}: {note}" for r in records for note in r["gensep"]["notes"]]
    options = {k: v for k, v in dataclasses.asdict(c).items() if k not in ("force", "jobs")}
    whole = {
        "method": name,
        "aggregation": AGGREGATION,
        "unmatched": unmatched,
        "notes": notes,
        "rows": [r._asdict() for r in rows],
        "summary": [_plain(x) for x in lines],
        "options": options,
        "versions": versions(),
        "commit": commit(),
    }
    write_atomically(output / "scores.json", json.dumps(whole, indent=1, allow_nan=False) + "\n")
    for line in (*unmatched, *notes):
        print(f"note: {line}", file=sys.stderr)
    print(f"{name}: {len(records)} songs. {AGGREGATION}\n")
    print(
        markdown(
            ("metric", "source", "method", "n", "median", "mean", "pooled"),
            [
                (
                    x["metric"],
                    x["source"],
                    x["method"],
                    x["n"],
                    x["median"],
                    x["mean"],
                    "-" if x["pooled"] is None else f"{x['pooled']:.2f}",
                )
                for x in sorted(lines, key=lambda x: (x["metric"], x["source"]))
            ],
        )
    )
    print(f"\nwritten to {output}", file=sys.stderr)


def _plain(line: dict[str, Any]) -> dict[str, Any]:
    """Give a line of the summary as strict JSON can hold it."""

    def known(x: float | None) -> float | None:
        return None if x is None or x != x else round(x, 6)

    return {
        k: [known(x) for x in v] if isinstance(v, tuple) else v if k != "pooled" else known(v)
        for k, v in line.items()
    }


def _some(songs: list[Any]) -> str:
    names = [song.name for song in songs]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


if __name__ == "__main__":
    run(main)
