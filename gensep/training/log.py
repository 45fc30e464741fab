"""Metrics of a run: metrics.jsonl and TensorBoard events."""

import json
from pathlib import Path

from gensep.runtime.files import write_atomically


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
