"""All files of a training run; process 0 alone writes them."""

import dataclasses
import json
from pathlib import Path

import jax

from gensep.cli import config
from gensep.cli.records import __version__, write_record
from gensep.runtime.devices import from_first
from gensep.runtime.errors import UserError
from gensep.runtime.files import write_atomically
from gensep.training.checkpoint import Checkpoints
from gensep.training.contract import Learner, TrainState, Validation
from gensep.training.options import Training

# options that may change between the slices of one run
SLICE_KEYS = {"run", "max_minutes", "save_every", "data_dir", "download"}


class RunFolder:
    """Options, log, checkpoints and prior of a run.

    Every process of a job calls the same methods, which touch files on process 0 only.

    Raises:
        UserError: if the folder holds a run with other options.
    """

    def __init__(self, c: Training):
        self.path, self.writes = Path(c.run), jax.process_index() == 0
        if self.writes:
            self._claim(c)
            self._last = Checkpoints(self.path / "checkpoints")
            self._best = Checkpoints(self.path / "best")

    def _claim(self, c: Training) -> None:
        """Write the options of the run, or check that a resumed run has the same."""
        path = self.path / "config.toml"
        if path.exists():
            old = config.parse(type(c), ["--config", str(path)])
            changed = [
                f.name
                for f in dataclasses.fields(c)
                if f.name not in SLICE_KEYS and getattr(old, f.name) != getattr(c, f.name)
            ]
            if changed:
                raise UserError(
                    f"{self.path} was started with another {', '.join(changed)}; give the "
                    "same values to go on, or another --run to start afresh"
                )
            return
        self.path.mkdir(parents=True, exist_ok=True)
        write_record(self.path / "run.json", None, {})
        write_atomically(path, config.to_toml(c))

    def restore(self, first: TrainState[Learner]) -> TrainState[Learner]:
        """Return the newest checkpoint, or `first` if there is none, and open the log after it."""
        if self.writes:
            first = self._last.restore(first) or first
            self._log = Log(self.path, int(first.step))
        return from_first(first)

    def log(self, step: int, row: dict[str, float]) -> None:
        """Append a row to the log."""
        if self.writes:
            self._log.write(step, **row)

    def save(self, step: int, state: TrainState[Learner]) -> None:
        """Save a checkpoint from which the run can go on."""
        if self.writes:
            self._last.save(step, state)

    def save_best(self, step: int, state: TrainState[Learner], found: Validation) -> None:
        """Save the best state so far: what its validation handed over, then a checkpoint."""
        if not self.writes:
            return
        if found.model is not None:
            about = {"step": step, "valid_loss": round(found.score, 5)}
            found.model.write(self.path, gensep=__version__, **about)
        for name, text in found.texts:
            write_atomically(self.path / name, text)
        self._best.save(step, state)

    def close(self, loss_name: str) -> None:
        """Wait for what is being written, and plot the log."""
        if not self.writes:
            return
        from gensep.plots.training import plot_training

        for file in (self._last, self._best, self._log):
            file.close()
        plot_training(self.path / "training.png", read_metrics(self.path), loss_name)


class Log:
    """`metrics.jsonl` and TensorBoard events of a run.

    Rows later than `step`, at which a resumed run goes on, are removed.
    """

    def __init__(self, folder: Path, step: int):
        from tensorboardX import SummaryWriter

        self._path = folder / "metrics.jsonl"
        kept = [row for row in read_metrics(folder) if row["step"] <= step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        write_atomically(self._path, text)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, **values: float) -> None:
        """Append one row of numbers by name."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write the events that wait."""
        self._board.close()


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Return the rows of a run's `metrics.jsonl`; a line cut off by a kill is left out."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
