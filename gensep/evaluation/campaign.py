"""Score all songs of a folder: find the pairs, score what is not scored yet, aggregate, write."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gensep.cli.records import Json, write_record
from gensep.datasets.layouts import find_songs
from gensep.datasets.songs import Song
from gensep.evaluation import statistics as stats
from gensep.evaluation.excerpts import draw_excerpts
from gensep.evaluation.measures import Protocol, over_frames
from gensep.evaluation.protocols import COLUMNS, aggregation, describe, unit
from gensep.evaluation.scoring import Pair, check_pair, collect_scores, fingerprint, score_song
from gensep.evaluation.statistics import Row, Summary, decibels
from gensep.runtime.errors import UserError
from gensep.runtime.files import check_writable, output_folder, write_atomically
from gensep.runtime.parallel import job_count, results

SCORES = "scores.json"


class Evaluation(NamedTuple):
    """Scores of a method on several songs."""

    method: str
    output: Path
    protocol: Protocol
    records: list[Json]  # one per song, see `score_song`
    rows: list[Row]
    summary: list[Summary]
    unmatched: list[str]  # songs without a counterpart
    notes: list[str]  # on single songs

    def table(self) -> str:
        """Return the summary as a markdown table."""
        columns = (*COLUMNS[self.protocol.over_songs], "pooled")
        lines = []
        for x in sorted(self.summary, key=lambda x: (x.metric, x.source)):
            shown: Json = {"power": x.power, "median": x.median, "mean": x.mean}
            shown |= {"sd": decibels(x.sd), "pooled": decibels(x.pooled)}
            lines.append((x.metric, x.source, x.method, x.n, *(shown[name] for name in columns)))
        return stats.markdown(("metric", "source", "method", "n", *columns), lines)

    def about(self) -> str:
        """Return what was scored, the protocol and the meaning of the columns in words."""
        count = f"{self.method}: {len(self.records)} {unit(self.protocol)}"
        return f"{count}\n{describe(self.protocol)}\n{aggregation(self.protocol)}"


def evaluate(
    estimates: str,
    references: str,
    output: str = "scores/{name}",
    name: str | None = None,
    protocol: Protocol | None = None,
    layout: str = "auto",
    estimate_layout: str = "auto",
    split: str | None = None,
    stems: Sequence[str] = (),
    *,
    jobs: int = 1,
    force: bool = False,
) -> Evaluation:
    """Score separated songs against their true stems.

    Write OUTPUT/SPLIT/SONG.json (split test for songs without one), which museval can aggregate,
    OUTPUT/scores.csv and OUTPUT/scores.json; the file of an excerpt is SONG START s.json. Songs
    that are scored already, from the same files with the same protocol, are kept. The arguments
    are the options of `gensep.evaluate`.

    Raises:
        UserError: if songs cannot be paired, files do not fit together, or nothing can be written.
    """
    protocol = protocol or Protocol()
    paths = {"estimates": estimates, "references": references, "output": output, "name": name}
    layouts = {"layout": layout, "estimate_layout": estimate_layout}
    options = {**paths, **asdict(protocol), **layouts, "split": split, "stems": stems}
    name = name or Path(estimates).resolve().name
    folder = output_folder(output, name=name)
    # The references keep their other stems, which the oracle and the sum of the stems need.
    found = find_songs(estimates, estimate_layout, stems=tuple(stems) or None)
    true = find_songs(references, layout, split)
    pairs, unmatched = pair_songs(found, true, (estimates, references), split)
    pairs = draw_excerpts(pairs, protocol)
    for pair in pairs:
        check_pair(pair)
    places = {folder / (p.reference.split or "test") / f"{p.reference.name}.json": p for p in pairs}
    for place in places:
        check_writable(place.parent)
    _score_all(places, protocol, jobs, force=force)
    records = [json.loads(place.read_text()) for place in places]
    rows, pooled = collect_scores(records)
    notes = [f"{r['gensep']['song']}: {note}" for r in records for note in r["gensep"]["notes"]]
    power = protocol.over_songs == "power"
    statistic = partial(over_frames, protocol=protocol)
    summary = stats.summarise(rows, pooled, statistic, power=power)
    evaluation = Evaluation(name, folder, protocol, records, rows, summary, unmatched, notes)
    _write(evaluation, options)
    return evaluation


def pair_songs(
    estimates: list[Song], references: list[Song], folders: tuple[str, str], split: str | None
) -> tuple[list[Pair], list[str]]:
    """Pair songs by name, and by split where both sides have one.

    Return the pairs, sorted by split and name, and notes on songs without a counterpart. `folders`
    are those of both sides, for messages; `split` is what the references were restricted to.

    Raises:
        UserError: if a name is ambiguous, or no song has a counterpart.
    """
    pairs, unmatched = [], []
    for estimate in estimates:
        found = [r for r in references if r.name == estimate.name]
        found = [r for r in found if not r.split or estimate.split in ("", r.split)]
        if len(found) > 1:
            splits = ", ".join(r.split for r in found)
            several = f"{len(found)} songs {estimate.name}, in {splits}"
            raise UserError(f"{folders[1]} has {several}; choose one with --split")
        if found:
            pairs.append(Pair(estimate, found[0]))
        elif split is None or estimate.split in ("", split):
            unmatched.append(f"{estimate.name} has no reference")
    taken = [pair.reference for pair in pairs]
    unmatched += [f"{r.name} has no estimate" for r in references if r not in taken]
    if not pairs:
        ours, true = f"{folders[0]} ({_some(estimates)})", f"{folders[1]} ({_some(references)})"
        raise UserError(f"no song of {ours} is called like one of {true}; rename the folders")
    doubles = [p.reference.name for i, p in enumerate(pairs) if p.reference in taken[:i]]
    if doubles:
        raise UserError(f"{folders[0]} has several songs {doubles[0]}; score one split per run")
    return sorted(pairs, key=lambda p: (p.reference.split, p.reference.name)), unmatched


def _score_all(places: dict[Path, Pair], protocol: Protocol, jobs: int, *, force: bool) -> None:
    """Score the songs that have no record, or one from other files or options."""
    from tqdm import tqdm

    todo = [item for item in places.items() if force or not is_scored(*item, protocol)]
    jobs = job_count(jobs, len(todo))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    if jobs > 1:  # read by the new processes: their matrix products share the cores
        os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))
    tasks = [(place, pair, protocol, threads) for place, pair in todo]
    done, shown = len(places) - len(todo), {"dynamic_ncols": True, "disable": None}
    with tqdm(total=len(places), initial=done, unit="song", desc="scoring", **shown) as bar:
        for _ in results(write_song_scores, tasks, jobs):
            bar.update()


def write_song_scores(place: Path, pair: Pair, protocol: Protocol, threads: int) -> None:
    """Score one song and write its record."""
    record = score_song(pair, protocol, threads)
    write_atomically(place, json.dumps(record, indent=1, allow_nan=protocol.compat_nan) + "\n")


def is_scored(place: Path, pair: Pair, protocol: Protocol) -> bool:
    """Return whether a song has a record that was made from these files with this protocol."""
    try:
        return json.loads(place.read_text())["gensep"]["fingerprint"] == fingerprint(pair, protocol)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(evaluation: Evaluation, options: Json) -> None:
    """Write scores.csv and scores.json."""
    write_atomically(evaluation.output / "scores.csv", stats.csv_text(evaluation.rows))
    summary = []
    for line in evaluation.summary:
        found: Json = line._asdict()
        for name in ("median", "mean", "power"):
            found[name] = found[name] and stats.rounded(found[name])
        for name in ("sd", "pooled"):
            found[name] = stats.finite(found[name], 6)
        summary.append(found)
    facts: Json = {"method": evaluation.method, "protocol": describe(evaluation.protocol)}
    facts["aggregation"] = aggregation(evaluation.protocol)
    facts |= {"unmatched": evaluation.unmatched, "notes": evaluation.notes}
    facts |= {"rows": [row._asdict() for row in evaluation.rows], "summary": summary}
    facts["options"] = options
    write_record(evaluation.output / SCORES, None, facts)


def _some(songs: Sequence[Song]) -> str:
    names = [song.name for song in songs]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
