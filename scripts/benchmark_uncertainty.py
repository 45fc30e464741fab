"""Measure the uncertainty of separations, with equal weights of the samples and with the judge's.

Both come from the same samples of rendered pieces, whose true stems are known. Write OUTPUT.md (the
table and the command that made it) and one raw row per piece and source as JSON.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gensep.cli.config import build, parse
from gensep.runtime import errors

PROG = "scripts/benchmark_uncertainty.py"
ACTIVE_DB = 20.0  # a bin counts if it is at most so much below the mixture's loudest


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    scores: str
    """Folder that scripts/prepare_scores.py wrote."""
    sounds: tuple[str, ...]
    """Folders with SoundFonts and recorded notes."""
    sets: tuple[str, ...] = ("melody_vs_dev", "melody_cb_dev", "duo_dev")
    """Instruments files in configs/benchmark."""
    method: str = "default:samples=12,steps=11,sampler=mmps,judge=evidence"
    """Preset, or preset:field=value,..."""
    seconds: float = 15.0
    """Seconds of each piece."""
    split: str = "train"
    """Split of the scores."""
    pieces: int = 3
    """Largest number of pieces per set."""
    seed: int = 0
    """Random seed of renderings and sampler."""
    output: str | None = None
    """Path without ending for the .md and .json."""


def measure(c: Config, name: str) -> Iterator[dict[str, Any]]:
    """Yield a row for every piece of a set and every source."""
    import benchmark_separation as rendered
    from tqdm import tqdm

    from gensep.separation.separate import analyse_channels, assemble, find_masks

    same = ("scores", "sounds", "seconds", "split", "pieces", "seed")
    options = build(rendered.Config, {field: getattr(c, field) for field in same})
    for piece, stems in tqdm(rendered.pieces(options, name), total=c.pieces, desc=name):
        sources = assemble(list(stems))
        form = sources.representation
        settings = rendered.settings_of(options, c.method, len(stems))
        mixture, *true = (
            analyse_channels(wave[None], rendered.RATE, form)
            for wave in (np.sum(list(stems.values()), 0), *stems.values())
        )
        found = find_masks(mixture, sources, settings, uncertainty=True).uncertainty
        gain = 10 ** ((form.level_db - mixture.level) / 10)
        power = gain * np.stack([one.power for one in true])
        figures = compare(found, power, gain * mixture.power, form)
        for source, row in zip(stems, figures, strict=True):
            yield {"set": name, "piece": piece, "source": source, **row}


def compare(found: Any, true: np.ndarray, mixture: np.ndarray, form: Any) -> list[dict[str, Any]]:
    """Compare an uncertainty with true mel powers `[source, frame, mel]`; return a row a source."""
    in_db = 10 * np.log10(np.maximum(mixture, 1e-10))
    active = in_db > in_db.max() - ACTIVE_DB
    level = form.span_db * np.asarray(form.encode(true))
    truth = level - form.span_db * np.asarray(form.encode(mixture, len(true)))
    energy = 10 * np.log10(true.sum((1, 2)) / mixture.sum())
    n, differing = len(found.energy_db), float(np.mean(1 - 1 / found.effective))
    mean_db = 10 * np.log10(np.mean(10 ** (found.energy_db / 10), 0))
    rows = []
    for i in range(len(true)):
        row: dict[str, Any] = {
            "share_between": float(found.between[i]),
            "share_by_chance": 1 - differing / (1 - 1 / n),
            "effective_samples": float(found.effective.mean()),
        }
        for kind, levels, estimate in (
            ("equal", found.equal, mean_db),
            ("judged", found.judged, found.judged_energy_db),
        ):
            low, _, high = levels.quantiles_db[:, i, active]
            inside = (low <= truth[i, active]) & (truth[i, active] <= high)
            error = levels.mean_db[i, active] - truth[i, active]
            row[kind] = {
                "coverage": float(inside.mean()),
                "width_db": float(np.mean(high - low)),
                "energy_bias_db": float(estimate[i] - energy[i]),
                "error_db": float(np.sqrt(np.mean(error**2))),
                "sd_db": float(levels.sd_db[i].mean()),
            }
        rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]]) -> str:
    """Return a markdown table of means over pieces, one line per set, source and weights."""
    lines = [
        "| set | source | n | weights | coverage of 80 % | width, dB | bias of energy, dB | "
        "error, dB | sd, dB | between explanations (by chance) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, source in dict.fromkeys((r["set"], r["source"]) for r in rows):
        mine = [r for r in rows if (r["set"], r["source"]) == (name, source)]
        between, chance = (
            np.mean([r[key] for r in mine]) for key in ("share_between", "share_by_chance")
        )
        for kind in ("equal", "judged"):
            mean = {key: np.mean([r[kind][key] for r in mine]) for key in mine[0][kind]}
            share = f"{between:.2f} ({chance:.2f})" if kind == "judged" else ""
            lines.append(
                f"| {name} | {source} | {len(mine)} | {kind} | {mean['coverage']:.2f} | "
                f"{mean['width_db']:.1f} | {mean['energy_bias_db']:+.2f} | "
                f"{mean['error_db']:.2f} | {mean['sd_db']:.2f} | {share} |"
            )
    return "\n".join(lines)


HEAD = """# Uncertainty with equal weights and with the judge's

Both rows of a source come from the same posterior samples of rendered pieces of {seconds:g} s, with
sounds that no prior was trained on. Coverage: share of bins in which the true level of the source,
relative to the mixture's, lies between the .1 and .9 quantiles, whose distance is the width. Error:
rms of the samples' mean against the true level. These three are over bins within {active:g} dB of
the mixture's loudest. Bias: energy of the samples' mean power above that of the true stem. Sd:
standard deviation over the samples, mean over all bins. Between explanations: the part of the
variance that disappears with the judge's weights, over all bins; in brackets what weights as uneven
as these would take away from samples that have nothing to do with them. All are means over the
*n* pieces."""


def main(argv: list[str]) -> None:
    """Measure every set, print the table and write it if asked."""
    c = parse(Config, argv)
    sys.path.insert(0, str(Path(__file__).parent))
    from benchmark_separation import hide_paths
    from results import compact, raw_file

    from gensep.cli.records import commit, versions
    from gensep.runtime.files import write_atomically

    rows = [row for name in c.sets for row in measure(c, name)]
    text = summary(rows)
    print(text)
    if not c.output:
        return
    command = shlex.join(["python", PROG, *hide_paths(argv)])
    effective = np.mean([row["effective_samples"] for row in rows])
    packages = ", ".join(f"{k} {v}" for k, v in versions().items())
    about = (
        f"Settings: {c.method}. The judge's weights leave {effective:.1f} effective samples.\n\n"
        f"```sh\n{command}\n```\n\n{os.cpu_count()} CPU cores, commit {commit() or 'unknown'}; "
        f"{packages}.\n"
    )
    head = HEAD.format(seconds=c.seconds, active=ACTIVE_DB)
    write_atomically(Path(f"{c.output}.md"), f"{head}\n\n{text}\n\n{about}")
    record = {"command": command, "commit": commit(), "versions": versions(), "rows": rows}
    write_atomically(raw_file(c.output), compact(record))


if __name__ == "__main__":
    errors.run(main)
