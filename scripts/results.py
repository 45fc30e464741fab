"""Where benchmarks write: tables for readers, and the raw rows behind them as compact JSON."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "docs" / "results"


def raw_file(output: str | Path) -> Path:
    """Return the file of the raw rows that belong to the table OUTPUT.md, and make its folder.

    Tables in docs/results keep their rows apart, in docs/results/data; those of any other table
    stand beside it, in OUTPUT.json.
    """
    output = Path(output)
    path = output.with_name(f"{output.name}.json")
    if path.resolve().is_relative_to(RESULTS.resolve()):
        path = RESULTS / "data" / path.resolve().relative_to(RESULTS.resolve())
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def compact(record: dict[str, Any]) -> str:
    """Return `record` as strict JSON with one line per key and one per element of a list."""

    def lines(value: Any) -> str:
        if not isinstance(value, list) or not value:
            return json.dumps(value, allow_nan=False)
        return "[\n" + ",\n".join(json.dumps(v, allow_nan=False) for v in value) + "\n]"

    return "{\n" + ",\n".join(f"{json.dumps(k)}: {lines(v)}" for k, v in record.items()) + "\n}\n"
