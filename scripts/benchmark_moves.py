"""Measure moves between explanations with the shipped priors: exchanged sources, swaps, resampling.

All methods share the sampler (mmps with two products, all noise new at every level) and the judge:
weights of the chains in every frame by the likelihood of their estimates under the priors. Write
OUTPUT.md and the raw rows as JSON.
"""

import dataclasses
import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import gaussian_filter1d

from basis import (
    Kernel,
    Prior,
    Problem,
    evidence_weights,
    implausibility,
    mmps,
    moving,
    resample_stretches,
    sample,
    swap,
)
from gensep.cli.config import build, parse
from gensep.runtime import errors
from gensep.separation.judges import JUDGES
from gensep.separation.settings import Settings
from score import karras

PROG = "scripts/benchmark_moves.py"
ROW = JUDGES["evidence"].audio  # what the judge of the command does
NATS, STRETCH = ROW.temperature, Settings.stretch
PROPOSALS = 2  # of a move after one level
PROBES = 3  # noise levels at which a move estimates an energy


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    scores: str
    """Folder that scripts/prepare_scores.py wrote."""
    sounds: tuple[str, ...]
    """Folders with SoundFonts and recorded notes."""
    sets: tuple[str, ...] = ("melody_vs_dev", "melody_cb_dev")
    """Instruments files in configs/benchmark, of two sources."""
    split: str = "train"
    """Split of the scores."""
    pieces: int = 4
    """Number of pieces per set."""
    seconds: float = 15.0
    """Seconds of each piece."""
    seed: int = 0
    """Random seed of renderings and samplers."""
    output: str | None = None
    """Path without ending for the .md and .json."""


