"""What is written beside every result, so that it can be made again."""

import dataclasses
import json
import platform
import shlex
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

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
