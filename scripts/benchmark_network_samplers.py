"""Measure samplers with the shipped priors: separation, calibration and cost.

There are two kinds of mixtures: rendered pieces of the validation split, for which both prior and
sampler may be wrong, and mixtures of samples from the priors themselves, for which the priors are
correct by construction. Write OUTPUT.md and the raw rows as JSON after every sampler; a second run
keeps the rows of the first.
"""

import json
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gensep.cli.config import build, parse
from gensep.runtime import errors

PROG = "scripts/benchmark_network_samplers.py"
# sampler of gensep.separation.samplers -> noise levels; costs are similar except for `basis`
METHODS = {
    "mmps": 23,
    "mmps-cg4": 14,
    "mmps-sde": 23,
    "mmps-heun": 12,
    "mmps-pc": 8,
    "mmps-draws": 8,
    "pigdm": 35,
    "pigdm-free": 70,
    "dps": 35,
    "daps": 70,
    "split-gibbs": 7,
    "msdm-gaussian": 35,
    "basis": 10,
    "basis-noisy": 10,  # 100 Langevin steps per level: ten times the cost
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    scores: str
    """Folder that scripts/prepare_scores.py wrote."""
    sounds: tuple[str, ...]
    """Folders with SoundFonts and recorded notes."""
    set: str = "duo_same"
    """Instruments file in configs/benchmark."""
    split: str = "valid"
    """Split of the scores."""
    pieces: int = 5
    """Number of pieces."""
    seconds: float = 8.0
    """Seconds of each piece."""
    samples: int = 12
    """Posterior samples per mixture."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Samplers of gensep.separation.samplers."""
    seed: int = 0
    """Random seed of renderings and samplers."""
    output: str | None = None
    """Path without ending for the .md and .json."""


class Case(NamedTuple):
    """A mixture in model units with its true sources."""

    truth: np.ndarray  # [source, frame, mel]
    mixture: np.ndarray  # [frame, mel]
    waves: np.ndarray | None  # [source, sample]; None where there is no sound


def real_cases(c: Config) -> tuple[Any, list[Case]]:
    """Render pieces and encode them; return the priors and one case per piece."""
    import benchmark_separation as rendered

    from gensep.audio.files import mid_stream
    from gensep.representation.analysis import analyse
    from gensep.separation.separate import assemble

    options = build(
        rendered.Config,
        {
            "scores": c.scores,
            "sounds": c.sounds,
            "split": c.split,
            "pieces": c.pieces,
            "seed": c.seed,
        },
    )
    cases, team = [], None
    for _, stems in rendered.pieces(options, c.set):
        team = team or assemble(list(stems))
        form = team.representation
        waves = np.stack(list(stems.values()))[:, : round(c.seconds * rendered.RATE)]
        found = [
            analyse(mid_stream([w[None]], rendered.RATE, form.sample_rate), form)
            for w in (waves.sum(0), *waves)
        ]
        gain = 10 ** ((form.level_db - found[0].level) / 10)
        mixture = np.asarray(form.encode(found[0].power * gain, len(waves)))
        truth = np.stack([np.asarray(form.encode(f.power * gain)) for f in found[1:]])
        cases.append(Case(truth, mixture, waves))
    return team, cases


def drawn_cases(c: Config, team: Any, tau: float) -> list[Case]:
    """Sample sources from the priors and mix them by the mixing law with noise of sd `tau`."""
    import jax
    import jax.numpy as jnp

    from gensep.priors.unconditional import sample_batch
    from score import karras

    form = team.representation
    keys = jax.random.split(jax.random.key(c.seed), len(team.priors) + 1)
    frames = round(c.seconds * form.sample_rate / form.hop_length) // 32 * 32
    shape = (c.pieces, frames, form.n_mels)
    draws = np.stack(
        [
            np.asarray(sample_batch(p, k, shape, karras(64, p.sigmas[-1], p.sigmas[0], 5.0)))
            for p, k in zip(team.priors, keys, strict=False)
        ]
    )
    mixed = np.asarray(form.mixing(jnp.zeros(len(draws)))(jnp.asarray(draws)))
    mixed = mixed + tau * np.asarray(jax.random.normal(keys[-1], mixed.shape))
    return [Case(draws[:, i], mixed[i], None) for i in range(c.pieces)]


def measure(c: Config, team: Any, cases: list[Case], method: str) -> dict[str, Any]:
    """Return gain, coverage, residual, cost and time of one sampler, as means over cases."""
    import jax
    import jax.numpy as jnp

    from basis import Problem, check_levels, coverage, sample
    from basis.windowed import windowed
    from gensep.separation.settings import Settings

    s = Settings(sampler=method, steps=METHODS[method])
    form, tau = team.representation, s.tau_db / team.representation.span_db
    wide = tuple(windowed(p, s.window, int(s.overlap * s.window)) for p in team.priors)
    sigmas = s.levels()
    check_levels(team.priors, sigmas)
    kernel = s.kernel()

    def run(key, priors, mixture, sigmas):
        many = jnp.broadcast_to(mixture, (c.samples, *mixture.shape))
        problem = Problem(priors, form.mixing(jnp.zeros(len(priors))), many, jnp.asarray(tau**2))
        return sample(kernel, key, problem, sigmas)

    program, rows, spent = jax.jit(run), [], 0.0
    for i, case in enumerate(cases):
        arguments = (
            jax.random.key(c.seed + i),
            wide,
            jnp.asarray(case.mixture),
            jnp.asarray(sigmas),
        )
        if i == 0:
            program = program.lower(*arguments).compile()
        began = time.perf_counter()
        x, info = jax.block_until_ready(program(*arguments))
        spent += time.perf_counter() - began
        # only bins at least 10 dB above the floor, where there is something to separate
        active = case.mixture * form.span_db + form.center_db > form.floor_db + 10
        samples = np.moveaxis(np.asarray(x), 1, 0)[:, :, active]
        covered = float(coverage(jnp.asarray(samples), jnp.asarray(case.truth[:, active])))
        error = np.sqrt(np.mean((samples.mean(0) - case.truth[:, active]) ** 2)) * form.span_db
        rows.append(
            {
                "coverage": covered,
                "error_db": float(error),
                "residual_db": float(info.residual[-1].mean()) * form.span_db,
                "gain": _gain(case, x, form),
            }
        )
    forwards, vjps = float(info.forwards.sum()), float(info.vjps.sum())
    seconds = sum(len(k.mixture) for k in cases) * form.hop_length / form.sample_rate
    means = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
    return {
        "method": method,
        "levels": s.steps,
        "forwards": forwards,
        "vjps": vjps,
        **means,
        "seconds_per_sample": spent / seconds / c.samples,
        "cases": rows,
    }


def _gain(case: Case, x: Any, form: Any) -> float:
    """Return the SI-SDR gain of the mean of the masks in dB; nan if the case has no waves."""
    import benchmark_separation as rendered

    from gensep.evaluation.metrics import si_sdr
    from gensep.inversion.masking import apply_masks

    if case.waves is None:
        return float("nan")
    mixture, masks = case.waves.sum(0), np.asarray(form.masks(x).mean(1))
    stems = np.concatenate(list(apply_masks([mixture[None]], rendered.RATE, masks, form)), -1)
    return float(
        np.mean(
            [
                si_sdr(e, t) - si_sdr(mixture, t)
                for e, t in zip(stems[:, 0], case.waves, strict=True)
            ]
        )
    )


def table(c: Config, real: list[dict[str, Any]], drawn: list[dict[str, Any]]) -> str:
    """Return a markdown table of both kinds of mixtures."""
    lines = [
        "| sampler | levels | forwards + VJPs | gain, dB | coverage | error, dB | "
        "residual, dB | s per s and sample | coverage, prior exact | error, prior exact |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for a, b in zip(real, drawn, strict=True):
        lines.append(
            f"| {a['method']} | {a['levels']} | {a['forwards']:.0f} + {a['vjps']:.0f} | "
            f"{a['gain']:.2f} | {a['coverage']:.3f} | {a['error_db']:.2f} | {a['residual_db']:.2f} "
            f"| {a['seconds_per_sample']:.3f} | {b['coverage']:.3f} | {b['error_db']:.2f} |"
        )
    return "\n".join(lines)


HEAD = """# Samplers with the shipped priors

Gain: SI-SDR of stems by the mean of the masks of all samples, over the mixture. Coverage: share of
active mel bins whose true level lies inside the central 80 % interval of the samples. Error: rms of
the samples' mean against the truth. Prior exact: the same for mixtures of samples from the priors,
so that errors there are due to the sampler alone (as far as these samples follow the priors)."""


def main(argv: list[str]) -> None:
    """Measure all methods on both kinds of mixtures."""
    c = parse(Config, argv)
    sys.path.insert(0, str(Path(__file__).parent))
    from benchmark_separation import hide_paths
    from results import compact, raw_file
    from tqdm import tqdm

    from gensep.cli.records import commit, versions
    from gensep.runtime.files import write_atomically

    team, cases = real_cases(c)
    drawn = drawn_cases(c, team, 1.0 / team.representation.span_db)
    results = read_results(c)
    command = shlex.join(["python", PROG, *hide_paths(argv)])
    for method in tqdm(
        [m for m in c.methods if m not in {r["method"] for r in results["real"]}], disable=None
    ):
        results["real"].append(measure(c, team, cases, method))
        results["drawn"].append(measure(c, team, drawn, method))
        page = (
            f"{HEAD}\n\n{table(c, **results)}\n\n{c.pieces} mixtures of {c.seconds:g} s, "
            f"{c.samples} samples, {os.cpu_count()} cores.\n\n```sh\n{command}\n```\n"
        )
        if c.output:
            record = {
                "settings": settings_of(c),
                "command": command,
                "commit": commit(),
                "versions": versions(),
                **results,
            }
            write_atomically(raw_file(c.output), compact(_strict(record)))
            write_atomically(Path(f"{c.output}.md"), page)
    print(page)


def settings_of(c: Config) -> dict[str, Any]:
    """Return the settings that determine a row besides its method."""
    return {
        "set": c.set,
        "split": c.split,
        "pieces": c.pieces,
        "seconds": c.seconds,
        "samples": c.samples,
        "seed": c.seed,
    }


def read_results(c: Config) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of an earlier run with the same settings; empty lists if there was none."""
    from results import raw_file

    path = raw_file(c.output) if c.output else None
    found = json.loads(path.read_text()) if path and path.exists() else {}
    if found.get("settings") != settings_of(c):
        return {"real": [], "drawn": []}
    return {kind: [r for r in found[kind] if r["method"] in METHODS] for kind in ("real", "drawn")}


def _strict(value: Any) -> Any:
    """Replace numbers that are not finite by None, for JSON."""
    if isinstance(value, dict):
        return {k: _strict(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_strict(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


if __name__ == "__main__":
    errors.run(main)
