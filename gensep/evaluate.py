"""Score separated songs against their true stems: SDR, SI-SDR and other metrics.

OUTPUT/<split>/<song>.json (split test where there is none) is what museval's aggregation reads;
OUTPUT/scores.csv and scores.json hold the scores of all songs. Songs that are scored already, from
the same files with the same options, are kept. The protocols restate how published scores were
computed; the options that they set can be changed one by one.
"""

import sys
from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

from gensep.cli import config
from gensep.cli.options import Layout, Positional, Range, Short, choices
from gensep.runtime.errors import run

OneStatistic = Annotated[str, choices("gensep.evaluation.statistics:STATISTICS")]


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
    protocol: Annotated[str, choices("gensep.evaluation.protocols:PROTOCOLS")] = "sisec18"
    """Published protocol: sisec18 is museval, BSSEval v4 in frames of 1 s and medians; dsd100 is
    BSSEval v3 in frames of 30 s every 15 s and means of ratios of energies; ikala is NSDR, NSIR and
    NSAR of whole clips against the mixture; bach10 is the SDR of sources of whole pieces;
    mir_eval_excerpts is 50 excerpts of 6 s, every channel as a source. The next options have its
    values unless they are given."""
    metrics: tuple[Annotated[str, choices("gensep.evaluation.measures:METRICS")], ...] = ()
    """Metrics to compute; sdr is the SDR of bsseval alone, which is much faster, nsdr is bsseval
    with its gains over the mixture (NSAR is far below 0: the mixture has no artefacts)."""
    win: Annotated[float | None, Range(0)] = None
    """Length of a frame of bsseval in seconds; 0 is the whole song."""
    hop: float | None = None
    """Distance between frames of bsseval in seconds."""
    mode: Literal["v4", "v3"] | None = None
    """Distortion filters of bsseval: one per track (v4) or one per frame (v3)."""
    target: Literal["images", "sources"] | None = None
    """What bsseval compares with: images are the stems as they are in the mixture, sources the
    stems through any filter of 512 taps."""
    channels: Literal["together", "apart"] | None = None
    """Whether bsseval takes channels as sources of their own (apart), whose mean is the value of
    the stem."""
    over_frames: OneStatistic | None = None
    """Statistic over the frames of a song; power is the mean of ratios of energies, in dB again."""
    over_songs: OneStatistic | None = None
    """Statistic over songs in the first column of the table, beside mean and standard deviation."""
    excerpt: Annotated[float | None, Range(0)] = None
    """Seconds of an excerpt at random, the same for every method; 0 scores whole songs."""
    excerpts: Annotated[int | None, Range(0)] = None
    """Number of excerpts in all; 0 is one per song."""
    seed: Annotated[int, Range(0)] = 0
    """Seed of the excerpts."""
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
    """Score what is not scored yet, then write and print the scores of all songs."""
    c = config.parse(Config, argv)
    from gensep.evaluation.campaign import evaluate
    from gensep.evaluation.protocols import PROTOCOLS

    published = PROTOCOLS[c.protocol]
    options = {field.name: getattr(c, field.name) for field in fields(published)}
    given = {name: value for name, value in options.items() if value not in (None, ())}
    protocol = replace(published, **given)
    folders, layouts = (c.estimates, c.references, c.output), (c.layout, c.estimate_layout)
    found = evaluate(
        *folders, c.name, protocol, *layouts, c.split, c.stems, jobs=c.jobs, force=c.force
    )
    for note in (*found.unmatched, *found.notes):
        print(f"note: {note}", file=sys.stderr)
    print(f"{found.about()}\n")
    print(found.table())
    print(f"\nwritten to {found.output}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
