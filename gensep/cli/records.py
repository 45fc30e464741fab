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

from gensep.cli.options import Config, options_of
from gensep.cli.source import ROOT
from gensep.cli.values import words_of_value
from gensep.runtime.files import write_atomically

Json = dict[str, Any]  # an object as the json module reads and writes it

__version__ = "0.1.0"
PACKAGES = "gensep jax flax optax orbax-checkpoint numpy scipy soundfile soxr"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for name in PACKAGES.split():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """Return the commit of the source tree, with +changes if it has any; empty outside git."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "HEAD")
        return head + ("+changes" if head and git("status", "--porcelain", "-uno") else "")
    except FileNotFoundError:
        return ""


def command(config: Config) -> str:
    """Return the command line that makes a config: its positionals, then what is no default."""
    loose: list[str] = []
    words: list[str] = []
    for option in options_of(type(config)).values():
        value = getattr(config, option.name)
        if option.positional:
            loose += words_of_value(value)
        elif value is not None and value != option.default:
            words += [f"--{option.name}", *words_of_value(value)]
    return shlex.join([*prog_of(type(config)).split(), *loose, *words])


def prog_of(config_type: type) -> str:
    """Return how the file that defines a config is run: "python -m gensep.NAME", or a script."""
    module = sys.modules[config_type.__module__]
    spec = module.__spec__  # under -m the module is __main__, its spec has the name
    if spec and spec.name.startswith("gensep."):
        return f"python -m {spec.name}"
    file = Path(getattr(module, "__file__", None) or "-c").resolve()
    return f"python {file.relative_to(ROOT) if file.is_relative_to(ROOT) else file.name}"


def write_record(path: Path, config: Config | None, facts: Json) -> None:
    """Write `facts` as JSON with what is needed to repeat them: options, command, versions.

    The file appears whole or not at all. Without a command, `config` is None.

    Raises:
        ValueError: if a number is not finite.
    """
    made: Json = {"versions": versions(), "commit": commit()}
    if config is not None:
        made |= {"options": dataclasses.asdict(config), "command": command(config)}
    text = json.dumps({**facts, **made}, indent=1, allow_nan=False)
    write_atomically(path, text + "\n")
