"""Measure samplers on small problems whose posterior is known exactly.

Write the raw rows as JSON after every run, then OUTPUT.md (the tables and the command that made
them) and OUTPUT.png (error against cost). Earlier rows that have the same settings are kept.
"""

import dataclasses
import json
import os
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from results import compact, raw_file
from sampler_table import COSTS, read_rows, write_page

from gensep.cli.config import parse
from gensep.runtime import errors
from gensep.runtime.errors import UserError

LINEAR = ("K2 D4", "K4 D4", "K2 D24")
DECIBEL = ("dB bimodal", "dB easy")
SIZES = {**dict.fromkeys(LINEAR, (24, 256)), **dict.fromkeys(DECIBEL, (100, 200))}


@dataclass(frozen=True)
class Method:
    """A sampler with its settings; without sigma_max and sigma_min those of the case hold."""

    sampler: (
        str  # a function of `basis` that returns a kernel, or "" for samples of the exact posterior
    )
    options: dict[str, Any] = field(default_factory=dict)
    levels: int = 0
    sigma_max: float | None = None
    sigma_min: float | None = None
    rho: float = 7.0
    mixing: str = ""  # a mixing map of `basis` that the sampler uses instead of the true one
    group: int = 1  # particles of one run, adjacent in the batch; samples must be a multiple of it
    cases: tuple[str, ...] = (*LINEAR, *DECIBEL)


def _langevin(steps: int, at: str, **changed: Any) -> Method:
    """Return BASIS as published: 10 levels, delta / sigma_L^2 = 0.2, gamma = sigma."""
    options = {"steps": steps, "step_size": 0.2, "gamma_scale": 1.0, "at": at}
    return Method("langevin", options, 10, **changed)


BINS = {
    "levels": 60,
    "sigma_max": 0.25,
    "sigma_min": 0.04,
    "rho": 3.0,
}  # the noise levels at which chains settle in a mode

