"""Train the shipped priors: from scores and SoundFonts to prior files and model cards.

Stages, each resumable: `lines` cuts the training scores into single lines, `render` plays them,
`spec` makes the data sets, `train` trains (several at once on a GPU), `export` writes the files.
`--minutes` limits the time of one call; the same command resumes.
"""

import hashlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gensep.cli.config import parse
from gensep.cli.options import Positional
from gensep.runtime import errors
from gensep.runtime.errors import UserError

ROOT = Path(__file__).parent.parent
SOURCES = ("piano", "violin", "clarinet", "saxophone", "bassoon")
STAGES = ("lines", "render", "spec", "train", "export")
# source -> (set, tracks, seconds per excerpt, excerpts per line, share of the lines that is used)
WIND = (
    ("chorales", ("soprano", "alto", "tenor", "bass"), 60, 1, 0.4),
    ("quartets", ("violin1", "violin2", "viola", "cello"), 75, 1, 0.7),
    ("lieder", ("violin",), 45, 1, 0.5),
)
LINES = {
    "piano": (("lieder", ("piano",), 80, 1, 1.0),),
    "violin": (
        ("lieder", ("violin",), 80, 1, 1.0),
        ("chorales", ("soprano", "alto"), 60, 1, 1.0),
        ("quartets", ("violin1", "violin2"), 75, 3, 1.0),
    ),
    "clarinet": WIND,
    "saxophone": WIND,
    "bassoon": WIND,
}
VARIANTS = {"piano": 2}
RENDER = (
    "--layout solo --timbre 0.8 --layer_probability 0.25 --onset_sd 0.008 --velocity_sd 0.12 "
    "--tempo 0.8 1.25 --transpose -4 4 --velocity 45 115"
).split()
VALID_SHARE = 0.05  # of the training scores; the validation scores of the benchmark are not used

CARD = """# {source}

A score prior (EDM denoiser of mel spectrogram windows) of solo {source}, for `gensep`.

| | |
|---|---|
| parameters | {parameters:,} ({size:.1f} MB, float16) |
| trained on | renderings of solo lines, {hours:.1f} hours ({tracks} tracks); never a mixture |
| scores | OpenScore Lieder (CC0; voice lines as melody), Bach chorales and classical string \
quartets of the music21 corpus (works in the public domain) |
| sounds | GeneralUser GS 1.47, FluidR3 GM, sonivox; near programs, layered |
| chosen on | TimGM6mb and the csound GM bank: fonts that no training set holds |
| validation loss | {loss:.4f} at step {step} of {steps}, mean over 8 noise levels \
(1: the best linear denoiser of white data) |
| batch, frames, seed | {batch}, {frames}, {seed} |
| recipe | `python scripts/train_shipped_priors.py WORK --scores SCORES --sounds FONTS \
--sources {source}` |
| commit | {commit} |
| licence | MIT, like the code; the licences of GeneralUser GS 2.0, FluidR3 (MIT) and sonivox \
(Apache-2.0) permit it |

![samples of the prior above validation windows](samples.png)
"""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the recipe."""

    work: Positional[str]
    """Folder for all intermediate files."""
    scores: str
    """Folder that scripts/prepare_scores.py wrote."""
    sounds: tuple[str, ...]
    """Folders with the SoundFonts of the instruments file."""
    sources: tuple[str, ...] = SOURCES
    """Priors to train."""
    stages: tuple[str, ...] = STAGES
    """Stages to run."""
    instruments: str = str(ROOT / "configs/shipped_instruments.toml")
    """Instruments file with the sounds of every source."""
    training: str = str(ROOT / "configs/shipped_prior.toml")
    """The training config."""
    output: str = str(ROOT / "gensep/assets/priors")
    """Folder into which `export` writes."""
    steps: int = 0
    """Updates; 0 for those of the training config."""
    batch: int = 0
    """Windows per update; 0 for those of the training config."""
    jobs: int = 1
    """Trainings that run at the same time; 5 on a large GPU."""
    minutes: float = 0.0
    """Stop after this many minutes; the same command resumes; 0 for no limit."""
    limit: int = 0
    """Largest number of scores per set, for trials; 0 for all."""

    def __post_init__(self):
        for given, known in ((self.sources, SOURCES), (self.stages, STAGES)):
            for name in given:
                if name not in known:
                    raise ValueError(f"'{name}' is none of {', '.join(known)}")


def chance(*names: object) -> float:
    """Return a number in [0, 1) that depends on the names alone."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def cut_lines(c: Config, source: str) -> None:
    """Write WORK/lines/SOURCE/{train,valid}/*.mid: excerpts of single lines of training scores."""
    from gensep.rendering.notation import Piece, find_pieces, read_piece, write_midi

    folder = Path(c.work) / "lines" / source
    if (folder / "done").exists():
        return
    for kind, tracks, seconds, excerpts, share in LINES[source]:
        paths = find_pieces([str(Path(c.scores) / kind / "train")])
        for path in paths[: c.limit or None]:
            score = read_piece(path)
            split = "valid" if chance("split", kind, score.name) < VALID_SHARE else "train"
            for name, notes in score.tracks.items():
                if name.lower() not in tracks or chance("take", source, path, name) >= share:
                    continue
                for i in range(excerpts):
                    end = max(n.off for n in notes)
                    start = chance(source, path, name, i) * max(0.0, end - seconds)
                    part = [
                        n._replace(on=n.on - start, off=min(n.off - start, seconds))
                        for n in notes
                        if start <= n.on < start + seconds
                    ]
                    if len(part) < 4:
                        continue
                    label = f"{kind}_{score.name}_{name}_{i}"
                    target = folder / split / f"{label}.mid"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    write_midi(Piece(label, {name: part}), target)
    (folder / "done").touch()


