"""Draw gain against cost from the raw rows of `benchmark_separation.py`: what a preset could be.

One column per number of sources. A point is a method: the mean gain of its sets, each with the same
weight, against the network evaluations that it takes. Methods on the line are not beaten by any
cheaper one. Every method should have been run on the same sets.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gensep.cli.config import parse
from gensep.cli.options import Positional
from gensep.runtime import errors


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the figure."""

    rows: Positional[tuple[str, ...]]
    """Raw rows (.json) of benchmark_separation.py."""
    output: str = "pareto.png"
    """PNG file."""


class Point(NamedTuple):
    """A method on all sets with one number of sources."""

    method: str
    gain: float  # dB
    evaluations: float  # of one source


def points(rows: list[dict]) -> dict[int, list[Point]]:
    """Return the points of every number of sources, cheapest first."""
    found: dict[int, list[Point]] = {}
    rows = [r for r in rows if r["method"] != "mixture" and not r["method"].startswith("oracle")]
    for sources in sorted({len(r["gain"]) for r in rows}):
        of_count = [r for r in rows if len(r["gain"]) == sources]
        for method in dict.fromkeys(r["method"] for r in of_count):
            mine = [r for r in of_count if r["method"] == method]
            sets = dict.fromkeys(r["set"] for r in mine)
            gains = [np.mean([r["gain"] for r in mine if r["set"] == s]) for s in sets]
            calls = float(np.mean([r["evaluations"] for r in mine]))
            found.setdefault(sources, []).append(Point(method, float(np.mean(gains)), calls))
        found[sources].sort(key=lambda p: p.evaluations)
    return found


def front(along: list[Point]) -> list[Point]:
    """Return the points that are better than all cheaper ones."""
    best: list[Point] = []
    for point in along:
        if not best or point.gain > best[-1].gain:
            best.append(point)
    return best


def draw(found: dict[int, list[Point]], path: Path) -> None:
    """Write the figure."""
    from gensep.plots.figure import grid, save

    figure, axes = grid(1, len(found), 6.5, 4.5)
    for axis, (sources, along) in zip(axes.flat, found.items(), strict=True):
        axis.set_axis_on()
        best = front(along)
        axis.plot([p.evaluations for p in along], [p.gain for p in along], "o", color="0.6")
        axis.plot([p.evaluations for p in best], [p.gain for p in best], "o-", color="C0")
        for i, p in enumerate(along):  # names of neighbours above and below their points
            place = {"xytext": (4, 6 if i % 2 else -12), "textcoords": "offset points"}
            axis.annotate(_short(p.method), (p.evaluations, p.gain), fontsize=7, **place)
        axis.margins(x=0.15, y=0.1)
        axis.set_xscale("log")
        axis.set_xlabel("network evaluations per source (proportional to seconds)")
        axis.set_ylabel("SI-SDR gain, dB")
        axis.set_title(f"{sources} sources: chains x levels (products)", fontsize=10)
    save(figure, path)


def _short(method: str) -> str:
    """Return the name of a method as chains x levels (products), and its judge."""
    preset, _, changes = method.partition(":")
    fields = dict(pair.split("=") for pair in changes.split(",") if pair)
    if not {"samples", "steps"} <= set(fields):
        return method
    products = {"mmps": "2", "mmps-cg1": "1", "mmps-cg4": "4"}.get(fields.get("sampler", ""), "")
    judge = "" if fields.get("judge", "evidence") == "evidence" else " mean"
    return f"{fields['samples']}x{fields['steps']} ({products}){judge}"


def main(argv: list[str]) -> None:
    """Read the rows and draw the figure."""
    c = parse(Config, argv)
    rows = [json.loads(line) for path in c.rows for line in Path(path).read_text().splitlines()]
    draw(points(rows), Path(c.output))


if __name__ == "__main__":
    errors.run(main)
