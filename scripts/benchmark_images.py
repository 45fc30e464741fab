"""Separate mixtures of test images as in the papers: PSNR and cost of samplers with one prior.

Write OUTPUT.md, OUTPUT.png and the raw rows of every mixture after every row; a second run keeps
the rows of the first.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gensep.cli.config import parse
from gensep.runtime import errors

if TYPE_CHECKING:
    from gensep.images.run import MixedImages

PROG = "python scripts/benchmark_images.py"
CLASSICAL = {
    "sampler": "basis-noisy",
    "steps": 10,
    "samples": 1,
    "schedule": "geometric",
    "sigma_max": 1.0,
    "sigma_min": 0.01,
}
# row -> settings; `basis-noisy` is 100 Langevin steps at each of the published ten levels
ROWS: dict[str, dict[str, Any]] = {
    "default": {},
    "one chain": {"samples": 1, "steps": 75},
    "fresh noise, no Jacobian": {"sampler": "pigdm-free", "samples": 1, "steps": 150},
    "six chains": {"samples": 6, "steps": 40},
    # for flows: their scores are rough, so they need more levels; chains are chosen by density
    "six long chains by likelihood": {
        "samples": 6,
        "steps": 100,
        "sigma_max": 1.0,
        "rho": 1.0,
        "judge": "likelihood",
    },
    "BASIS 10 x 100": CLASSICAL,
    "BASIS 10 x 100 above 0.05": {**CLASSICAL, "sigma_min": 0.05},
    "MALA 20 x 20": {**CLASSICAL, "sampler": "mala", "steps": 20, "sigma_min": 0.05},
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure."""

    priors: tuple[str, ...]
    """Run folder of one prior of images for all sources, or of one per source."""
    data_dir: str
    """Folder with the files of the set of images."""
    images: str = "mnist"
    """Set of images."""
    mix: str = "average"
    """How two images are mixed: average or sum."""
    split: bool = False
    """Sources from different halves of the classes."""
    part: str = "test"
    """Split of the set: test or valid."""
    pairs: int = 1000
    """Mixtures."""
    rows: tuple[str, ...] = ("default", "BASIS 10 x 100")
    """Rows of the table; NAME@N takes the first N mixtures only."""
    seed: int = 0
    """Seed of mixtures and samplers."""
    output: str
    """Path without ending for the .md, .json and .png."""


def measure(c: Config, mixed: "MixedImages", row: str) -> dict[str, Any]:
    """Return PSNR of every mixture, cost and time of one row; plot the first mixtures."""
    from tqdm import tqdm

    from gensep.images import run
    from gensep.images.separation import separate_images
    from gensep.images.settings import make_image_settings

    name, _, count = row.partition("@")
    n = int(count) if count else c.pairs
    part = mixed._replace(
        mixture=mixed.mixture[:n], chosen=mixed.chosen._replace(truth=mixed.chosen.truth[:, :n])
    )
    settings = make_image_settings("default", {"seed": c.seed, **ROWS[name]})
    with tqdm(total=n * settings.samples, desc=row, unit="sample") as bar:
        found = separate_images(part.mix, part.priors, part.mixture, settings, bar.update)
    estimates = run.estimate_sources(part, found)
    psnr = run.measure(part, estimates)
    if name == "default":
        run.plot_estimates(Path(f"{c.output}.png"), part, estimates)
    return {
        "row": row,
        "n": n,
        "samples": settings.samples,
        "levels": settings.steps,
        "forwards": found.forwards,
        "vjps": found.vjps,
        "seconds": round(found.run_seconds / n, 3),
        "residual": float(np.sqrt(np.mean(found.residual**2))),
        **{
            k: [round(float(v), 3) for v in values]
            for k, values in zip(psnr._fields, psnr, strict=True)
        },
    }


def page(c: Config, rows: list[dict[str, Any]], argv: list[str]) -> str:
    """Return the page with the table."""
    import shlex

    from benchmark_separation import hide_paths

    from gensep.cli.records import commit, versions
    from gensep.evaluation.statistics import interval, markdown

    lines = [
        (
            "unprocessed mixture",
            str(len(rows[0]["mixture"])),
            str(interval(np.array(rows[0]["mixture"]))),
            "",
            "",
            "0",
            "",
        )
    ]
    for r in rows:
        mean = np.array(r["mean"])
        one = str(interval(np.array(r["sample"]))) if r["samples"] > 1 else ""
        lines.append(
            (
                f"{r['row'].partition('@')[0]}, {r['levels']} levels"
                + (f", {r['samples']} samples" if r["samples"] > 1 else ""),
                str(r["n"]),
                str(interval(mean)),
                f"{np.median(mean):.1f}",
                one,
                f"{r['forwards']} + {r['vjps']}",
                f"{r['seconds']:.2f}",
            )
        )
    table = markdown(
        (
            "sampler",
            "n",
            "PSNR, dB [95 %]",
            "median",
            "one sample alone",
            "forwards + VJPs per source",
            "s per mixture",
        ),
        lines,
    )
    shown = shlex.join([*PROG.split(), *hide_paths(argv)])
    how = "sources from classes 0-4 and 5-9" if c.split else "any two images"
    packages = ", ".join(f"{k} {v}" for k, v in versions().items())
    return f"""# Separation of two images of {c.images}

Mixtures of two images of the {c.part} set ({c.mix}; {how}), chosen by seed {c.seed}; the prior has
seen single training images only. PSNR is the mean of both sources in the better order, mean over
mixtures; intervals are bootstraps. The mean of several samples is weighted by how well the prior
denoises each, or by its exact likelihood where the row says so.

{table}

```
{shown}
```

Commit {commit() or "unknown"}; {packages}.
"""


def main(argv: list[str]) -> None:
    """Measure the rows that are missing; write the tables after each."""
    c = parse(Config, argv)
    unknown = [r for r in c.rows if r.partition("@")[0] not in ROWS]
    if unknown:
        raise errors.UserError(f"rows must be of {', '.join(ROWS)}, not {', '.join(unknown)}")
    from results import raw_file

    from gensep.images.run import Choice, mix_images
    from gensep.runtime.files import write_atomically

    choice = Choice(c.images, c.part, c.data_dir, c.mix, c.split, c.pairs, c.seed)
    mixed = mix_images(c.priors, choice)
    path = raw_file(c.output)
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for row in c.rows:
        if row not in [r["row"] for r in rows]:
            rows.append(measure(c, mixed, row))
            write_atomically(path, "".join(json.dumps(r) + "\n" for r in rows))
        write_atomically(Path(f"{c.output}.md"), page(c, rows, argv))
    print(Path(f"{c.output}.md").read_text())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    errors.run(main)