def call(module: str, *arguments: object, seconds: float | None = None) -> None:
    """Run a command of gensep in its own process, interrupted after `seconds`."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise UserError(f"{module} ran out of time; run the same command again to resume") from None
    if done.returncode:
        raise UserError(f"{module} failed with exit code {done.returncode}; see above")


def one_table(c: Config, source: str) -> Path:
    """Write the part of the instruments file that belongs to one source; return its path."""
    text = Path(c.instruments).read_text()
    start = text.index(f"[{source}]")
    end = text.find("\n[", start)
    path = Path(c.work) / f"{source}.toml"
    path.write_text(text[start : end if end > 0 else None])
    return path


def train(c: Config, source: str, minutes: float) -> None:
    """Train one prior for at most `minutes`; 0 for no limit."""
    work = Path(c.work)
    extra = [f"--{key}={getattr(c, key)}" for key in ("steps", "batch") if getattr(c, key)]
    call(
        "gensep.train_ncsn",
        "--config",
        c.training,
        "--data",
        work / "spec" / source,
        "--run",
        work / "runs" / source,
        "--max_minutes",
        minutes,
        *extra,
    )


def export(c: Config, source: str) -> None:
    """Write the float16 prior file, a picture of its samples and its model card."""
    from gensep.priors.card import export_prior
    from gensep.runtime.files import write_atomically

    output = Path(c.output) / source
    facts = export_prior(Path(c.work) / "runs" / source, output)
    write_atomically(output / "README.md", CARD.format(source=source, **facts))


def main(argv: list[str]) -> None:
    """Run the stages."""
    c = parse(Config, argv)
    began = time.monotonic()

    def left() -> float | None:
        return max(5.0, 60 * c.minutes - (time.monotonic() - began)) if c.minutes else None

    work = Path(c.work)
    work.mkdir(parents=True, exist_ok=True)
    for stage in [s for s in STAGES if s in c.stages]:
        print(f"-- {stage} ({time.monotonic() - began:.0f} s)", flush=True)
        if stage == "train":
            minutes = (left() or 0) / 60
            with ThreadPoolExecutor(c.jobs) as pool:
                share = minutes / -(-len(c.sources) // c.jobs)
                list(pool.map(lambda s, m=share: train(c, s, m), c.sources))
            continue
        for source in c.sources:
            if stage == "lines":
                cut_lines(c, source)
            elif stage == "render":
                call(
                    "gensep.render",
                    work / "lines" / source,
                    "--output",
                    work / "stems" / source,
                    "--instruments",
                    one_table(c, source),
                    "--sounds",
                    *c.sounds,
                    "--variants",
                    VARIANTS.get(source, 1),
                    *RENDER,
                    seconds=left(),
                )
            elif stage == "spec":
                call(
                    "gensep.wav_to_spec",
                    work / "stems" / source / source,
                    work / "spec",
                    seconds=left(),
                )
            else:
                export(c, source)
    print(f"-- done ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    errors.run(main)
