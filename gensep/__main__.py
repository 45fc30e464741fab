"""Run a command of gensep by its name: `gensep COMMAND ...`, or `python -m gensep COMMAND ...`.

A command is a file of this folder that has a `main(argv)`. `gensep COMMAND --help` explains one;
`gensep --install-completion [bash|zsh|fish]` makes the shell complete commands and options.
"""

import ast
import importlib
import sys

from gensep.cli.records import __version__
from gensep.cli.source import tree_of
from gensep.cli.values import refuse_unknown
from gensep.runtime import errors


def dispatch(argv: list[str]) -> None:
    """Run the command that the first word names with the words that follow.

    Raises:
        UserError: if there is no such command.
    """
    from gensep.cli.completion import candidates, commands, install

    first, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if first in ("-h", "--help"):
        print("usage: gensep COMMAND [--option VALUE ...]\n")
        for name, path in commands().items():
            about = ast.get_docstring(tree_of(path)) or ""
            print(f"  {name:<18} {about.splitlines()[0]}")
        print("\ngensep COMMAND --help explains a command.")
        print("gensep --install-completion makes bash, zsh or fish complete commands and options.")
    elif first == "--version":
        print(__version__)
    elif first == "--install-completion":
        print(install(rest[0] if rest else None))
    elif first == "--complete":  # called by the shell
        print("\n".join(candidates(rest)))
    else:
        name = first.replace("-", "_")
        refuse_unknown(name, commands(), "command")
        module = importlib.import_module(f"gensep.{name}")
        sys.argv = [str(module.__file__), *rest]
        module.main(rest)


def main() -> None:
    """Run the command line of this process."""
    errors.run(dispatch)


if __name__ == "__main__":
    main()
