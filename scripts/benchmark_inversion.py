"""Measure the best that each way from mel spectrograms to audio can reach, given the true stems.

Write OUTPUT.md (the tables and the command that made them) and the raw rows of every piece as JSON.
"""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gensep.cli.config import build, parse
from gensep.runtime import errors

sys.path.insert(0, str(Path(__file__).parent))
RATE, N_FFT, HOP = 16000, 2048, 512
SPEED_SECONDS = 4.0
# algorithms on 11 other pieces, 96 mels over 125 to 7600 Hz; ours cover 30 to 8000 Hz
EXPECTED = {
    "STFT mask, IBM": 11.92,
    "STFT mask, IRM1": 12.14,
    "STFT mask, Wiener power": 12.82,
    "STFT mask, PSM clipped": 13.71,
    "mel, spread mask": 11.92,
    "mel, NNLS to Wiener": 11.51,
    "mel, pinv to Wiener": 11.23,
    "mel, NNLS magnitude, mixture phase": 7.97,
    "mel, spread mask, MISI 5": 11.72,
    "true magnitude, mixture phase": 13.35,
    "true magnitude, MISI 1": 14.53,
    "true magnitude, MISI 5": 19.98,
    "true magnitude, MISI 20": 31.35,
    "true magnitude, Griffin-Lim 32": -35.0,
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
    pieces: int = 8
    """Pieces, at most."""
    seed: int = 0
    """Random seed of renderings and phases."""
    librosa: bool = True
    """Compare speed with librosa."""
    output: str | None = None
    """Path without ending for the .md and .json."""


def methods(true: np.ndarray, mixture: np.ndarray, seed: int) -> dict[str, Callable[[], Any]]:
    """Return name -> a call that makes stems `[source, samples]` from the true stems."""
    import jax
    import jax.numpy as jnp

    from gensep.evaluation import oracles
    from gensep.evaluation.oracles import oracle_masks
    from gensep.inversion import phase
    from gensep.inversion.resynthesis import Options, invert_masks
    from gensep.representation.analysis import analyse
    from gensep.representation.mel import Representation
    from gensep.representation.stft import istft, stft

    form = Representation()
    mixed = stft(mixture, N_FFT, HOP)
    spectra = stft(true, N_FFT, HOP)
    shares = oracle_masks([analyse([stem], form) for stem in true])
    with_phase = jnp.abs(spectra) * jnp.exp(1j * jnp.angle(mixed))
    random = phase.random_phases(jax.random.key(seed), jnp.abs(spectra))

    def masked(mask: Callable[..., Any]) -> Callable[[], Any]:
        apply = jax.jit(lambda s, x: mask(s, x) * x)
        return lambda: istft(apply(spectra, mixed), HOP, len(mixture))

    def mel(name: str, **options: Any) -> Callable[[], Any]:
        def call() -> np.ndarray:
            parts = invert_masks(
                lambda: [mixture[None]], RATE, shares, form, name, Options(**options)
            )
            return np.concatenate(list(parts), -1)[:, 0]

        return call

    def misi(rounds: int) -> Callable[[], Any]:
        return lambda: phase.misi(with_phase, mixture, HOP, rounds)

    def griffin_lim(first: Any, momentum: float) -> Callable[[], Any]:
        return lambda: phase.griffin_lim(first, HOP, len(mixture), 32, momentum)

    return {
        "STFT mask, IBM": masked(partial(oracles.ibm, alpha=1.0)),
        "STFT mask, IBM of the loudest": masked(oracles.ibm_max),
        "STFT mask, IRM1": masked(partial(oracles.irm, alpha=1.0)),
        "STFT mask, Wiener power": masked(partial(oracles.irm, alpha=2.0)),
        "STFT mask, PSM clipped": masked(oracles.psm),
        "mel, spread mask": mel("spread"),
        "mel, NNLS to Wiener": mel("nnls"),
        "mel, pinv to Wiener": mel("pinv"),
        "mel, EM Wiener 1": mel("em_wiener"),
        "mel, NNLS magnitude, mixture phase": mel("mixture_phase"),
        "mel, spread mask, MISI 5": mel("misi"),
        "mel, spread mask, Griffin-Lim 32": mel("griffin_lim"),
        "true magnitude, mixture phase": lambda: istft(with_phase, HOP, len(mixture)),
        "true magnitude, MISI 1": misi(1),
        "true magnitude, MISI 5": misi(5),
        "true magnitude, MISI 20": misi(20),
        "true magnitude, Griffin-Lim 32": griffin_lim(random, 0.0),
        "true magnitude, fast Griffin-Lim 32": griffin_lim(random, 0.99),
        "true magnitude, Griffin-Lim 32 from the mixture's phase": griffin_lim(with_phase, 0.0),
    }


def measure(c: Config) -> Iterator[dict[str, Any]]:
    """Yield one row of SI-SDR per piece and method."""
    import soxr
    from benchmark_separation import RATE as RENDERED
    from benchmark_separation import Config as Rendering
    from benchmark_separation import pieces
    from tqdm import tqdm

    from gensep.evaluation.metrics import si_sdr

    rendering = build(
        Rendering, {"scores": c.scores, "sounds": c.sounds, "pieces": c.pieces, "seed": c.seed}
    )
    for song, stems in tqdm(pieces(rendering, c.set), total=c.pieces, desc=c.set):
        true = np.stack([soxr.resample(x, RENDERED, RATE) for x in stems.values()])
        true = true.astype(np.float32)
        mixture = true.sum(0)
        yield {
            "piece": song,
            "method": "mixture",
            "seconds": 0.0,
            "si_sdr": [si_sdr(mixture, t) for t in true],
        }
        for name, call in methods(true, mixture, c.seed).items():
            np.asarray(call())  # compile
            began = time.perf_counter()
            found = np.asarray(call())
            took = (time.perf_counter() - began) / (len(mixture) / RATE)
            yield {
                "piece": song,
                "method": name,
                "seconds": took,
                "si_sdr": [si_sdr(y, t) for y, t in zip(found, true, strict=True)],
            }


def speed(seed: int) -> list[dict[str, Any]]:
    """Time the methods that librosa also has on four seconds of noise: least of three calls."""
    import warnings

    import jax.numpy as jnp

    from gensep.inversion import methods, phase
    from gensep.representation.mel import Representation
    from gensep.representation.stft import stft

    with warnings.catch_warnings():  # warnings of the dependencies of librosa
        warnings.simplefilter("ignore")
        import librosa
    form = Representation()
    wave = np.random.default_rng(seed).normal(size=int(SPEED_SECONDS * RATE)).astype(np.float32)
    magnitude = jnp.abs(stft(wave, N_FFT, HOP))
    bands, power = methods.bands(form, RATE, N_FFT), form.mel_power(wave)
    bank, columns = np.asarray(bands.bank), np.asarray(power.T)
    import jax

    solve = jax.jit(methods.nnls)
    plain = np.asarray(magnitude.T)
    first = magnitude.astype(jnp.complex64)
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "NNLS of mel power": (
            lambda: solve(power, bands),
            lambda: librosa.util.nnls(bank, columns),
        ),
        "Griffin-Lim 32": (
            lambda: phase.griffin_lim(first, HOP, len(wave), 32, 0.0),
            lambda: librosa.griffinlim(
                plain, n_iter=32, hop_length=HOP, init=None, momentum=0.0, length=len(wave)
            ),
        ),
        "fast Griffin-Lim 32": (
            lambda: phase.griffin_lim(first, HOP, len(wave), 32, 0.99),
            lambda: librosa.griffinlim(
                plain, n_iter=32, hop_length=HOP, init=None, length=len(wave)
            ),
        ),
    }
    rows = []
    for name, calls in pairs.items():
        best, found = [np.inf, np.inf], [np.zeros(0)] * 2
        for turn in range(4):
            for i, call in enumerate(calls):
                began = time.perf_counter()
                found[i] = np.asarray(call())
                if turn:  # the first call compiles
                    best[i] = min(best[i], time.perf_counter() - began)
        ours, theirs = found[0], found[1].T if name.startswith("NNLS") else found[1]
        row = {
            "what": name,
            "gensep": best[0] / SPEED_SECONDS,
            "librosa": best[1] / SPEED_SECONDS,
            "ratio": best[1] / best[0],
            "difference": float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)),
        }
        if name.startswith("NNLS"):
            row["misfit"] = [
                float(np.linalg.norm(s @ bank.T - columns.T) / np.linalg.norm(columns))
                for s in (ours, theirs)
            ]
        rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]]) -> str:
    """Return a markdown table with one line per method: mean SI-SDR over the sources of a piece."""
    from gensep.evaluation.statistics import interval

    lines = [
        "| method | n | SI-SDR, dB [95 %] | elsewhere, dB | s per s |",
        "|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(r["method"] for r in rows):
        mine = [r for r in rows if r["method"] == method]
        spread = interval([np.mean(r["si_sdr"]) for r in mine])
        seconds = float(np.median([r["seconds"] for r in mine]))
        cells = [
            method,
            str(len(mine)),
            "{:.2f} [{:.2f}, {:.2f}]".format(*spread),
            f"{EXPECTED[method]:.2f}" if method in EXPECTED else "",
            f"{seconds:.4f}" if seconds else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def speed_table(rows: list[dict[str, Any]]) -> str:
    """Return a markdown table that compares the speed with librosa."""
    lines = [
        "| on noise | gensep, s per s | librosa, s per s | ratio | relative difference |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['what']} | {r['gensep']:.4f} | {r['librosa']:.4f} | {r['ratio']:.0f} | "
        f"{r['difference']:.0e} |"
        for r in rows
    ]
    fits = [
        f"Misfit of the mel power, relative: gensep {a:.1e}, librosa {b:.1e}."
        for r in rows
        if "misfit" in r
        for a, b in [r["misfit"]]
    ]
    return "\n".join(lines + ["", *fits])


def main(argv: list[str]) -> None:
    """Measure, print the tables and write them if asked."""
    c = parse(Config, argv)
    from benchmark_separation import hide_paths
    from results import raw_file

    from gensep.cli.records import commit, versions
    from gensep.runtime.files import write_atomically

    began = time.monotonic()
    fast = speed(c.seed) if c.librosa else []
    rows = list(measure(c))
    text = summary(rows) + (f"\n\n{speed_table(fast)}" if fast else "")
    print(text)
    if c.output:
        shown = shlex.join(["python", "scripts/benchmark_inversion.py", *hide_paths(argv)])
        packages = ", ".join(f"{k} {v}" for k, v in versions().items())
        about = (
            f"{os.cpu_count()} CPU cores, {time.monotonic() - began:.0f} s in all, commit "
            f"{commit() or 'unknown'}; {packages}."
        )
        page = f"{HEAD}\n{text}\n\n```\n{shown}\n```\n\n{about}\n"
        write_atomically(Path(f"{c.output}.md"), page)
        lines = "".join(json.dumps(r) + "\n" for r in [*rows, *fast])
        write_atomically(raw_file(c.output), lines)


HEAD = """# From mel to audio: ceilings

Everything below starts from the true stems, so it bounds what any model of these quantities can
reach. Pieces of 30 s of the set `duo_same` (piano and violin, scores that no prior was trained
on), mono, 16 kHz, transforms 2048/512; mel rows have the 96 bands of the shipped priors, 30 to
8000 Hz. SI-SDR is the mean over the sources of a piece, intervals are bootstraps over pieces.
"elsewhere" is a measurement of the same quantities on 11 other rendered piano and violin pieces
(mel rows but the spread mask with 125 to 7600 Hz): pieces differ by decibels, so compare the
order and the differences between rows. Griffin-Lim knows no mixture and finds some wave with the
right magnitudes, so waveform metrics do not apply to it. MISI also distributes the difference
between the mixture and the sum of the sources; this alone, before any iteration, adds 1.1 dB to the
result with the phase of the mixture (two pieces). "s per s" is time per second of audio for both
sources, compilation apart, median over pieces.
"""


if __name__ == "__main__":
    errors.run(main)
