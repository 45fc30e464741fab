"""One frozen dataclass a command: its defaults, its TOML file and its command line.

A command states its options as fields made by `option`; `parse` fills them from, in this order,
the defaults, `--config FILE` (TOML) and the command line. Unknown keys, wrong types and values
outside the choices are refused in one line.
"""

import dataclasses
import difflib
import math
import sys
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from gensep.runtime.errors import UserError

Config = TypeVar("Config")


def option(default: Any, help: str, *, positional: bool = False) -> Any:
    """A config field: its default (`...` for a required one) and the meaning `--help` shows."""
    meta = {"help": help, "positional": positional}
    if default is ...:
        return dataclasses.field(metadata=meta, kw_only=True)
    return dataclasses.field(default=default, metadata=meta, kw_only=True)


def parse(cls: type[Config], argv: list[str], *, prog: str, about: str) -> Config:
    """Build `cls` from the command line; print help or the config and exit where asked."""
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    if "-h" in argv or "--help" in argv:
        print(_help(fields, hints, prog, about))
        sys.exit(0)
    given, config, show = _split(argv, fields, hints)
    values = _read_toml(config, fields, prog) if config else {}
    values |= given
    if show:
        print(_complete(cls, values, fields), end="")
        sys.exit(0)
    return build(cls, values)


def build(cls: type[Config], values: dict[str, Any]) -> Config:
    """Make `cls` from a plain dict, checking every key and type."""
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for name in values:
        _known(name, fields)
    for name, f in fields.items():
        if name not in values and f.default is dataclasses.MISSING:
            flag = name.upper() if f.metadata["positional"] else f"--{name}"
            raise UserError(f"{flag} is missing: {f.metadata['help']}")
    checked = {name: _check(name, value, hints[name]) for name, value in values.items()}
    try:
        return cls(**checked)
    except ValueError as error:  # raised by a config's own __post_init__
        raise UserError(str(error)) from None


def to_toml(config: Any) -> str:
    """Write a config so that `--config` reads it back; None and unset keys are left out."""
    values = {k: v for k, v in dataclasses.asdict(config).items() if v is not None}
    return "".join(f"{name} = {_toml_value(value)}\n" for name, value in values.items())


def _complete(cls: Any, values: dict[str, Any], fields) -> str:
    """Give the complete config; what is required and not given yet is a comment."""
    missing = [n for n, f in fields.items() if n not in values and f.default is dataclasses.MISSING]
    if not missing:
        return to_toml(build(cls, values))
    rest = {n: values.get(n, f.default) for n, f in fields.items() if n not in missing}
    lines = [f"# {n} =   # required: {fields[n].metadata['help']}\n" for n in missing]
    return "".join(lines) + "".join(
        f"{n} = {_toml_value(v)}\n" for n, v in rest.items() if v is not None
    )


def _split(argv, fields, hints) -> tuple[dict[str, Any], str | None, bool]:
    """Sort arguments into options and positionals; values keep their text until typed."""
    given: dict[str, Any] = {}
    config, show, loose = None, False, []
    rest = list(argv)
    while rest:
        arg = rest.pop(0)
        if not arg.startswith("--"):
            loose.append(arg)
            continue
        name, equals, value = arg[2:].partition("=")
        name = name.replace("-", "_")
        if name == "print_config":
            show = True
            continue
        words = [value] if equals else []
        if name == "config":
            config = words[0] if words else (rest.pop(0) if rest else None)
            if config is None:
                raise UserError("--config needs the path of a TOML file")
            continue
        _known(name, fields, flag="--")
        if not equals:
            many, flag = _is_tuple(hints[name]), _plain(hints[name]) is bool
            while (
                rest
                and not rest[0].startswith("--")
                and (many or not words)
                and not (flag and rest[0] not in ("true", "false"))
            ):
                words.append(rest.pop(0))
        given[name] = _from_words(name, words, hints[name])
    _place(loose, given, fields, hints)
    return given, config, show


