"""Log densities of data under priors: nats per dimension of spectrograms, bits of images.

OUTPUT gets likelihood.md and likelihood.json: every prior on every data set. The density is a
flow's own, or that of a score network's probability-flow ODE, at the prior's smallest noise level,
or --sigma; the bound needs denoising alone and lies above it in the mean. Both are negative log
densities: less is better.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gensep.cli import config
from gensep.cli.options import Count, DataName, Positional, PriorName
from gensep.cli.records import Json, command, write_record
from gensep.runtime.errors import UserError, run

if TYPE_CHECKING:
    from gensep.priors.files import LoadedPrior
    from gensep.priors.likelihood import Fit
    from gensep.representation.form import Form


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of gensep.likelihood."""

    priors: Positional[tuple[PriorName, ...]] = ()
    """Shipped names, run folders or prior files."""
    data: tuple[DataName, ...] = ()
    """Data sets written by gensep.wav_to_spec, or names of sets of images."""
    data_dir: str | None = None
    """Folder with the files of a set of images."""
    output: str = "likelihood"
    """Folder of the results."""
    split: str | None = None
    """Split of the data; by default valid for spectrograms, test for images."""
    examples: Count = 32
    """Number of windows or images per data set, chosen at random."""
    frames: Count = 64
    """Frames of a window of spectrograms."""
    sigma: float | None = None
    """Noise level of the density in model units; by default the smallest of the prior."""
    levels: int = 33
    """Noise levels at which the ODE is solved; networks with fixed noise levels use their own."""
    probes: Count = 1
    """Random vectors that estimate the trace of the Jacobian."""
    ode: bool = True
    """Compute densities (exact for flows, by the ODE for score networks); false computes only the
    bound."""
    block: Count = 16
    """Examples that are processed at once."""
    seed: int = 0
    """Seed of examples, noise and random vectors."""


def main(argv: list[str]) -> None:
    """Measure every prior on every data set; print and write the table."""
    c = config.parse(Config, argv)
    if not c.priors or not c.data:
        raise UserError(
            "expected priors and data sets: python -m gensep.likelihood piano --data "
            "DATA/piano; see --help"
        )
    from tqdm import tqdm

    from gensep.priors.files import load_prior
    from gensep.runtime.files import check_writable, write_atomically

    loaded = [load_prior(name) for name in c.priors]
    check_writable(c.output)
    pairs, rows = [(prior, data) for data in c.data for prior in loaded], []
    with tqdm(pairs, unit="pair", dynamic_ncols=True, disable=None) as bar:
        for prior, data in bar:
            bar.set_description(f"{prior.name} on {Path(data).name}")
            rows.append(measure(prior, data, c))
    page = table(rows)
    write_record(Path(c.output) / "likelihood.json", c, {"rows": rows})
    shown = f"```sh\n{command(c)}\n```\n"
    write_atomically(Path(c.output) / "likelihood.md", f"{page}\n\n{shown}")
    print(page)


def measure(prior: "LoadedPrior", data: str, c: Config) -> Json:
    """Measure a prior on a data set, and return the row of the table."""
    from gensep.datasets.examples import Request
    from gensep.priors import likelihood

    request = Request(c.examples, c.seed, c.split, c.frames, c.data_dir)
    names = ("levels", "sigma", "probes", "ode", "block")
    found = likelihood.measure(prior, data, request, **{name: getattr(c, name) for name in names})
    return make_row(prior.name, Path(data).name, prior.form, found)


def make_row(prior: str, data: str, form: "Form", found: "Fit") -> Json:
    """Return a row of the table as JSON, null for what was not measured."""
    import numpy as np

    from gensep.evaluation.statistics import interval

    nll, bound = interval(found.nll), interval(found.bound)
    densities = {"nll": found.nll, "bound": found.bound}
    row = {
        "prior": prior,
        "data": data,
        "unit": form.unit,
        "n": len(found.nll),
        "dimensions": found.dimensions,
        "sigma": found.sigma,
        "noise": form.describe_noise(found.sigma),
        "nll": nll,
        "bound": bound,
        **{name: getattr(found, name) for name in ("floor", "probe_error", "step_error")},
        "impossible": bool(nll.value < found.floor or bound.value < found.floor),
        "examples": {
            name: [round(float(v), 4) for v in values]
            for name, values in densities.items()
            if not np.isnan(values).any()
        },
    }
    return {key: _strict(value) for key, value in row.items()}


def table(rows: list[Json]) -> str:
    """Return the rows as a table in markdown, with a note for every impossible density."""
    from gensep.evaluation.statistics import Interval, markdown

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    def shown(values: Json) -> str:
        return "-" if values["value"] is None else str(Interval(**values))

    names = ("prior", "data", "n", "noise", "unit")
    header = (*names, "density", "bound", "least possible", "error of probes", "error of steps")
    lines = [
        [
            *(r[name] for name in names),
            *(shown(r[name]) for name in ("nll", "bound")),
            f"{r['floor']:.2f}",
            *(number(r[name]) for name in ("probe_error", "step_error")),
        ]
        for r in rows
    ]
    notes = [
        f"\n\n{r['prior']} on {r['data']}: less than {r['floor']:.2f} {r['unit']} is "
        f"impossible with noise of {r['noise']}; the score is wrong there"
        for r in rows
        if r["impossible"]
    ]
    return markdown(header, lines) + "".join(notes)


def _strict(value: object) -> object:
    """Turn an interval into a dict, and numbers that are not finite into None, for JSON."""
    import math

    if hasattr(value, "_asdict"):
        return {name: _strict(v) for name, v in value._asdict().items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    run(main)
