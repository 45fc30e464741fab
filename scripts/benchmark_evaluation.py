"""Compare gensep.evaluation.bsseval with museval: time, peak memory, largest difference.

Each runs in its own process on the same files. Write OUTPUT.md and the raw rows as JSON. With
--pairs N also compare the two on N random small pairs.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from gensep.cli.config import parse
from gensep.runtime import errors

sys.path.insert(0, str(Path(__file__).parent))
RATE = 44100
NAMES = ("SDR", "ISR", "SIR", "SAR")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    seconds: tuple[float, ...] = (10.0, 60.0, 240.0)
    """Lengths of the songs."""
    sources: int = 4
    """Sources, each stereo."""
    museval: bool = True
    """Also run museval."""
    museval_limit: float = 1e9
    """Run museval only on songs up to this many seconds."""
    pairs: int = 0
    """Number of random small pairs on which the metrics are compared."""
    threads: int = 0
    """Threads of each engine; 0 for one per core."""
    seed: int = 0
    """Random seed of the sounds."""
    output: str | None = None
    """Path without ending for the .md and .json."""
    work: str = ""
    """Internal: engine and folder of one measurement, ENGINE:FOLDER."""


def make(folder: Path, c: Config, seconds: float) -> None:
    """Write WAV files of decaying tones in noise, and estimates that contain other sources."""
    rng = np.random.default_rng(c.seed)
    samples = int(seconds * RATE)
    true = np.empty((c.sources, 2, samples), np.float32)
    for source in range(c.sources):
        for start in range(0, samples, RATE // 2):  # one note per half second
            part = true[source, :, start : start + RATE // 2]
            time_axis = np.arange(part.shape[1]) / RATE
            tone = np.sin(2 * np.pi * 110 * 2 ** (rng.integers(36) / 12) * time_axis)
            noise = rng.normal(size=part.shape)
            part[:] = 0.2 * np.exp(-4 * time_axis) * tone + 0.01 * noise
    for source in range(c.sources):
        leak = 0.2 * true[(source + 1) % c.sources]
        estimate = (
            0.9 * true[source] + leak + 0.01 * rng.standard_normal(true.shape[1:], np.float32)
        )
        for kind, wave in (("true", true[source]), ("estimate", estimate)):
            soundfile.write(folder / f"{kind}{source}.wav", wave.T, RATE, subtype="FLOAT")


def ours(folder: Path, threads: int) -> Any:
    """Return a call that scores with gensep, from waves on disk as in the command."""
    from gensep.audio.excerpt import Excerpt
    from gensep.evaluation.bsseval import bss_eval
    from gensep.runtime.spool import Spool

    spools = []
    for kind in ("true", "estimate"):
        tracks = [Excerpt(path) for path in sorted(folder.glob(f"{kind}*.wav"))]
        info = tracks[0].shape()
        spools.append(Spool(len(tracks), info.channels, info.samples))
        for source, track in enumerate(tracks):
            spools[-1].write(source, track.blocks())
    return lambda: np.array(bss_eval(spools[0], spools[1:], RATE, threads=threads or None)[0])


def theirs(folder: Path, threads: int) -> Any:
    """Return a call that scores with museval, from waves in memory as float64, as it reads them."""
    from museval_without_ffmpeg import import_museval

    museval = import_museval()
    true, estimates = (
        np.array(
            [
                soundfile.read(path, always_2d=True)[0]
                for path in sorted(folder.glob(f"{kind}*.wav"))
            ]
        )
        for kind in ("true", "estimate")
    )
    return lambda: np.array(museval.metrics.bss_eval(true, estimates, window=RATE, hop=RATE)[:4])


def work(engine: str, folder: Path, threads: int) -> None:
    """Run one engine in this process; write its metrics and its cost into the folder."""
    call = {"gensep": ours, "museval": theirs}[engine](folder, threads)
    before = time.process_time(), time.perf_counter()
    figures = call()
    cost = {
        "cpu_seconds": time.process_time() - before[0],
        "seconds": time.perf_counter() - before[1],
        "peak_mb": peak_mb(),
    }
    np.save(folder / f"{engine}.npy", figures)
    (folder / f"{engine}.json").write_text(json.dumps(cost))


def peak_mb() -> float:
    """Return the peak memory of this process; getrusage would include that of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(c: Config, seconds: float) -> dict[str, Any]:
    """Run both engines on one song and return a row of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{seconds:.0f} s of audio", file=sys.stderr)
        make(folder, c, seconds)
        row: dict[str, Any] = {"seconds_of_audio": seconds, "sources": c.sources}
        engines = ["gensep"] + ["museval"] * (c.museval and seconds <= c.museval_limit)
        for engine in engines:
            subprocess.run(
                [
                    sys.executable,
                    __file__,
                    "--work",
                    f"{engine}:{folder}",
                    "--threads",
                    str(c.threads),
                ],
                env=blas(c.threads),
                check=True,
            )
            row[engine] = json.loads((folder / f"{engine}.json").read_text())
        if len(engines) == 2:
            a, b = (np.load(folder / f"{engine}.npy") for engine in engines)
            row["largest_difference_db"] = float(np.nanmax(np.abs(a - b)))
            row["nan_alike"] = bool((np.isnan(a) == np.isnan(b)).all())
        return row


def blas(threads: int) -> dict[str, str]:
    """Return an environment in which OpenBLAS uses this many threads; 0 leaves it unchanged."""
    return os.environ | ({"OPENBLAS_NUM_THREADS": str(threads)} if threads else {})


def compare_pairs(c: Config) -> dict[str, Any]:
    """Compare the metrics on random pairs: 2 or 3 sources, mono or stereo, partly silent."""
    from museval_without_ffmpeg import import_museval
    from scipy.signal import lfilter
    from tqdm import tqdm

    from gensep.evaluation.bsseval import bss_eval

    museval = import_museval()
    largest, frames, nans = np.zeros(4), 0, 0
    for pair in tqdm(range(c.pairs), desc="pairs", disable=None):
        rng = np.random.default_rng([c.seed, pair])
        count, channels = ((2, 1), (3, 1), (2, 2))[rng.integers(3)]
        shape = (count, channels, int(rng.integers(4000, 12_000)))
        true = lfilter([1], [1, -rng.uniform(-0.9, 0.95)], rng.normal(size=shape))
        mixed = np.einsum(
            "ij,jcn->icn", np.eye(count) + 0.3 * rng.normal(size=(count, count)), true
        )
        estimates = mixed + 10 ** rng.uniform(-3, 0) * rng.normal(size=shape)
        for waves in (true, estimates):
            start = rng.integers(shape[2])
            waves[rng.integers(count), :, start : start + rng.integers(4000)] = 0
        win, hop = (int(x) for x in rng.integers(500, 6000, 2))
        (a,) = bss_eval(true, [estimates], 1, win=win, hop=hop)
        b = museval.metrics.bss_eval(
            *(x.swapaxes(1, 2) for x in (true, estimates)), window=win, hop=hop
        )[:4]
        if not all((np.isnan(x) == np.isnan(y)).all() for x, y in zip(a, b, strict=True)):
            raise SystemExit(f"pair {pair}: the frames that are nan differ")
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            if np.isfinite(x).any():
                largest[i] = max(largest[i], np.nanmax(np.abs(x - y)))
        frames, nans = frames + a.sdr.size, nans + int(np.isnan(a.sdr).sum())
    return {
        "pairs": c.pairs,
        "frames": frames,
        "nan_frames": nans,
        "largest_difference_db": dict(zip(NAMES, largest.tolist(), strict=True)),
    }


def page(rows: list[dict[str, Any]], pairs: dict[str, Any] | None) -> str:
    """Return the results as markdown."""
    from gensep.evaluation.statistics import markdown

    def cells(row: dict[str, Any], engine: str) -> list[str]:
        cost = row.get(engine)
        return (
            [f"{cost[k]:.{d}f}" for k, d in (("seconds", 1), ("cpu_seconds", 1), ("peak_mb", 0))]
            if cost
            else ["-"] * 3
        )

    header = [
        "audio, s",
        *(f"{e}, {k}" for e in ("gensep", "museval") for k in ("s", "CPU s", "peak MB")),
        "times faster",
        "in CPU time",
        "largest difference, dB",
    ]
    lines = []
    for row in rows:
        line = [f"{row['seconds_of_audio']:.0f}", *cells(row, "gensep"), *cells(row, "museval")]
        if "museval" in row:
            ratios = [row["museval"][k] / row["gensep"][k] for k in ("seconds", "cpu_seconds")]
            line += [f"{r:.0f}" for r in ratios] + [f"{row['largest_difference_db']:.1e}"]
        lines.append(line + ["-"] * (len(header) - len(line)))
    text = markdown(header, lines) if rows else ""
    if pairs:
        known = ", ".join(f"{k} {v:.1e}" for k, v in pairs["largest_difference_db"].items())
        text += (
            f"\n\n{pairs['pairs']} random pairs, {pairs['frames']} frames of a source, of "
            f"which {pairs['nan_frames']} are nan in both. Largest differences in dB: "
            f"{known}."
        )
    return text


def main(argv: list[str]) -> None:
    """Measure, print the table and write it if asked."""
    c = parse(Config, argv)
    if c.work:
        engine, _, folder = c.work.partition(":")
        return work(engine, Path(folder), c.threads)
    from results import compact, raw_file

    from gensep.cli.records import commit, versions
    from gensep.runtime.files import write_atomically

    rows = [measure(c, seconds) for seconds in c.seconds]
    pairs = compare_pairs(c) if c.pairs else None
    text = page(rows, pairs)
    print(text)
    if c.output:
        shown = shlex.join(["python", "scripts/benchmark_evaluation.py", *argv])
        record = {
            "rows": rows,
            "pairs": pairs,
            "cores": os.cpu_count(),
            "commit": commit(),
            "versions": versions(),
        }
        packages = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
        write_atomically(
            Path(f"{c.output}.md"),
            f"{HEAD.format(c.sources)}\n{text}\n\n```\n{shown}"
            f"\n```\n\n{os.cpu_count()} CPU cores, commit "
            f"{record['commit'] or 'unknown'}; {packages}.\n",
        )
        write_atomically(raw_file(c.output), compact(record))
    return None


HEAD = """# BSSEval v4 beside museval

Songs of {} stereo sources at 44.1 kHz, frames of 1 s; each engine in a process of its own, peak
memory of that process with the waves it needs (gensep: on disk; museval: float64 in memory).
Seconds are those of the scoring alone. On a machine that does other work, as this one did, CPU time
is the fair measure.
"""


if __name__ == "__main__":
    errors.run(main)
