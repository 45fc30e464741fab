"""Tables and a picture of the rows of scripts/benchmark_samplers.py."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from gensep.runtime.errors import UserError

COSTS = ("forwards", "vjps", "equivalents")
COST, ERROR = "network evaluations (1 VJP = 1 forward)", "sliced Wasserstein-2 distance"

HEAD = """# Samplers on problems whose posterior is known

Priors are Gaussian mixtures with exact scores, in float64; figures are means over *n* seeds, each
a new problem with new noise, ± standard errors. *K2 D4*: sums of 2 sources in 4 dimensions, and so
on; *dB*: two sources in one bin whose powers add, in dB (`basis/toys.py`). Forwards and
vector-Jacobian products (VJPs) are counted per source and sample; *equivalents* takes a VJP as one
forward, a first approximation. *SW*: sliced Wasserstein-2 distance to exact samples, mean over
mixtures; *gap*: error of the samples' mean against the exact mean, squared in the linear cases and
rms in dB; *mse1*: squared error of one sample against the truth; *cov*: share of true values inside
the central 80 % of the samples; *residual*: rms of mixture - f(samples); *bias*: mean of the
samples - exact mean; *s*: sampling time of all mixtures, compilation apart. The row *exact* is a
second set of exact samples: no sampler can do better, and a cov or gap like that of this row is
perfect."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an earlier run; an empty list if there is no file.

    Raises:
        UserError: if the file is not one of this benchmark.
    """
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text())["rows"]
        assert all({"settings", "seed"} <= set(row) for row in rows)
    except (OSError, ValueError, LookupError, TypeError, AssertionError):
        raise UserError(
            f"expected rows of an earlier run in {path}, found something else; move "
            "it away or choose another --output"
        ) from None
    return rows


def write_page(
    output: Path, rows: list[dict[str, Any]], cases: list[str], methods: list[str], command: str
) -> str:
    """Write OUTPUT.md and OUTPUT.png; return the tables."""
    from gensep.cli.records import commit, versions
    from gensep.runtime.files import write_atomically

    cases = [case for case in cases if any(r["settings"]["case"] == case for r in rows)]
    text = "\n\n".join(f"## {case}\n\n{table(rows, case, methods)}" for case in cases)
    packages = ", ".join(f"{k} {v}" for k, v in versions().items())
    about = f"{os.cpu_count()} CPU cores, commit {commit() or 'unknown'}; {packages}."
    picture = beside(output, "png")
    draw_picture(picture, rows, cases)
    page = f"{HEAD}\n\n{text}\n\n![error against cost]({picture.name})\n\n```\n{command}\n```\n"
    write_atomically(beside(output, "md"), f"{page}\n{about}\n")
    return text


def beside(output: Path, ending: str) -> Path:
    """Return OUTPUT.ending; OUTPUT itself may contain dots."""
    return output.with_name(f"{output.name}.{ending}")


def table(rows: list[dict[str, Any]], case: str, methods: list[str]) -> str:
    """Return the markdown table of a case: mean and standard error over seeds."""
    gap = "gap_rms" if case.startswith("dB") else "gap_mse"
    lines = [
        "| sampler | n | forwards | VJPs | equivalents | SW | gap | mse1 | cov | residual | "
        "bias | s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in methods:
        mine = [r for r in rows if (r["settings"]["case"], r["settings"]["method"]) == (case, name)]
        if mine:
            figures = ("sw", gap, "mse1", "coverage", "residual", "bias")
            cells = [
                name,
                str(len(mine)),
                *(str(mine[0][cost]) for cost in COSTS),
                *(_cell([r[figure] for r in mine]) for figure in figures),
                f"{np.mean([r['seconds'] for r in mine]):.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float | None]) -> str:
    """Return mean +- standard error with two digits of the error."""
    if any(v is None for v in values):
        return "diverged"
    mean = float(np.mean(values))
    if len(values) == 1:
        return f"{mean:.3g}"
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    digits = min(max(1 - int(np.floor(np.log10(error))), 0), 6) if error > 0 else 3
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def draw_picture(path: Path, rows: list[dict[str, Any]], cases: list[str]) -> None:
    """Draw sliced Wasserstein distance against cost, one panel per case."""
    panels, floors = {}, {}
    for case in cases:
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row["settings"]["case"] == case and row["sw"] is not None:
                found.setdefault(row["settings"]["method"], []).append(row)
        errors = {name: float(np.mean([r["sw"] for r in mine])) for name, mine in found.items()}
        panels[case] = {
            name: (found[name][0]["equivalents"], error)
            for name, error in errors.items()
            if found[name][0]["equivalents"] > 0
        }
        floors[case] = errors.get("exact")
    plot_trade_off(path, panels, floors)


def plot_trade_off(
    path: Path, panels: dict[str, dict[str, tuple[float, float]]], floors: dict[str, float | None]
) -> None:
    """Draw error against cost on logarithmic axes, one panel per title.

    A line joins the points that no other point beats in both error and cost. Errors above eight
    times the floor are drawn on the upper edge.

    `panels` is title -> label -> (cost, error), `floors` is title -> least possible error, drawn as
    a dashed line.
    """
    from gensep.plots.figure import grid, save

    labels = list(dict.fromkeys(label for points in panels.values() for label in points))
    columns = min(3, len(panels) + 1)
    figure, axes = grid(-(-(len(panels) + 1) // columns), columns, 4.6, 4.2)
    for axis, title in zip(axes.flat, panels, strict=False):
        axis.set_axis_on()
        floor = floors.get(title)
        points = sorted(
            (x, min(y, 8 * floor) if floor else y, label) for label, (x, y) in panels[title].items()
        )
        best = [p for i, p in enumerate(points) if all(p[1] < q[1] for q in points[:i])]
        axis.plot([p[0] for p in best], [p[1] for p in best], color="0.7", lw=1, zorder=1)
        for x, y, label in points:
            i = labels.index(label)
            axis.plot(x, y, "os^Dv"[i // 10 % 5], color=f"C{i % 10}", ms=6, zorder=2)
        if floor:
            axis.axhline(floor, color="0.5", ls="--", lw=1)
        axis.set(title=title, xlabel=COST, ylabel=ERROR)
        if points:
            axis.set(xscale="log", yscale="log")
            axis.margins(0.1)
    for i, label in enumerate(labels):
        axes.flat[len(panels)].plot([], [], "os^Dv"[i // 10 % 5], color=f"C{i % 10}", label=label)
    axes.flat[len(panels)].legend(loc="upper left", fontsize=7.5, ncols=2, frameon=False)
    save(figure, path)
