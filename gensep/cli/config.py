"""One frozen dataclass per command: its defaults, its TOML file and its command line.

`parse` fills the fields of a config (see `gensep.cli.options`) from, in this order, the defaults,
`--config FILE` (TOML) and the command line. Every mistake is refused in one line.
"""

import shutil
import sys
import textwrap
from collections import deque
from collections.abc import Mapping

from gensep.cli.options import KINDS, Config, Option, options_of, title
from gensep.cli.records import prog_of
from gensep.cli.values import build, read_toml, refuse_unknown, to_toml, toml_lines, words_of_value
from gensep.runtime.errors import UserError

Options = Mapping[str, Option]  # by name
COMMON = [
    ("--config", "TOML file of these options; the command line wins over it."),
    ("--print-config", "Print the complete config as TOML and exit."),
    ("--help, -h", "Print this text and exit."),
]


def parse(cls: type[Config], argv: list[str]) -> Config:
    """Build `cls` from the words of a command line; print help or the config and exit if asked.

    Raises:
        UserError: for anything that is unknown, missing, of a wrong type or out of range.
    """
    options = options_of(cls)
    if "-h" in argv or "--help" in argv:
        print(help_text(cls))
        sys.exit(0)
    given, path, show = split(argv, options)
    remedy = f"; '{prog_of(cls)} --print-config' writes a complete one"
    stored = read_toml(path, "config", remedy) if path else {}
    for name in stored:
        refuse_unknown(name, options, "key")
    values = stored | given
    if show:
        print(_complete(cls, values), end="")
        sys.exit(0)
    return build(cls, values)


def split(argv: list[str], options: Options) -> tuple[dict[str, object], str | None, bool]:
    """Return the values given by options and positionals, the path of --config, --print-config."""
    given: dict[str, object] = {}
    loose: list[str] = []
    path, show = None, False
    names = {o.short: f"--{o.name}" for o in options.values() if o.short}
    rest = deque(names.get(word, word) for word in argv)
    while rest:
        word = rest.popleft()
        if not word.startswith("--"):
            if word[:1] == "-" and word[1:2].isalpha():
                refuse_unknown(word, names, "option")
            loose.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name == "print_config":
            show = True
        elif name == "config":
            path = value if equals else rest.popleft() if rest else ""
            if not path:
                raise UserError("--config needs the path of a TOML file")
        else:
            refuse_unknown(name, options, "option", "--")
            words = [value] if equals else _take(options[name], rest)
            given[name] = _typed(options[name], words)
    _place(loose, given, options)
    return given, path, show


def _take(option: Option, rest: deque[str]) -> list[str]:
    """Take the words of an option: all up to the next option, one, or true or false of a flag."""
    words: list[str] = []
    while rest and not rest[0].startswith("--") and (option.many or not words):
        if option.kind is bool and rest[0] not in ("true", "false"):
            break
        words.append(rest.popleft())
    return words


def _place(loose: list[str], given: dict[str, object], options: Options) -> None:
    """Assign loose words to the positionals; a tuple takes all that those after it leave."""
    places = [o for o in options.values() if o.positional and o.name not in given]
    for i, option in enumerate(places):
        take = len(loose) - (len(places) - i - 1) if option.many else min(1, len(loose))
        if take > 0:
            given[option.name] = _typed(option, loose[:take])
            del loose[:take]
    if loose:
        raise UserError(f"unexpected argument '{loose[0]}'; see --help")


def _typed(option: Option, words: list[str]) -> object:
    """Convert the words of a command line to the type of the option."""
    if option.many:
        return tuple(_scalar(option, word) for word in words)
    if not words and option.kind is bool:
        return True
    if not words:
        raise UserError(f"--{option.name} needs a value ({option.expected})")
    return _scalar(option, words[0])


def _scalar(option: Option, word: str) -> object:
    if option.kind is bool and word in ("true", "false"):
        return word == "true"
    if option.kind in (int, float):
        try:
            return option.kind(word)
        except ValueError:
            raise UserError(f"{option.name} must be {KINDS[option.kind]}, not '{word}'") from None
    return word


def _complete(cls: type[Config], values: dict[str, object]) -> str:
    """Return the complete config as TOML; what is required and not given yet is a comment."""
    options = options_of(cls)
    missing = [o for o in options.values() if o.required and o.name not in values]
    if not missing:
        return to_toml(build(cls, values))
    rest = {name: values.get(name, o.default) for name, o in options.items() if o not in missing}
    return "".join(f"# {o.name} =   # required: {o.help}\n" for o in missing) + toml_lines(rest)


def help_text(cls: type[Config]) -> str:
    """Return what --help prints: usage, the docstring of the module, options by groups."""
    options = options_of(cls).values()
    loose = [o.flag + " ..." * o.many for o in options if o.positional]
    about, own = sys.modules[cls.__module__].__doc__ or "", title(cls)
    lines = [f"usage: {' '.join([prog_of(cls), *loose])} [--option VALUE ...]", "", about.strip()]
    groups: dict[str, list[tuple[str, str]]] = {own: []}
    for o in options:
        default = "" if o.required or o.default is None else " ".join(words_of_value(o.default))
        note = "; required" if o.required else f"; default: {default}" if default else ""
        entry = ", ".join(filter(None, [o.flag, o.short])), f"{o.help} ({o.expected}{note})"
        groups.setdefault(o.group, []).append(entry)
    width = max(len(head) for entries in (*groups.values(), COMMON) for head, _ in entries)
    for group, entries in {**groups, "Options of every command": COMMON}.items():
        if entries:
            lines += ["", f"{group}:", *(_entry(head, text, width) for head, text in entries)]
    return "\n".join(lines)


def _entry(head: str, text: str, width: int) -> str:
    columns = min(100, shutil.get_terminal_size((100, 0)).columns)
    wrap = textwrap.TextWrapper(columns, break_long_words=False, break_on_hyphens=False)
    wrap.initial_indent, wrap.subsequent_indent = f"  {head:<{width}}  ", " " * (width + 4)
    return wrap.fill(text)
