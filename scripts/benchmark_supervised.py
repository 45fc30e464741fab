"""Compare priors with separators that were trained on mixtures, on the sets of the benchmark.

Write OUTPUT.md (the table and the command that made it) and the raw rows of every piece as JSON.
A set is an instruments file of configs/benchmark: NAME, NAME@A,B (gains in dB), or NAME+FILE, which
adds to every mixture the sources of another instruments file, playing the next piece, that no
method is told of. Sources of the set that a separator does not know by name take the outputs that
are left over, in order.
"""

import json
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmark_separation import RATE, hide_paths, pieces, settings_of, stft_oracle

from gensep.cli.config import parse
from gensep.runtime import errors
from gensep.runtime.errors import UserError

if TYPE_CHECKING:
    from gensep.separators.files import LoadedSeparator

MIXTURE, ORACLE, MEL_ORACLE = "mixture", "oracle, STFT ratio", "oracle, mel ratio"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the comparison."""

    scores: str
    """Folder that scripts/prepare_scores.py wrote."""
    sounds: tuple[str, ...]
    """Folders with SoundFonts and recorded notes."""
    sets: tuple[str, ...] = ("duo_same", "duo_shift")
    """Sets, see above."""
    presets: tuple[str, ...] = ("fast", "default", "best")
    """Presets of the priors."""
    models: tuple[str, ...] = ()
    """NAME=FILE,FILE,...: separators of one kind trained with several seeds."""
    seconds: float = 30.0
    """Seconds of each piece."""
    split: str = "valid"
    """Split of the scores."""
    pieces: int = 12
    """Largest number of pieces per set."""
    seed: int = 0
    """Random seed of renderings and sampler."""
    known: str | None = None
    """Raw rows of an earlier run on the same pieces, by other methods, to join the table."""
    output: str | None = None
    """Path without ending for the .md and .json."""


def mixtures(c: Config, name: str) -> Iterator[tuple[str, dict[str, np.ndarray], np.ndarray]]:
    """Yield the pieces of a set: name, source -> [samples], and what else is in the mixture."""
    known, _, unknown = name.partition("+")
    found = list(pieces(c, known))  # type: ignore[arg-type]  # it has the options that are read
    others = list(pieces(c, unknown)) if unknown else []  # type: ignore[arg-type]
    for i, (song, stems) in enumerate(found):
        rest = np.zeros_like(next(iter(stems.values())))
        if others:
            more = np.sum(list(others[(i + 1) % len(others)][1].values()), 0)[: len(rest)]
            rest[: len(more)] = more
        yield song, stems, rest


def assign(names: list[str], outputs: tuple[str, ...]) -> list[int]:
    """Return which output stands for which source: by name, then those that are left, in order."""
    left = [i for i, output in enumerate(outputs) if output not in names]
    if len(outputs) < len(names):
        raise UserError(f"a separator of {', '.join(outputs)} cannot give {', '.join(names)}")
    return [outputs.index(name) if name in outputs else left.pop(0) for name in names]


def load_models(c: Config) -> dict[str, list["LoadedSeparator"]]:
    """Load the separators by their name in the table, one per seed."""
    from gensep.separators.files import load_separator

    named = (text.partition("=") for text in c.models)
    return {name: [load_separator(p) for p in paths.split(",")] for name, _, paths in named}


def estimates(
    c: Config, names: list[str], true: np.ndarray, mixture: np.ndarray, models: dict
) -> Iterator[tuple[str, list[np.ndarray], float]]:
    """Yield method, stems `[source, samples]` per seed, and seconds of work."""
    from gensep.evaluation.oracles import oracle_stems
    from gensep.inversion.masking import apply_masks
    from gensep.separation.by_network import separate_by
    from gensep.separation.separate import analyse_channels, assemble, find_masks

    sources = assemble(names)
    form = sources.representation
    yield ORACLE, [stft_oracle(list(true), mixture)], 0.0
    ideal = oracle_stems("mel_irm", true[:, None], mixture[None], RATE, form)
    yield MEL_ORACLE, [ideal[:, 0]], 0.0
    for preset in c.presets:
        analysis = analyse_channels(mixture[None], RATE, form)
        settings = settings_of(c, preset, len(names))  # type: ignore[arg-type]
        masks = find_masks(analysis, sources, settings)
        blocks = apply_masks([mixture[None]], RATE, masks.masks, form)
        stems = np.concatenate(list(blocks), -1)[:, 0]
        yield f"priors, {preset}", [stems], masks.run_seconds
    for name, seeds in models.items():
        order, found = assign(names, seeds[0].sources), []
        separate_by(mixture[: 2 * RATE], RATE, seeds[0])  # compiles
        began = time.perf_counter()
        for model in seeds:
            stems = separate_by(mixture, RATE, model)
            found.append(np.stack(list(stems.values()))[order])
        yield name, found, (time.perf_counter() - began) / len(seeds)


def measure(c: Config, name: str, models: dict) -> list[dict[str, Any]]:
    """Return one row per piece, method and seed."""
    from tqdm import tqdm

    from gensep.evaluation.metrics import si_sdr

    rows = []
    for song, stems, rest in tqdm(mixtures(c, name), total=c.pieces, desc=name):
        names, true = list(stems), np.stack(list(stems.values()))
        mixture = (true.sum(0) + rest).astype(np.float32)
        base = [si_sdr(mixture, t) for t in true]
        same = {"set": name, "piece": song, "sources": names, "mixture": base}
        usable = {n: m for n, m in models.items() if len(m[0].sources) >= len(names)}
        for method, seeds, took in estimates(c, names, true, mixture, usable):
            for seed, each in enumerate(seeds):
                values = [si_sdr(e, t) for e, t in zip(each, true, strict=True)]
                gain = [v - b for v, b in zip(values, base, strict=True)]
                speed = took / (len(mixture) / RATE)
                rows.append({**same, "method": method, "seed": seed, "gain": gain, "speed": speed})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return a markdown table: mean gains with intervals over pieces, and paired differences."""
    from gensep.evaluation.statistics import interval

    lines = [
        "| set | method | n x seeds | SI-SDR gain, dB [95 %] | by source | "
        "minus priors, default [95 %] | sd of seeds | s per s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(r["set"] for r in rows):
        of_set = [r for r in rows if r["set"] == name]
        base = np.mean([r["mixture"] for r in of_set])
        lines.append(f"| {name} | unprocessed (SI-SDR {base:.2f}) | | 0 | | | | |")
        gains = {m: _by_piece(of_set, m) for m in dict.fromkeys(r["method"] for r in of_set)}
        ours = gains.get("priors, default")
        for method, of_method in gains.items():
            mine = [r for r in of_set if r["method"] == method]
            pieces_, seeds = of_method.shape
            mean, low, high = interval(of_method.mean(1))
            cells = [f"{pieces_} x {seeds}", f"{mean:.2f} [{low:.2f}, {high:.2f}]"]
            each = np.mean([r["gain"] for r in mine], 0)
            cells.append(
                ", ".join(f"{s} {g:.1f}" for s, g in zip(mine[0]["sources"], each, strict=True))
            )
            if ours is None or method == "priors, default":
                cells.append("")
            else:
                cells.append(
                    "{:+.2f} [{:+.2f}, {:+.2f}]".format(*interval((of_method - ours).mean(1)))
                )
            spread = of_method.mean(0).std(ddof=1) if seeds > 1 else np.nan
            cells.append(f"{spread:.2f}" if seeds > 1 else "")
            speed = np.median([r["speed"] for r in mine])
            cells.append(f"{speed:.3f}" if speed else "")
            lines.append(f"| {name} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_piece(rows: list[dict[str, Any]], method: str) -> np.ndarray:
    """Return the mean gains over sources `[piece, seed]` of a method."""
    mine = [r for r in rows if r["method"] == method]
    seeds = 1 + max(r["seed"] for r in mine)
    return np.array([np.mean(r["gain"]) for r in mine]).reshape(-1, seeds)


HEAD = """# Priors and separators trained on mixtures

Pieces of {seconds:g} s at 22.05 kHz from scores that no prior and no separator was trained or
chosen on, every stem at -26 dBFS RMS unless the set's name adds dB. *same*: a SoundFont used in
training; *shift*: recorded notes, used nowhere in training; *dev*: fonts used for choosing only.
`SET+FILE` has further instruments in the mixture that no method is told of. Gains are SI-SDR, means
over the sources of a piece, over the unprocessed mixture; intervals are bootstraps over pieces, and
of differences they are paired. *s per s* is the time of sampling or of the network, without
compilation, per second of audio.
"""


def main(argv: list[str]) -> None:
    """Measure every set, print the table and write it if asked."""
    c = parse(Config, argv)
    from gensep.cli.records import commit, versions
    from gensep.runtime.files import check_writable

    if c.output:
        check_writable(Path(c.output).parent)
    rows = [json.loads(line) for line in Path(c.known).read_text().splitlines()] if c.known else []
    began, models = time.monotonic(), load_models(c)
    for name in c.sets:
        done = {(r["set"], r["piece"], r["method"]) for r in rows}
        new = measure(c, name, models)
        rows += [r for r in new if (r["set"], r["piece"], r["method"]) not in done]
        print(table(rows), flush=True)
    if not c.output:
        return
    from results import raw_file

    from gensep.runtime.files import write_atomically

    shown = shlex.join(["python", "scripts/benchmark_supervised.py", *hide_paths(argv)])
    packages = ", ".join(f"{k} {v}" for k, v in versions().items())
    about = f"{os.cpu_count()} CPU cores, {time.monotonic() - began:.0f} s in all, "
    about += f"commit {commit() or 'unknown'}; {packages}."
    page = f"{HEAD.format(seconds=c.seconds)}\n{table(rows)}\n\n```\n{shown}\n```\n\n{about}\n"
    write_atomically(Path(f"{c.output}.md"), page)
    write_atomically(raw_file(c.output), "".join(json.dumps(r) + "\n" for r in rows))


if __name__ == "__main__":
    errors.run(main)
