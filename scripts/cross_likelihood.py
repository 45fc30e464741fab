"""Measure every prior on the data of every source: does each know its own source best?

DATA are data sets of gensep.wav_to_spec in folders named like the priors. Writes OUTPUT.json after
every pair and OUTPUT.md, two matrices: negative log densities by the ODE, and their bound by
denoising alone. Pairs of OUTPUT.json that were measured with the same settings are kept.
"""

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gensep import errors, likelihood
from gensep.config import option, parse
from gensep.errors import UserError

PROG = "python scripts/cross_likelihood.py"


@dataclass(frozen=True)
class Config:
    """What to measure."""

    data: tuple[str, ...] = option((), "data sets, one a source", positional=True)
    priors: tuple[str, ...] = option((), "priors; by default those named like the data sets")
    split: str = option("valid", "split of the data")
    examples: int = option(16, "windows of a data set")
    levels: int = option(33, "noise levels of the ODE")
    seed: int = option(0, "seed of windows, noise and probes")
    output: str = option("docs/results/cross_likelihood", "path without ending for .json and .md")


def main(argv: list[str]) -> None:
    """Measure what is not in OUTPUT.json yet, then write the matrices."""
    c = parse(Config, argv, prog=PROG, about=__doc__ or "")
    if not c.data:
        raise UserError(f"expected data sets: {PROG} DATA/piano DATA/violin; see --help")
    from tqdm import tqdm

    from gensep.audio import check_writable
    from gensep.priors import load_prior
    from gensep.runs import commit, versions, write_atomically

    path = Path(f"{c.output}.json")
    check_writable(path.parent)
    old = json.loads(path.read_text()) if path.exists() else {}
    settings = {"split": c.split, "examples": c.examples, "levels": c.levels, "seed": c.seed}
    rows = old.get("rows", []) if old.get("settings") == settings else []
    known = {(r["prior"], r["data"]) for r in rows}
    sources = [Path(data).name for data in c.data]
    loaded = [load_prior(name) for name in c.priors or sources]
    todo = [(p, d) for d in c.data for p in loaded if (p.name, Path(d).name) not in known]
    for prior, data in tqdm(todo, unit="pair", dynamic_ncols=True, disable=None):
        options = likelihood.Config(**settings, block=c.examples)
        rows.append(likelihood.measure(prior, data, options))
        record = {"settings": settings, "rows": rows, "commit": commit(), "versions": versions(),
                  "cores": os.cpu_count()}
        write_atomically(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
    names = [p.name for p in loaded]
    shown = shlex.join([*PROG.split(), *hide_folders(argv, c.data)])
    page = write_page(rows, names, sources, c, shown)
    write_atomically(Path(f"{c.output}.md"), page)
    print(page)


def write_page(
    rows: list[dict[str, Any]], priors: list[str], sources: list[str], c: Config, shown: str
) -> str:
    """Give the page: two matrices, what they are, and the command."""
    cells = {(r["prior"], r["data"]): r for r in rows}
    first = cells[priors[0], sources[0]]
    steps = max(r["step_error"] for r in rows)
    lines = ["# Each prior on the data of each source", "",
             f"Negative log density in {first['unit']} with noise of {first['noise']}, mean and "
             f"95 % interval over {c.examples} windows of the split '{c.split}' (less is better; "
             f"{first['floor']:.2f} is the least that the noise allows). Step size leaves errors "
             f"of at most {steps:.4f}.", ""]
    for kind, title in (("nll", "By the probability-flow ODE"),
                        ("bound", "Bound from denoising alone")):
        lines += [f"## {title}", "", matrix(cells, priors, sources, kind), ""]
        if margins := gaps(cells, priors, sources, kind):
            gap, p, source = min(margins)
            lines += ["Every prior is the best on its own source" if gap.value > 0 else
                      "NOT every prior is the best on its own source"]
            lines[-1] += (f"; the smallest margin, window by window, is {gap}, that of {source} "
                          f"over the prior of {p}.")
            lines += [""]
    return "\n".join([*lines, "```sh", shown, "```", ""])


def gaps(
    cells: dict[Any, Any], priors: list[str], sources: list[str], kind: str
) -> list[tuple[Any, str, str]]:
    """Give how much worse other priors are than a source's own: (interval, prior, source)."""
    from gensep.statistics import interval

    def values(prior: str, source: str) -> Any:
        return np.array(cells[prior, source]["examples"][kind])

    return [(interval(values(p, s) - values(s, s)), p, s)
            for s in sources if s in priors for p in priors if p != s]


def matrix(cells: dict[Any, Any], priors: list[str], sources: list[str], kind: str) -> str:
    """Give a markdown table, a row a prior and a column a source, the best of a column bold."""
    from gensep.statistics import Interval, markdown

    best = {s: min(priors, key=lambda p, s=s: cells[p, s][kind]["value"]) for s in sources}

    def cell(prior: str, source: str) -> str:
        text = str(Interval(**cells[prior, source][kind]))
        return f"**{text}**" if best[source] == prior else text

    header = ["prior \\ data", *sources]
    return markdown(header, [[p, *(cell(p, s) for s in sources)] for p in priors])


def hide_folders(argv: list[str], data: tuple[str, ...]) -> list[str]:
    """Give the arguments with the folders of the data replaced by DATA."""
    return [f"DATA/{Path(a).name}" if a in data else a for a in argv]


if __name__ == "__main__":
    errors.run(main)