# to measure a new sampler, add a row
METHODS = {
    "exact": Method(""),
    # Langevin steps at every level
    "BASIS 10x100, f(x)": _langevin(100, "noisy"),
    "BASIS 10x100, f(D)": _langevin(100, "denoised"),
    "BASIS 10x1000, f(x)": _langevin(1000, "noisy", cases=("K2 D4",)),
    "BASIS 10x100, wrong units": _langevin(100, "noisy", mixing="AncestorDecibel", cases=DECIBEL),
    "BASIS 10x100, projected": Method(
        "langevin", {"steps": 100, "step_size": 0.2, "hard": True}, 10, cases=LINEAR
    ),
    # MSDM
    "MSDM Gaussian R2": Method("msdm", {"likelihood": "gaussian", "churn": 40 / 150}, 150),
    "MSDM Dirac R1 ODE": Method("msdm", {"repeats": 1, "churn": 0.0}, 150, cases=LINEAR),
    "MSDM Dirac R2 churn 20": Method("msdm", {"churn": 20 / 150}, 150, cases=LINEAR),
    # guidance through the denoiser
    "DPS 128": Method("dps", {}, 128),
    "PiGDM no VJP 64": Method("pigdm", {"vjp": False}, 64),
    "PiGDM 64": Method("pigdm", {}, 64),
    "MMPS SDE 16": Method("mmps", {"cg_iterations": 2}, 16),
    "MMPS SDE 32": Method("mmps", {"cg_iterations": 2}, 32),
    "MMPS renewed 32": Method("mmps", {"cg_iterations": 2, "memory": 0.0}, 32),
    "MMPS ODE Heun 16": Method("mmps_heun", {}, 16),
    "MMPS PC 32x(1+2)": Method("mmps_pc", {"cg_iterations": 2}, 32),
    "MMPS PC 64x(1+4)": Method("mmps_pc", {"cg_iterations": 2, "corrections": 4}, 64),
    "MMPS draws 10": Method("mmps_draws", {"cg_iterations": 6, "lanczos_iterations": 5}, 10),
    "MMPS draws 11": Method("mmps_draws", {"cg_iterations": 6, "lanczos_iterations": 4}, 11),
    "MMPS draws 14": Method("mmps_draws", {"cg_iterations": 4, "lanczos_iterations": 4}, 14),
    # exact likelihood steps
    "DAPS 50": Method("daps", {}, 50),
    "DAPS 60, late levels": Method("daps", {}, **BINS, cases=DECIBEL),
    "DAPS ancestral 50": Method("daps", {"memory": 1.0}, 50),
    "DAPS PC 16x(1+3)": Method("daps_pc", {"corrections": 3}, 16),
    "split Gibbs 60x10": Method("split_gibbs", {"inner_steps": 10}, 60),
    # many particles
    "twisted SMC 64, P=4": Method("twisted_smc", {"particles": 4}, 64, group=4, cases=LINEAR),
    # uses the log density besides the score
    "MALA 10x100": Method("mala", {"steps": 100}, 10),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    methods: tuple[str, ...] = ()
    """Rows of the table, e.g. --methods exact 'MMPS SDE 16'; all by default."""
    cases: tuple[str, ...] = (*LINEAR, *DECIBEL)
    """Problems."""
    seeds: int = 4
    """Problems per case, each with its own noise."""
    mixtures: int | None = None
    """Mixtures per problem; by default 24, or 100 for the cases of one bin."""
    samples: int | None = None
    """Samples per mixture; by default 256, or 200 for the cases of one bin."""
    output: str = "docs/results/samplers/known_posteriors"
    """Path without ending for the .json, .md and .png."""


def check(c: Config) -> None:
    """Check the options before anything is run.

    Raises:
        UserError: for unknown methods or cases, and numbers that do not fit.
    """
    import basis

    for what, given, known in (("method", c.methods, METHODS), ("case", c.cases, SIZES)):
        for name in given:
            if name not in known:
                raise UserError(f"unknown {what} '{name}'; known: {'; '.join(known)}")
    for name in c.methods:
        for part in filter(None, (METHODS[name].sampler, METHODS[name].mixing)):
            if not hasattr(basis, part):
                raise UserError(f"method '{name}' needs basis.{part}, which does not exist")
        for samples in (c.samples or SIZES[case][1] for case in c.cases):
            if samples % METHODS[name].group:
                raise UserError(
                    f"method '{name}' has groups of {METHODS[name].group}: expected a "
                    f"multiple of it for --samples, not {samples}"
                )
    if min(c.seeds, c.mixtures or 1, (c.samples or 2) - 1) < 1:
        raise UserError(
            "expected at least 1 seed, 1 mixture and 2 samples, not "
            f"{c.seeds}, {c.mixtures} and {c.samples}"
        )


def settings_of(c: Config, name: str, case: str) -> dict[str, Any]:
    """Return all settings that determine a row except its seed, as JSON reads them back."""
    from basis.toys import CASES

    mixtures, samples = SIZES[case]
    found = {
        "method": name,
        "case": case,
        **dataclasses.asdict(METHODS[name]),
        "problem": dataclasses.asdict(CASES[case]),
        "mixtures": c.mixtures or mixtures,
        "samples": c.samples or samples,
    }
    return json.loads(json.dumps(found))


def measure_case(c: Config, case: str, keep, done) -> None:
    """Run the methods on the problems of a case; call `done(row)` after each.

    Args:
        c: the options; `methods` must not be empty.
        case: name of the case.
        keep: `keep(settings, seed)` says whether that row exists already.
        done: called with each new row.
    """
    import jax

    from basis.toys import CASES

    todo = {}
    for name in c.methods:
        settings = settings_of(c, name, case)
        missing = [s for s in range(c.seeds) if not keep(settings, s)]
        if missing and case in METHODS[name].cases:
            todo[name] = settings, missing
    size = c.mixtures or SIZES[case][0], c.samples or SIZES[case][1]
    draw = jax.jit(lambda key: CASES[case].draw(key, *size))
    seeds = sorted({s for _, missing in todo.values() for s in missing})
    problems = {s: draw(jax.random.key(s)) for s in seeds}
    for name, (settings, missing) in todo.items():
        run = prepare(METHODS[name], CASES[case], size, problems[missing[0]])
        for s in missing:
            done({"settings": settings, "seed": s, **run(s, problems[s])})


def prepare(method: Method, case: Any, size: tuple[int, int], example: Any):
    """Compile a method for the shapes of a case; `run(seed, drawn)` returns a row."""
    import jax

    from basis.toys import compare

    judge = jax.jit(compare)
    program = compile_method(method, case, size, example.problem) if method.sampler else None

    def run(seed: int, drawn: Any) -> dict[str, Any]:
        began, x, spent = time.perf_counter(), drawn.again, (0, 0)
        if program:
            key = jax.random.fold_in(jax.random.key(seed), 1)
            x, spent = jax.block_until_ready(program(key, drawn.problem))
        seconds = time.perf_counter() - began
        found = judge(jax.random.key(seed), x, drawn, case.unit)
        found = {name: float(value) for name, value in found.items()}
        forwards, vjps = map(int, spent)
        return {
            "forwards": forwards,
            "vjps": vjps,
            "equivalents": forwards + vjps,
            "seconds": round(seconds, 3),
            # JSON has no NaN; metrics of samplers that diverged are null
            **{name: v if np.isfinite(v) else None for name, v in found.items()},
        }

    return run


def compile_method(method: Method, case: Any, size: tuple[int, int], problem: Any):
    """Compile `program(key, problem)` -> samples `[n, source, mixtures, D]`, (forwards, VJPs)."""
    import jax
    import jax.numpy as jnp

    import basis
    from score import karras

    kernel = getattr(basis, method.sampler)(**method.options)
    sigmas = jnp.asarray(
        karras(
            method.levels,
            method.sigma_min or case.sigmas[1],
            method.sigma_max or case.sigmas[0],
            method.rho,
        ),
        float,
    )
    mixtures, samples = size

    def repeated(problem):
        wide = problem._replace(mixture=jnp.repeat(problem.mixture, samples, axis=0))
        return wide._replace(mixing=getattr(basis, method.mixing)()) if method.mixing else wide

    def draws(key, problem):
        x, info = basis.sample(kernel, key, repeated(problem), sigmas)
        x = x.reshape(len(x), mixtures, samples, -1)
        return jnp.moveaxis(x, 2, 0), [jnp.sum(getattr(info, name, 0)) for name in COSTS[:2]]

    basis.check(kernel, repeated(problem), sigmas)
    return jax.jit(draws).lower(jax.random.key(0), problem).compile()


def row_key(settings: dict[str, Any], seed: int) -> tuple[str, str, int]:
    """Return the place of a row in the tables; a newer row with other settings replaces it."""
    return settings["case"], settings["method"], seed


def main(argv: list[str]) -> None:
    """Measure the rows that are missing, then write tables and picture of all rows."""
    c = parse(Config, argv)
    import jax
    from tqdm import tqdm

    from gensep.cli.records import commit, versions
    from gensep.runtime.files import check_writable, write_atomically

    c = dataclasses.replace(c, methods=c.methods or tuple(METHODS))
    check(c)
    output = Path(c.output)
    check_writable(output.parent)
    rows = {row_key(r["settings"], r["seed"]): r for r in read_rows(raw_file(output))}
    source = {"commit": commit(), "versions": versions(), "cores": os.cpu_count()}

    def keep(settings: dict[str, Any], seed: int) -> bool:
        return rows.get(row_key(settings, seed), {}).get("settings") == settings

    def done(row: dict[str, Any]) -> None:
        rows[row_key(row["settings"], row["seed"])] = {**row, **source}
        found = {"options": dataclasses.asdict(c), "rows": list(rows.values())}
        write_atomically(raw_file(output), compact(found))
        bar.update()

    wanted = [
        keep(settings_of(c, name, case), seed)
        for case in c.cases
        for name in c.methods
        if case in METHODS[name].cases
        for seed in range(c.seeds)
    ]
    with (
        jax.enable_x64(),
        tqdm(
            total=len(wanted), initial=sum(wanted), unit="run", dynamic_ncols=True, disable=None
        ) as bar,
    ):
        for case in c.cases:
            bar.set_description(case)
            measure_case(c, case, keep, done)
    known = {(case, name): settings_of(c, name, case) for case in SIZES for name in METHODS}
    current = [r for key, r in rows.items() if known.get(key[:2]) == r["settings"]]
    shown = shlex.join(["python", "scripts/benchmark_samplers.py", *argv])
    print(write_page(output, current, list(SIZES), list(METHODS), shown))


if __name__ == "__main__":
    errors.run(main)
