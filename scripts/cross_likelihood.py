"""Measure the likelihood of the data of every source under every prior.

DATA are data sets of gensep.wav_to_spec in folders named like the priors. Write the raw rows as
JSON after every pair, and OUTPUT.md with two matrices: negative log densities (exact for flows, by
the probability-flow ODE for networks) and a bound from denoising. Earlier pairs that were measured
with the same settings are kept.
"""

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gensep import likelihood
from gensep.cli.config import parse
from gensep.cli.options import Positional
from gensep.runtime import errors
from gensep.runtime.errors import UserError

PROG = "python scripts/cross_likelihood.py"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    data: Positional[tuple[str, ...]] = ()
    """Data sets, one per source."""
    priors: tuple[str, ...] = ()
    """Priors; by default those named like the data sets."""
    split: str = "valid"
    """Split of the data."""
    examples: int = 16
    """Windows per data set."""
    levels: int = 33
    """Noise levels of the ODE."""
    sigma: float | None = None
    """Noise of the density, model units; each prior's smallest by default."""
    seed: int = 0
    """Random seed of windows, noise and probes."""
    output: str = "docs/results/likelihood/shipped_priors"
    """Path without ending for the .json and .md."""


def main(argv: list[str]) -> None:
    """Measure the pairs that are missing, then write the matrices."""
    c = parse(Config, argv)
    if not c.data:
        raise UserError(f"expected data sets: {PROG} DATA/piano DATA/violin; see --help")
    from results import compact, raw_file
    from tqdm import tqdm

    from gensep.cli.records import commit, versions
    from gensep.priors.files import load_prior
    from gensep.runtime.files import check_writable, write_atomically

    path = raw_file(c.output)
    check_writable(Path(c.output).parent)
    old = json.loads(path.read_text()) if path.exists() else {}
    settings = {
        "split": c.split,
        "examples": c.examples,
        "levels": c.levels,
        "seed": c.seed,
        "sigma": c.sigma,
    }
    rows = old.get("rows", []) if old.get("settings") == settings else []
    known = {(r["prior"], r["data"]) for r in rows}
    sources = [Path(data).name for data in c.data]
    loaded = [load_prior(name) for name in c.priors or sources]
    todo = [(p, d) for d in c.data for p in loaded if (p.name, Path(d).name) not in known]
    for prior, data in tqdm(todo, unit="pair", dynamic_ncols=True, disable=None):
        options = likelihood.Config(**settings, block=c.examples)
        rows.append(likelihood.measure(prior, data, options))
        record = {
            "settings": settings,
            "rows": rows,
            "commit": commit(),
            "versions": versions(),
            "cores": os.cpu_count(),
        }
        write_atomically(path, compact(record))
    owners = {
        p.name: (p.header["kind"], Path(p.header["about"].get("data", p.name)).name) for p in loaded
    }
    shown = shlex.join([*PROG.split(), *hide_folders(argv, c)])
    page = write_page(rows, owners, sources, c, shown)
    write_atomically(Path(f"{c.output}.md"), page)
    print(page)


def write_page(
    rows: list[dict[str, Any]],
    owners: dict[str, tuple[str, str]],
    sources: list[str],
    c: Config,
    shown: str,
) -> str:
    """Return the page: two matrices, their explanation, and the command.

    `owners` maps a prior to its kind and the source that it was trained on.
    """
    cells, priors = {(r["prior"], r["data"]): r for r in rows}, list(owners)
    first = cells[priors[0], sources[0]]
    steps = max(r["step_error"] for r in rows)
    lines = [
        "# Each prior on the data of each source",
        "",
        f"Negative log density in {first['unit']} with noise of {first['noise']}, mean and "
        f"95 % interval over {c.examples} windows of the split '{c.split}' (less is better; "
        f"{first['floor']:.2f} is the least that the noise allows). Step size leaves errors "
        f"of at most {steps:.4f}.",
        "",
    ]
    for kind, title in (
        ("nll", "Densities: of flows their own, of networks by the probability-flow ODE"),
        ("bound", "Bound from denoising alone"),
    ):
        lines += [f"## {title}", "", matrix(cells, priors, sources, kind), ""]
        for family in dict.fromkeys(family for family, _ in owners.values()):
            own = {name: source for name, (k, source) in owners.items() if k == family}
            if margins := gaps(cells, own, sources, kind):
                gap, best, other = min(margins)
                which = "Every" if gap.value > 0 else "NOT every"
                lines += [
                    f"{which} prior of kind '{family}' is the best of its kind on its own "
                    f"source; the smallest margin, window by window, is {gap}, that of "
                    f"{best} over {other}.",
                    "",
                ]
    return "\n".join([*lines, "```sh", shown, "```", ""])


def gaps(
    cells: dict[Any, Any], own: dict[str, str], sources: list[str], kind: str
) -> list[tuple[Any, str, str]]:
    """Return how much worse priors of other sources are than the own one: (interval, own, other).

    `own` maps every prior of one kind to its source.
    """
    from gensep.evaluation.statistics import interval

    def values(prior: str, source: str) -> Any:
        return np.array(cells[prior, source]["examples"][kind])

    return [
        (interval(values(p, s) - values(mine, s)), mine, p)
        for mine, s in own.items()
        if s in sources
        for p, other in own.items()
        if other != s
    ]


def matrix(cells: dict[Any, Any], priors: list[str], sources: list[str], kind: str) -> str:
    """Return a markdown table, priors by sources, with the best prior of each source in bold."""
    from gensep.evaluation.statistics import Interval, markdown

    best = {s: min(priors, key=lambda p, s=s: cells[p, s][kind]["value"]) for s in sources}

    def cell(prior: str, source: str) -> str:
        text = str(Interval(**cells[prior, source][kind]))
        return f"**{text}**" if best[source] == prior else text

    header = ["prior \\ data", *sources]
    return markdown(header, [[p, *(cell(p, s) for s in sources)] for p in priors])


def hide_folders(argv: list[str], c: Config) -> list[str]:
    """Return the arguments with the folders of data and priors replaced by DATA and runs."""
    return [
        f"DATA/{Path(a).name}"
        if a in c.data
        else f"runs/{Path(a).name}"
        if a in c.priors and Path(a).is_absolute()
        else a
        for a in argv
    ]


if __name__ == "__main__":
    errors.run(main)