def _place(loose, given, fields, hints) -> None:
    spots = [n for n, f in fields.items() if f.metadata["positional"] and n not in given]
    for name in spots:
        if not loose:
            return
        # a tuple takes all that the positionals behind it leave over
        take = len(loose) - (len(spots) - spots.index(name) - 1) if _is_tuple(hints[name]) else 1
        if take < 1:
            continue
        given[name] = _from_words(name, loose[:take], hints[name])
        del loose[:take]
    if loose:
        raise UserError(f"unexpected argument '{loose[0]}'; see --help")


def _from_words(name: str, words: list[str], hint: Any) -> Any:
    plain = _plain(hint)
    if _is_tuple(hint):
        kind = typing.get_args(plain)[0]
        return tuple(_scalar(name, w, kind) for w in words)
    if plain is bool and not words:
        return True
    if not words:
        raise UserError(f"--{name} needs a value ({_type_name(hint)})")
    return _scalar(name, words[0], plain)


def _scalar(name: str, word: str, kind: Any) -> Any:
    if kind is bool and word in ("true", "false"):
        return word == "true"
    if kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            raise UserError(f"{name} must be {_type_name(kind)}, not '{word}'") from None
    return word


def _read_toml(path: str, fields, prog: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise UserError(
            f"cannot read the config {path}: {error.strerror}; "
            f"'{prog} --print-config' writes a complete one"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    for name in values:
        _known(name, fields)
    return values


def _known(name: str, fields, flag: str = "") -> None:
    if name in fields:
        return
    near = difflib.get_close_matches(name, fields, 1)
    hint = f"; did you mean {flag}{near[0]}?" if near else ""
    raise UserError(
        f"unknown {'option' if flag else 'key'} {flag}{name}{hint} "
        f"Known: {', '.join(fields)}".replace("? Known", "? Known")
    )


def _check(name: str, value: Any, hint: Any) -> Any:
    plain = _plain(hint)
    if value is None and plain is not hint:
        return None
    if typing.get_origin(plain) is typing.Literal:
        choices = typing.get_args(plain)
        if value not in choices:
            raise UserError(f"{name} must be one of {', '.join(map(str, choices))}, not {value!r}")
        return value
    if _is_tuple(hint):
        if not isinstance(value, list | tuple):
            raise UserError(f"{name} must be {_type_name(hint)}, not {value!r}")
        return tuple(_check(name, v, typing.get_args(plain)[0]) for v in value)
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (plain is not bool and isinstance(value, bool)):
        raise UserError(f"{name} must be {_type_name(hint)}, not {value!r}")
    if plain is float and not math.isfinite(value):
        raise UserError(f"{name} must be a finite number, not {value}")
    return value


def _plain(hint: Any) -> Any:
    """`X | None` -> X."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


def _is_tuple(hint: Any) -> bool:
    return typing.get_origin(_plain(hint)) is tuple


def _type_name(hint: Any) -> str:
    plain = _plain(hint)
    if _is_tuple(hint):
        return f"a list of {_type_name(typing.get_args(plain)[0]).split(' ', 1)[-1]}s"
    if typing.get_origin(plain) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(plain)))
    return {int: "an integer", float: "a number", str: "a text", bool: "true or false"}[plain]


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)


def _help(fields, hints, prog: str, about: str) -> str:
    loose = [n for n, f in fields.items() if f.metadata["positional"]]
    shown = [f"{n.upper()} ..." if _is_tuple(hints[n]) else n.upper() for n in loose]
    lines = [
        f"usage: {' '.join([prog, *shown])} [--config FILE] [--option value ...]",
        "",
        about,
        "",
    ]
    for name, f in fields.items():
        head = name.upper() if f.metadata["positional"] else f"--{name}"
        kind = _type_name(hints[name])
        default = f.default
        tail = "" if default in (dataclasses.MISSING, None, ()) else f" [{_toml_value(default)}]"
        lines.append(f"  {head:<18} {f.metadata['help']} ({kind}){tail}")
    lines += [
        "",
        f"  {'--config':<18} a TOML file of these options; the command line wins over it",
        f"  {'--print-config':<18} print the complete config as TOML and exit",
        f"  {'--help':<18} this text",
    ]
    return "\n".join(lines)
