"""Log densities of data under priors: nats per dimension of spectrograms, bits of images.

OUTPUT gets likelihood.md and likelihood.json: every prior on every data set. The density is a
flow's own, or that of a score network's probability-flow ODE, at the prior's smallest noise level,
or --sigma; the bound needs denoising alone and lies above it in the mean. Both are negative log
densities: less is better.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import UserError, run

PROG = "python -m gensep.likelihood"


@dataclass(frozen=True)
class Config:
    """Options of `gensep.likelihood`."""

    priors: tuple[str, ...] = option((), "shipped names, run folders or files", positional=True)
    data: tuple[str, ...] = option(
        (),
        "data sets that gensep.wav_to_spec wrote, or sets of images:"
        " mnist, fashion_mnist, cifar10, digits",
    )
    data_dir: str | None = option(None, "folder with the files of a set of images")
    output: str = option("likelihood", "folder of the results")
    split: str | None = option(
        None, "split of the data; by default valid of spectrograms, test of images"
    )
    examples: int = option(32, "windows or images of a data set, drawn by the seed")
    frames: int = option(64, "frames of a window")
    sigma: float | None = option(
        None, "noise of the density, model units; the prior's smallest by default"
    )
    levels: int = option(33, "noise levels of the ODE; a network of fixed levels has its own")
    probes: int = option(1, "random probes of the Jacobian's trace")
    ode: bool = option(
        True,
        "solve the ODE, or ask flows; false leaves the bound alone",
    )
    block: int = option(16, "examples at once")
    seed: int = option(0, "seed of examples, noise and probes")

    def __post_init__(self):
        for name in ("examples", "frames", "probes", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


def main(argv: list[str]) -> None:
    """Measure every prior on every data set; print and write the table."""
    c = config.parse(Config, argv, prog=PROG, about=__doc__ or "")
    if not c.priors or not c.data:
        raise UserError(
            "expected priors and data sets: python -m gensep.likelihood piano --data "
            "DATA/piano; see --help"
        )
    from tqdm import tqdm

    from gensep.cli.records import command, commit, versions
    from gensep.priors.files import load_prior
    from gensep.runtime.files import check_writable, write_atomically

    loaded = [load_prior(name) for name in c.priors]
    check_writable(c.output)
    rows = []
    with tqdm(
        total=len(loaded) * len(c.data), unit="pair", dynamic_ncols=True, disable=None
    ) as bar:
        for data in c.data:
            for prior in loaded:
                bar.set_description(f"{prior.name} on {Path(data).name}")
                rows.append(measure(prior, data, c))
                bar.update()
    page = table(rows)
    record = {
        "rows": rows,
        "options": dataclasses.asdict(c),
        "versions": versions(),
        "commit": commit(),
    }
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    write_atomically(Path(c.output) / "likelihood.json", text)
    shown = f"```sh\n{command(c, PROG)}\n```\n"
    write_atomically(Path(c.output) / "likelihood.md", f"{page}\n\n{shown}")
    print(page)


def measure(loaded: Any, data: str, c: Config) -> dict[str, Any]:
    """Give a row of the table: a prior on a data set, figures per dimension in the data's unit."""
    import numpy as np

    from gensep.evaluation.statistics import interval
    from gensep.priors.likelihood import DATA_KINDS, fit, floor_of, make_levels

    form = loaded.representation
    kind = DATA_KINDS[type(form)]
    x = kind.read(form, data, c)
    own = loaded.header["settings"].get("sigmas")
    levels = make_levels(loaded.prior, c.levels, c.sigma) if own is None else np.array(own)
    # a network of fixed levels is asked at them alone; the bound's are drawn anywhere
    found = fit(
        loaded.prior,
        x,
        levels,
        noise=kind.noise,
        ode=c.ode,
        bound=own is None,
        probes=c.probes,
        seed=c.seed,
        block=min(c.block, len(x)),
    )
    each = {"nll": kind.of(form, found.nll), "bound": kind.of(form, found.bound)}
    nll, bound = (interval(values) for values in each.values())
    least = float(kind.of(form, floor_of(found.sigma, noise=kind.noise)))
    scale = float(kind.of(form, 1.0) - kind.of(form, 0.0))
    row = {
        "prior": loaded.name,
        "data": Path(data).name,
        "unit": kind.unit,
        "n": len(x),
        "dimensions": int(x[0].size),
        "sigma": found.sigma,
        "noise": kind.noise_name(form, found.sigma),
        "nll": nll,
        "bound": bound,
        "floor": least,
        "probe_error": scale * found.probe_error,
        "step_error": scale * found.step_error,
        "impossible": bool(nll.value < least or bound.value < least),
        "examples": {
            name: [round(float(v), 4) for v in values]
            for name, values in each.items()
            if not np.isnan(values).any()
        },
    }
    return {key: _strict(value) for key, value in row.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """Lay the rows out as markdown, with a note for what cannot be."""
    from gensep.evaluation.statistics import Interval, markdown

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    def shown(values: Any) -> str:
        return "-" if values["value"] is None else str(Interval(**values))

    header = (
        "prior",
        "data",
        "n",
        "noise",
        "unit",
        "density",
        "bound",
        "least possible",
        "error of probes",
        "error of steps",
    )
    lines = [
        (
            r["prior"],
            r["data"],
            r["n"],
            r["noise"],
            r["unit"],
            shown(r["nll"]),
            shown(r["bound"]),
            f"{r['floor']:.2f}",
            number(r["probe_error"]),
            number(r["step_error"]),
        )
        for r in rows
    ]
    notes = [
        f"\n\n{r['prior']} on {r['data']}: less than {r['floor']:.2f} {r['unit']} is "
        f"impossible with noise of {r['noise']}; the score is wrong there"
        for r in rows
        if r["impossible"]
    ]
    return markdown(header, lines) + "".join(notes)


def _strict(value: Any) -> Any:
    """Make an interval a dict, and what is not finite None, for JSON."""
    import math

    if hasattr(value, "_asdict"):
        return {name: _strict(v) for name, v in value._asdict().items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    run(main)
