"""Kill a training at random moments and check that it ends bit for bit as an uninterrupted one.

One training runs without interruption. A second one is killed at random moments by SIGKILL, SIGTERM
or SIGINT and resumed each time. Then all arrays of the last checkpoints and priors are compared.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gensep.cli.config import parse
from gensep.cli.options import Positional
from gensep.runtime import errors
from gensep.runtime.errors import UserError

if TYPE_CHECKING:
    import numpy as np

TINY = (
    "--batch 4 --frames 32 --width 16 --blocks 2 --validate_every 15 --save_every 5 "
    "--valid_windows 8 --levels 4"
).split()
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the check."""

    work: Positional[str]
    """Folder for data and runs; emptied first."""
    kills: int = 25
    """Number of interruptions."""
    steps: int = 400
    """Updates of the training."""
    seed: int = 0
    """Seed of the random moments."""


def make_data(folder: Path) -> None:
    """Write a data set of spectrograms that are random walks in dB."""
    import numpy as np

    from gensep.datasets.spectrograms import write_dataset
    from gensep.representation.mel import Representation

    rng = np.random.default_rng(0)

    def tracks(n: int) -> Iterator[tuple[str, np.ndarray]]:
        for i in range(n):
            walk = rng.normal(size=(400, 96)).cumsum(0) * 80 - 1000
            yield f"track{i}", walk.clip(-6000, 2000).astype(np.int16)

    write_dataset(folder, {"train": tracks(6), "valid": tracks(2)}, Representation())


def start(c: Config, name: str) -> subprocess.Popen[bytes]:
    """Start or resume the training of run `name`."""
    folders = ["--data", f"{c.work}/data", "--run", f"{c.work}/{name}"]
    command = [sys.executable, "-m", "gensep.train_ncsn", *folders, "--steps", str(c.steps), *TINY]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def leaves(run: Path) -> dict[str, "np.ndarray"]:
    """Return the arrays of the newest checkpoint of a run by their path, and its step."""
    import numpy as np
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager((run / "checkpoints").resolve()) as manager:
        step = manager.latest_step()
        saved = manager.restore(step, args=ocp.args.StandardRestore())
    return {"step": np.array(step)} | {k: np.asarray(v) for k, v in saved.items()}


def main(argv: list[str]) -> None:
    """Run both trainings and compare them."""
    c = parse(Config, argv)
    import numpy as np

    work = Path(c.work)
    shutil.rmtree(work, ignore_errors=True)
    make_data(work / "data")
    began = time.monotonic()
    if start(c, "whole").wait():
        raise UserError("the uninterrupted training failed; run it by hand to see why")
    whole = time.monotonic() - began
    chance, killed, finished = random.Random(c.seed), 0, False
    while not finished:
        process = start(c, "killed")
        wait = chance.uniform(0.0, 1.2 * whole) if killed < c.kills else None
        try:
            finished = process.wait(wait) == 0
            if finished and killed < c.kills:  # it ended before its kill: start again
                shutil.rmtree(work / "killed")
                finished = False
        except subprocess.TimeoutExpired:
            kind = chance.choice(SIGNALS)
            os.killpg(process.pid, kind)
            process.wait()
            killed += 1
            print(f"kill {killed:2d}: {kind.name} after {wait:.2f} s", flush=True)
    one, other = leaves(work / "whole"), leaves(work / "killed")
    same = one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)
    with np.load(work / "whole/prior.npz") as a, np.load(work / "killed/prior.npz") as b:
        same_prior = all(np.array_equal(a[k], b[k]) for k in a.files if k != "header")
    print(
        f"{killed} kills; {len(one)} leaves at step {one['step']} "
        f"{'identical' if same else 'DIFFERENT'}, "
        f"priors {'identical' if same_prior else 'DIFFERENT'}"
    )
    if not (same and same_prior):
        sys.exit(1)


if __name__ == "__main__":
    errors.run(main)
