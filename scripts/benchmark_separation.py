"""Measure separation of rendered validation scores: a SoundFont of the training, recorded notes.

Write OUTPUT.md (the table and the command that made it) and the raw rows of every piece as JSON.
`python -m gensep.report` makes a page of the folder that `--keep` writes.
"""

import dataclasses
import json
import os
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gensep.cli.config import build, parse
from gensep.runtime import errors

if TYPE_CHECKING:
    from gensep.separation.separate import SourcePriors

ROOT = Path(__file__).parent.parent
SETS = {"duo": "lieder", "chorale": "chorales", "melody": "chorales", "winds": "chorales"}
RATE = 22050
MEL_ORACLE = "oracle, mel ratio"
PROG = "python scripts/benchmark_separation.py"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    scores: str
    """Folder that scripts/prepare_scores.py wrote."""
    sounds: tuple[str, ...]
    """Folders with SoundFonts and recorded notes."""
    sets: tuple[str, ...] = ("duo_same", "duo_shift", "chorale_same", "chorale_shift")
    """Instruments files in configs/benchmark; NAME@A,B,.. adds gains in dB."""
    methods: tuple[str, ...] = ("default",)
    """Presets, or preset:field=value,...; the field priors overrides --priors."""
    priors: str | None = None
    """Folder of run folders, one per source; by default the shipped priors."""
    seconds: float = 30.0
    """Seconds of each piece."""
    split: str = "valid"
    """Split of the scores."""
    pieces: int = 24
    """Largest number of pieces per set."""
    seed: int = 0
    """Random seed of renderings and sampler."""
    output: str | None = None
    """Path without ending for the .md and .json."""
    keep: str | None = None
    """Folder for mixtures, references and stems to listen to."""
    keep_pieces: int = 4
    """Largest number of pieces per set to keep."""


def pieces(c: Config, name: str) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Render the pieces of a set in which every source plays; yield (song, source -> [samples])."""
    from gensep.rendering.instruments_file import read_instruments
    from gensep.rendering.notation import find_pieces, read_piece
    from gensep.rendering.rendition import Playing, render_song

    file, _, gains = name.partition("@")
    sources = read_instruments(ROOT / f"configs/benchmark/{file}.toml", c.sounds)
    kind = SETS[file.split("_")[0]]
    count = 0
    for path in find_pieces([str(Path(c.scores) / kind / c.split)]):
        score = read_piece(path)
        start = 15.0 if score.seconds > 60 else 0.0
        playing = build(
            Playing,
            {
                "rate": RATE,
                "seed": c.seed,
                "start": start,
                "duration": c.seconds,
                "onset_sd": 0.008,
                "velocity_sd": 0.1,
                "tempo": (0.9, 1.15),
                "velocity": (60.0, 100.0),
                "gains": tuple(float(g) for g in gains.split(",")) if gains else (),
            },
        )
        stems = render_song(score, sources, playing)
        if len(stems) == len(sources) and all(_sounding(x) > 0.4 for x in stems.values()):
            yield score.name, stems
            count += 1
        if count == c.pieces:
            return


def _sounding(stem: np.ndarray) -> float:
    """Return the share of tenths of a second that are within 40 dB of the loudest."""
    blocks = np.square(stem[: len(stem) // 2205 * 2205].reshape(-1, 2205)).mean(1)
    return float(np.mean(blocks > 1e-4 * blocks.max()))


def measure(c: Config, name: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return one row of SI-SDR per piece and method, and the names of the sources."""
    from tqdm import tqdm

    from gensep.evaluation.metrics import si_sdr

    rows, names = [], []
    for number, (song, stems) in enumerate(tqdm(pieces(c, name), total=c.pieces, desc=name)):
        names = list(stems)
        true = list(stems.values())
        mixture = np.sum(true, 0)
        base = [si_sdr(mixture, t) for t in true]
        rows.append(
            {
                "set": name,
                "piece": song,
                "method": "mixture",
                "si_sdr": base,
                "gain": [0.0] * len(true),
                "seconds": 0.0,
            }
        )
        priors = {m: _priors_of(c, m, names) for m in c.methods}
        representation = priors[c.methods[0]].representation
        for method, estimates, took, calls in estimate_all(c, priors, true, mixture):
            values = [si_sdr(e, t) for e, t in zip(estimates, true, strict=True)]
            gains = [v - b for v, b in zip(values, base, strict=True)]
            rows.append(
                {
                    "set": name,
                    "piece": song,
                    "method": method,
                    "si_sdr": values,
                    "gain": gains,
                    "seconds": took / (len(mixture) / RATE),
                    "evaluations": calls,
                }
            )
            if c.keep and number < c.keep_pieces and method in c.methods:
                keep(c, stems, estimates, rows, representation)
    return rows, names


