"""What is written beside every result, so that it can be made again."""

import dataclasses
import json
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gensep.runtime.files import write_atomically

Json = dict[str, Any]  # an object as the json module reads and writes it

__version__ = "0.1.0"
PACKAGES = (
    "gensep",
    "jax",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "soundfile",
    "soxr",
)


def describe() -> str:
    """Give versions and the commit of the source tree as JSON text."""
    return json.dumps({"versions": versions(), "commit": commit()}, indent=1) + "\n"


def versions() -> dict[str, str]:
    """Give the versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """Give the commit of the source tree, marked where it has changes; empty outside git."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "HEAD")
        return head + ("+changes" if head and git("status", "--porcelain", "-uno") else "")
    except FileNotFoundError:
        return ""


def command(config: Any, prog: str) -> str:
    """Give the command line of a config: its positionals, then what differs from the defaults."""
    loose, words = [], []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        many = value if isinstance(value, tuple) else (value,)
        texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in many]
        if f.metadata["positional"]:
            loose += texts
        elif value is not None and value != f.default:
            words += [f"--{f.name}", *texts]
    return shlex.join([*prog.split(), *loose, *words])


def prog_of(config_type: type) -> str:
    """Return how the command whose options are `config_type` is run: "python -m gensep.NAME"."""
    name = config_type.__module__
    spec = getattr(sys.modules.get(name), "__spec__", None)  # under -m the module is __main__
    return f"python -m {spec.name if spec else name}"


def write_record(path: Path, config: Any, facts: Json) -> None:
    """Write `facts` as JSON with all that makes the result again: options, command, versions.

    Args:
        path: of the file, which appears whole or not at all.
        config: options of the command, a dataclass made by `gensep.cli.config`; None where no
            command runs.
        facts: what came out; values must be finite.
    """
    made: Json = {"versions": versions(), "commit": commit()}
    if config is not None:
        made |= {
            "options": dataclasses.asdict(config),
            "command": command(config, prog_of(type(config))),
        }
    text = json.dumps({**facts, **made}, indent=1, allow_nan=False)
    write_atomically(path, text + "\n")
