"""Completion of commands, options, choices and names of priors in bash, zsh and fish.

The shell calls `gensep --complete WORD ...` at every TAB, so that completion never is out of date.
"""

import importlib
import os
from functools import cache
from pathlib import Path

from gensep.cli.options import Option, options_of
from gensep.cli.source import ROOT
from gensep.runtime.errors import UserError
from gensep.runtime.files import write_atomically

# shell -> its script, where it belongs, and what the user may still have to do
SHELLS = {
    "bash": (
        "_gensep() {\n"
        "    local IFS=$'\\n'\n"
        '    COMPREPLY=($(gensep --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))\n'
        "}\n"
        "complete -o default -F _gensep gensep\n",
        ".local/share/bash-completion/completions/gensep",
        "if that has no effect, add 'source {path}' to ~/.bashrc",
    ),
    "zsh": (
        "#compdef gensep\n"
        "local -a found\n"
        'found=("${(@f)$(gensep --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")\n'
        'if [[ -n "$found" ]]; then compadd -a found; else _files; fi\n',
        ".zfunc/_gensep",
        "add 'fpath=(~/.zfunc $fpath); autoload -Uz compinit; compinit' to ~/.zshrc if missing",
    ),
    "fish": (
        "complete -c gensep "
        "-a '(gensep --complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'\n",
        ".config/fish/completions/gensep.fish",
        "nothing else is needed",
    ),
}


@cache
def commands() -> dict[str, Path]:
    """Return the commands by name: the files directly in gensep/."""
    files = sorted((ROOT / "gensep").glob("*.py"))
    return {path.stem: path for path in files if not path.stem.startswith("__")}


def candidates(words: list[str]) -> list[str]:
    """Return what may stand in the place of the last word; nothing if it may be any file."""
    *before, last = words or [""]
    before = [word for word in before if word != "="]  # bash makes three words of --name=value
    last = "" if last == "=" else last
    if not before:
        found = [*commands(), "--help", "--version", "--install-completion"]
    elif before[0] == "--install-completion":
        found = [*SHELLS]
    elif before[0] not in commands():
        return []
    else:
        config = importlib.import_module(f"gensep.{before[0]}").Config
        found = _of_command({o.flag: o for o in options_of(config).values()}, before[1:], last)
    return [word for word in found if word.startswith(last)]


def _of_command(options: dict[str, Option], before: list[str], last: str) -> list[str]:
    """Return all options, or the choices of the option or positional that `last` belongs to."""
    if last.startswith("-"):
        named = [flag for flag in options if flag.startswith("--")]
        return [*named, "--config", "--print-config", "--help"]
    at = max((i for i, word in enumerate(before) if word.startswith("--")), default=-1)
    option = options.get("--" + before[at][2:].replace("-", "_")) if at >= 0 else None
    values = len(before) - at - 1
    if option and (option.many or not values):
        return ["true", "false"] if option.kind is bool else [*option.words]
    return [word for o in options.values() if o.positional for word in o.words]


def install(shell: str | None = None) -> str:
    """Write the completion script of a shell, by default of $SHELL; return what the user is told.

    Raises:
        UserError: for a shell without a script here.
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise UserError(f"shell must be one of {', '.join(SHELLS)}, not '{name}'")
    script, place, advice = SHELLS[name]
    path = Path.home() / place
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, script)
    return f"wrote {path}; open a new {name}; {advice.format(path=path)}"