def keep(
    c: Config,
    true: dict[str, np.ndarray],
    estimates: np.ndarray,
    rows: list[dict],
    representation: Any,
) -> None:
    """Write mixture, references and the stems of the last row with a record, for gensep.report."""
    from gensep.audio.stems import StemWriter
    from gensep.cli.records import command, commit, versions
    from gensep.runtime.files import write_atomically

    def write(folder: Path, waves: dict[str, np.ndarray]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{name}.flac" for name in waves]
        with StemWriter(paths, RATE, 1, len(next(iter(waves.values())))) as writer:
            for i, wave in enumerate(waves.values()):
                writer.write(i, wave[None].astype(np.float32))

    row, names = rows[-1], list(true)
    piece, method = row["piece"], row["method"]
    home = Path(str(c.keep)) / _plain(row["set"]) / _plain(piece)
    folder = home / _plain(method)
    write(home, {"mixture": np.sum(list(true.values()), 0)})
    write(home / "references", true)
    write(folder, dict(zip(names, estimates, strict=True)))
    oracle = next(r for r in reversed(rows) if r["method"] == MEL_ORACLE)
    scores = np.array([row["si_sdr"], row["gain"], oracle["gain"]])
    figures = {
        name: {
            k: float(v) if np.isfinite(v) else None
            for k, v in zip(("si_sdr", "si_sdr_gain", "oracle_si_sdr_gain"), column, strict=True)
        }
        for name, column in zip(names, scores.T, strict=True)
    }
    record = {
        "mixture": "mixture.flac",
        "root": "..",
        "stems": [f"{name}.flac" for name in names],
        "song": f"{row['set']}: {piece}",
        "method": method,
        "seconds": len(true[names[0]]) / RATE,
        "rate": RATE,
        "channels": 1,
        "sampling_seconds_per_second": round(row["seconds"], 4),
        "scores": figures,
        "representation": dataclasses.asdict(representation),
        "command": shlex.join(hide_paths(shlex.split(command(c)))),
        "settings": dataclasses.asdict(settings_of(c, method, len(names))),
        "options": {
            "preset": method.partition(":")[0],
            "seed": c.seed,
            "reference": "references",
            "priors": names,
        },
        "versions": versions(),
        "commit": commit(),
    }
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    write_atomically(folder / "separation.json", text)


def _plain(name: str) -> str:
    """Return a name that is valid on any file system."""
    return re.sub(r"[^\w.=@+-]+", "_", name)


def _fields(method: str) -> tuple[str, dict[str, str]]:
    """Split `preset:field=value,...` into the preset and its fields."""
    preset, _, changes = method.partition(":")
    return preset, dict(pair.split("=") for pair in changes.split(",") if pair)


def _priors_of(c: Config, method: str, names: list[str]) -> "SourcePriors":
    """Load the priors of a method."""
    from gensep.separation.separate import assemble

    folder = _fields(method)[1].get("priors", c.priors)
    return assemble([f"{folder}/{n}" if folder else n for n in names])


def settings_of(c: Config, method: str, sources: int) -> Any:
    """Return the settings of the sampler for `preset` or `preset:field=value,...`."""
    from gensep.separation.separate import make_settings

    preset, fields = _fields(method)
    changes = {k: _typed(v) for k, v in fields.items() if k != "priors"}
    return make_settings(preset, {"seed": c.seed, **changes}, sources)


def estimate_all(
    c: Config, priors: dict[str, "SourcePriors"], true: list[np.ndarray], mixture: np.ndarray
) -> Iterator[tuple[str, np.ndarray, float, int]]:
    """Yield (method, stems [source, samples], seconds of sampling, evaluations per source)."""
    from gensep.evaluation.oracles import oracle_stems
    from gensep.inversion.masking import apply_masks
    from gensep.separation.separate import analyse_channels, find_masks

    yield "oracle, STFT ratio", stft_oracle(true, mixture), 0.0, 0
    form = priors[c.methods[0]].representation
    ideal = oracle_stems("mel_irm", np.stack(true)[:, None], mixture[None], RATE, form)
    yield MEL_ORACLE, ideal[:, 0], 0.0, 0
    for method, sources in priors.items():
        analysis = analyse_channels(mixture[None], RATE, sources.representation)
        found = find_masks(analysis, sources, settings_of(c, method, len(true)))
        stems = np.concatenate(
            list(apply_masks([mixture[None]], RATE, found.masks, sources.representation)), -1
        )
        yield method, stems[:, 0], found.run_seconds, sum(found.evaluations)


def stft_oracle(true: list[np.ndarray], mixture: np.ndarray) -> np.ndarray:
    """Filter by the power ratios of the true stems in every bin (Wiener), STFT 2880/720."""
    import scipy.signal

    window = {"nperseg": 2880, "noverlap": 2160, "window": "hann"}
    spectra = np.stack([scipy.signal.stft(t, **window)[2] for t in (*true, mixture)])
    power = np.abs(spectra[:-1]) ** 2 + 1e-12
    stems = power / power.sum(0) * spectra[-1]
    return scipy.signal.istft(stems, **window)[1][:, : len(mixture)]


def _typed(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def summary(rows: list[dict[str, Any]], sources: dict[str, list[str]]) -> str:
    """Return a markdown table with one line per set and method: mean gain and its interval."""
    lines = [
        "| set | method | n | SI-SDR gain, dB [95 %] | under mel oracle, dB [95 %] | "
        "by source, dB | evaluations | s per s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(r["set"] for r in rows):
        of_set = [r for r in rows if r["set"] == name]
        best = {r["piece"]: np.mean(r["gain"]) for r in of_set if r["method"] == MEL_ORACLE}
        for method in dict.fromkeys(r["method"] for r in of_set):
            mine = [r for r in of_set if r["method"] == method]
            cells = _cells(mine, best, sources[name])
            lines.append(f"| {' | '.join([name, method, str(len(mine)), *cells])} |")
    return "\n".join(lines)


def _cells(rows, best, sources) -> list[str]:
    """Return the cells of one method on one set."""
    from gensep.evaluation.statistics import interval

    if rows[0]["method"] == "mixture":
        return [f"0 (SI-SDR {np.mean([r['si_sdr'] for r in rows]):.2f})", "", "", "", ""]
    gains = np.array([np.mean(r["gain"]) for r in rows])
    behind = np.array([best[r["piece"]] for r in rows]) - gains
    each = zip(sources, np.mean([r["gain"] for r in rows], 0), strict=True)
    seconds = float(np.median([r["seconds"] for r in rows]))
    intervals = ["{:.2f} [{:.2f}, {:.2f}]".format(*interval(v)) for v in (gains, behind)]
    return [
        *intervals,
        ", ".join(f"{s} {g:.1f}" for s, g in each),
        str(rows[0]["evaluations"] or ""),
        f"{seconds:.3f}" if seconds else "",
    ]


def main(argv: list[str]) -> None:
    """Measure every set, print the table and write it if asked."""
    c = parse(Config, argv)
    from gensep.cli.records import commit, versions

    rows: list[dict[str, Any]] = []
    sources: dict[str, list[str]] = {}
    began = time.monotonic()
    for name in c.sets:
        found, sources[name] = measure(c, name)
        rows += found
    text = summary(rows, sources)
    print(text)
    if c.output:
        from results import raw_file

        from gensep.runtime.files import write_atomically

        shown = shlex.join(["python", "scripts/benchmark_separation.py", *hide_paths(argv)])
        packages = ", ".join(f"{k} {v}" for k, v in versions().items())
        about = (
            f"{os.cpu_count()} CPU cores, {time.monotonic() - began:.0f} s in all, commit "
            f"{commit() or 'unknown'}; {packages}."
        )
        page = f"{HEAD.format(seconds=c.seconds)}\n{text}\n\n```\n{shown}\n```\n\n{about}\n"
        write_atomically(Path(f"{c.output}.md"), page)
        write_atomically(raw_file(c.output), "".join(json.dumps(r) + "\n" for r in rows))


def hide_paths(argv: list[str]) -> list[str]:
    """Return the arguments with absolute paths replaced by the names of their options."""
    shown, flag = [], ""
    for arg in argv:
        flag = arg if arg.startswith("--") else flag
        shown.append(flag[2:].upper() if Path(arg).is_absolute() else arg)
    return shown


HEAD = """# Separation of rendered validation scores

Pieces of {seconds:g} s at 22.05 kHz from scores that no prior was trained or chosen on, every
stem at -26 dBFS RMS unless the set's name adds dB. *same*: a SoundFont used in training; *shift*:
recorded notes, used nowhere in training. Gains are means over the sources of a piece over the
unprocessed mixture; intervals are bootstraps over pieces, those under the oracle paired. "s per s"
is sampling time (compilation apart) per second of audio, median over pieces; *evaluations* are
those of one source's network, forward passes and products, of all chains and the judge.
"""


if __name__ == "__main__":
    errors.run(main)
