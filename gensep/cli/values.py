"""From plain values to a config and back: types, limits, TOML."""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gensep.cli.options import KINDS, Config, Option, options_of
from gensep.runtime.errors import UserError


def build(cls: type[Config], values: Mapping[str, object]) -> Config:
    """Make `cls` from a plain dict.

    Raises:
        UserError: for an unknown or missing key and a value of a wrong type or out of range.
    """
    options = options_of(cls)
    for name in values:
        refuse_unknown(name, options, "key")
    for option in options.values():
        if option.required and option.name not in values:
            raise UserError(f"{option.flag} is missing: {option.help}")
    checked = {name: check(options[name], value) for name, value in values.items()}
    try:
        return cls(**checked)
    except ValueError as error:  # from __post_init__ of the config
        raise UserError(str(error)) from None


def read_toml(path: str | Path, what: str, remedy: str = "") -> dict[str, Any]:
    """Read a TOML file, which messages call `what`.

    Raises:
        UserError: if it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read the {what} {path}: {error.strerror}{remedy}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None


def refuse_unknown(name: str, known: Mapping[str, object], what: str, mark: str = "") -> None:
    """Refuse a name that is not known, with the nearest one that is.

    Raises:
        UserError: "unknown WHAT NAME; did you mean ...?"
    """
    if name in known:
        return
    import difflib  # 10 ms that only a mistake costs

    near = difflib.get_close_matches(name, known, 1)
    others = f"known: {', '.join(known)}" if known else "see --help"
    hint = f"did you mean {mark}{near[0]}?" if near else others
    raise UserError(f"unknown {what} {mark}{name}; {hint}")


def check(option: Option, value: object) -> object:
    """Return a value, as TOML has it, in the type of the option.

    Raises:
        UserError: "NAME must be ..., not VALUE".
    """
    if value is None and option.optional:
        return None
    if not option.many:
        return _check_one(option, value)
    if not isinstance(value, list | tuple):
        raise UserError(f"{option.name} must be {option.expected}, not {value!r}")
    return tuple(_check_one(option, one) for one in value)


def _check_one(option: Option, value: object) -> object:
    name, kind = option.name, option.kind
    if option.closed and value not in option.words:
        raise UserError(f"{name} must be one of {', '.join(option.words)}, not {value!r}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise UserError(f"{name} must be {KINDS[kind]}, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name} must be a finite number, not {value}")
    low, high = option.range
    if isinstance(value, int | float) and not low <= value <= high:
        raise UserError(f"{name} must be {option.limits.removeprefix('of ')}, not {value:g}")
    return value


def words_of_value(value: object) -> list[str]:
    """Return the words that give a value on the command line."""
    many = value if isinstance(value, tuple) else (value,)
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in many]


def to_toml(config: Config) -> str:
    """Return a config as TOML that `--config` reads back; None is left out."""
    return toml_lines({f.name: getattr(config, f.name) for f in dataclasses.fields(config)})


def toml_lines(values: Mapping[str, object]) -> str:
    """Return `name = value` lines of TOML; None is left out."""
    return "".join(f"{k} = {toml_value(v)}\n" for k, v in values.items() if v is not None)


def toml_value(value: object) -> str:
    """Return a bool, number, string or tuple of these as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)