class Noisy(NamedTuple):
    """The prior of sources with noise of level `level`."""

    prior: Prior
    level: jax.Array

    @property
    def sigmas(self) -> jax.Array:
        """Return the noise levels of the prior."""
        return self.prior.sigmas

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return the score where noise of level `sigma` was added to the noisy sources."""
        return self.prior.score(x, jnp.sqrt(sigma**2 + self.level**2))


class Method(NamedTuple):
    """What happens after some of the noise levels, counted from 1."""

    move: Any = None
    after: tuple[int, ...] = ()
    noisy: bool = False  # move the noisy sources instead of the estimates of the clean ones
    calls: int = 0  # network evaluations per source of one move
    chains: int = 12
    nats: float = 20.0  # temperature
    stretch: int = 24  # frames


def swapped(
    method: Method, key: jax.Array, x: jax.Array, priors: Any, lowest: jax.Array
) -> jax.Array:
    """Propose to exchange the sources, stretch by stretch."""
    for one in jax.random.split(key, PROPOSALS):
        own, noise_key = jax.random.split(one)
        x, _ = swap(own, x, partial(_probe, method, priors, noise_key, lowest), method.stretch)
    return x


def resampled(
    method: Method, key: jax.Array, x: jax.Array, priors: Any, lowest: jax.Array
) -> jax.Array:
    """Resample the chains, stretch by stretch."""
    own, noise_key = jax.random.split(key)
    found = _probe(method, priors, noise_key, lowest, x)
    return resample_stretches(own, x, found, method.chains, method.stretch)


def _probe(
    method: Method, priors: Any, key: jax.Array, lowest: jax.Array, x: jax.Array
) -> jax.Array:
    """Return the energies at levels from 2 model units down to `lowest`, by the temperature."""
    sigmas = 2 * (lowest / 2) ** (jnp.arange(PROBES) / (PROBES - 1))
    return implausibility(priors, key, x, sigmas, keep=1) / method.nats


SWAP = Method(swapped, (5, 8), calls=2 * PROPOSALS * PROBES)
METHODS = {
    "": Method(chains=20),
    "swaps of estimates after levels 5 and 8": SWAP,
    "swaps of noisy sources after levels 5 and 8": SWAP._replace(noisy=True),
    "resampling of estimates after levels 5 and 8": Method(resampled, (5, 8), calls=PROBES),
}
EXCHANGED = "12 chains, and each with its sources exchanged"
LEVELS = karras(11, 0.2, 2.0, 5.0)


def kernel_of(method: Method) -> Kernel:
    """Return mmps with moves of the noisy sources, or of the estimates before noise is added."""
    inner = mmps(2, memory=0.0)

    def clean(key, x, problem, sigma, sigma_next, normal):
        return inner.step(key, x, problem, sigma, jnp.zeros_like(sigma_next), normal)

    def move_noisy(key, x, problem, sigma):
        return method.move(
            method, key, x, tuple(Noisy(p, sigma) for p in problem.priors), sigma / 2
        )

    def move_clean(key, x, problem, sigma):
        return method.move(method, key, x, problem.priors, jnp.asarray(0.2))

    def apply(kernel, move):
        for i in method.after:
            kernel = moving(kernel, move, LEVELS[i] * 0.99, LEVELS[i] * 1.01, method.calls)
        return kernel

    moved = Kernel(clean) if method.noisy else apply(Kernel(clean), move_clean)

    def step(key, x, problem, sigma, sigma_next, normal):
        x, info = moved.step(key, x, problem, sigma, sigma_next, normal)
        return x + sigma_next * normal(jax.random.fold_in(key, 1)), info

    return apply(Kernel(step), move_noisy) if method.noisy else Kernel(step)


@partial(jax.jit, static_argnums=0)
def run(name: str, key: jax.Array, problem: Problem) -> tuple[jax.Array, jax.Array]:
    """Return sources `[source, chain, frame, mel]`, and the network calls per chain and source."""
    chains, *shape = problem.mixture.shape

    def normal(key: jax.Array) -> jax.Array:  # a chain draws the same noise in all methods
        keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(chains))
        return jnp.moveaxis(jax.vmap(lambda k: jax.random.normal(k, (2, *shape)))(keys), 0, 1)

    x, info = sample(kernel_of(METHODS[name]), key, problem, jnp.asarray(LEVELS), normal)
    return x, info.forwards.sum() + info.vjps.sum()


judge = jax.jit(partial(implausibility, keep=1))


def smoothed(energy: np.ndarray) -> np.ndarray:
    """Return the energies of the stretches around all frames, `[candidate, frame]`."""
    return gaussian_filter1d(energy, STRETCH, axis=1, mode="nearest") * STRETCH * np.sqrt(2 * np.pi)


def measure(c: Config, name: str) -> list[dict[str, Any]]:
    """Return a row per piece and method: gains in dB of the mean and of the judged masks."""
    import benchmark_separation as rendered
    from tqdm import tqdm

    from gensep.separation.separate import analyse_channels, assemble

    keys = ("scores", "sounds", "split", "pieces", "seconds", "seed")
    options = build(rendered.Config, {k: getattr(c, k) for k in keys})
    rows = []
    for song, stems in tqdm(rendered.pieces(options, name), total=c.pieces, desc=name):
        team, true = assemble(list(stems)), np.stack(list(stems.values())).astype(np.float32)
        form = team.representation
        analysis = analyse_channels(true.sum(0)[None], rendered.RATE, form)
        power = analysis.at_level(form.level_db)
        for method, x, calls in candidates(c.seed, team.priors, form, power):
            energy = np.asarray(judge(team.priors, jax.random.key(5), x, jnp.asarray(ROW.levels)))
            energy = energy[:, : len(power)]
            masks = np.asarray(form.masks(x))[:, :, : len(power)]
            w = np.asarray(evidence_weights(jnp.asarray(energy), NATS, STRETCH))[None, ..., None]
            for kind, mean, more in (
                ("mean", masks.mean(1), 0),
                ("judge", (w * masks).sum(1), len(ROW.levels) * x.shape[1]),
            ):
                row = {"set": name, "piece": song, "method": method, "estimate": kind}
                gain = _gain(true, mean, form)
                rows.append({**row, "gain": round(gain, 3), "calls": calls + more})
            if method == EXCHANGED:
                kept, other = np.split(smoothed(energy), 2)
                rows[-1]["better exchanged"] = round(float((other < kept).mean()), 4)
                rows[-1]["rise in nats"] = round(float(np.median(other - kept)), 1)
    return rows


def candidates(seed: int, priors: Any, form: Any, power: np.ndarray) -> Any:
    """Yield (method, sources [source, candidate, frame, mel], network calls per source)."""
    mixture = np.asarray(form.encode(jnp.asarray(power), 2))
    length = -(-len(power) // 32) * 32
    index = np.arange(length)
    seen = index < len(power)
    variance = np.where(seen, (1 / form.span_db) ** 2, 1e12).astype(np.float32)[None, :, None]
    mixture = mixture[np.minimum(index, len(power) - 1)]
    for name, method in METHODS.items():
        many = jnp.broadcast_to(jnp.asarray(mixture), (method.chains, *mixture.shape))
        problem = Problem(priors, form.mixing(jnp.zeros(2)), many, jnp.asarray(variance))
        x, calls = run(name, jax.random.key(seed), problem)
        each, n = float(calls), 12
        if name:
            yield f"{n} chains, {name}", x, each * n
            continue
        yield f"{n} chains", x[:, :n], each * n
        both = jnp.concatenate([x[:, :n], x[::-1, :n]], 1)
        yield EXCHANGED, both, each * n
        yield f"{method.chains} chains", x, each * method.chains


def _gain(true: np.ndarray, masks: np.ndarray, form: Any) -> float:
    """Return the mean SI-SDR gain over the mixture, dB, of stems by masks."""
    import benchmark_separation as rendered

    from gensep.evaluation.metrics import si_sdr
    from gensep.inversion.masking import apply_masks

    mixture = true.sum(0)
    blocks = apply_masks([mixture[None]], rendered.RATE, masks.astype(np.float32), form)
    pairs = zip(np.concatenate(list(blocks), -1)[:, 0], true, strict=True)
    return float(np.mean([si_sdr(e, t) - si_sdr(mixture, t) for e, t in pairs]))


def table(c: Config, rows: list[dict[str, Any]]) -> str:
    """Return a markdown table of mean gains by set, with the calls of the judged estimate."""
    names = [f"{name}, {kind}" for name in c.sets for kind in ("mean", "judge")]
    lines = [
        f"| method | calls | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
    ]
    for method in dict.fromkeys(r["method"] for r in rows):
        mine = [r for r in rows if r["method"] == method]
        cells = [
            np.mean([r["gain"] for r in mine if (r["set"], r["estimate"]) == (name, kind)])
            for name in c.sets
            for kind in ("mean", "judge")
        ]
        shown = " | ".join(f"{v:.2f}" for v in cells)
        lines.append(f"| {method} | {max(r['calls'] for r in mine):.0f} | {shown} |")
    found = [r for r in rows if "rise in nats" in r]
    better = np.mean([r["better exchanged"] for r in found])
    rise = np.median([r["rise in nats"] for r in found])
    lines.append(
        "\nThe stretch around a frame of a final sample is more probable with its sources "
        f"exchanged in {100 * better:.1f} % of the frames; the exchange raises its energy by "
        f"{rise:.0f} nats (median)."
    )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measure and write the table."""
    c = parse(Config, argv)
    from benchmark_separation import hide_paths
    from results import compact, raw_file

    from gensep.cli.records import commit
    from gensep.runtime.files import write_atomically

    rows = [row for name in c.sets for row in measure(c, name)]
    text = table(c, rows)
    print(text)
    if c.output:
        command = shlex.join(["python", PROG, *hide_paths(argv)])
        head = HEAD.format(pieces=c.pieces, seconds=c.seconds)
        page = f"{head}\n{text}\n\n```sh\n{command}\n```\n\nCommit {commit()}.\n"
        write_atomically(Path(f"{c.output}.md"), page)
        settings = {
            **dataclasses.asdict(c),
            "scores": "SCORES",
            "sounds": "SOUNDS",
            "output": "OUTPUT",
        }
        write_atomically(raw_file(c.output), compact({"settings": settings, "rows": rows}))


HEAD = """# Moves between explanations

What do moves of whole stretches gain with the shipped priors? Development mixtures of two melody
instruments, {pieces} pieces of {seconds:g} s each; mean SI-SDR gain in dB of stems by the *mean*
of all masks, and by masks that a *judge* weights in every frame. Sampler: mmps with 11 levels of
1 + 2 network calls, all noise new at every level. Energies are estimates of the negative log
density: of the judge as in the command (`gensep/separation/judges.py`); of the moves at 3 levels,
one draw of noise each, stretches of 24 frames, divided by a temperature of 20. Swaps are proposed
twice after a level. Calls: network evaluations and products per source, those of the judge
included. A chain draws the same noise in all rows. No seconds are given, because other work ran on
the machine.
"""


if __name__ == "__main__":
    errors.run(main)
