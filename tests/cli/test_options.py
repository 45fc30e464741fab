"""Options as the fields of a dataclass state them: help, choices, limits, groups."""

import ast
import importlib
import re
import typing
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from gensep.cli import config
from gensep.cli.options import (
    Choices,
    Count,
    Fraction,
    Positional,
    Range,
    choices,
    options_of,
    suggestions,
)
from gensep.cli.source import ROOT, words_of
from gensep.runtime.errors import UserError

TABLE = {"one": 1, "two": 2}
LIST = ("three", "four")


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Shared things.

    More text that is no title.
    """

    rate: Fraction = 0.5
    """Learning
    rate."""
    batch: Count = 1
    """Examples per update."""


@dataclass(frozen=True, kw_only=True)
class Own(Shared):
    """Own things."""

    batch: Count = 2
    kind: Annotated[str | None, choices("tests.cli.test_options:TABLE", "five")] = None
    """Kind."""
    kinds: tuple[Annotated[str, choices("tests.cli.test_options:LIST")], ...] = ()
    """Kinds."""
    prior: Positional[Annotated[str, suggestions("gensep/assets/priors/")]] = "x"
    """Prior."""
    mode: Literal["a", "b"] | None = None
    undocumented: int = 3


def refused(words, **values):
    with pytest.raises(UserError, match=words) as caught:
        config.build(Own, values)
    assert "\n" not in str(caught.value)


def test_strings_under_fields_are_their_help_and_classes_their_groups():
    options = options_of(Own)
    assert list(options) == ["rate", "batch", "kind", "kinds", "prior", "mode", "undocumented"]
    assert [o.help for o in options.values()] == [
        "Learning rate.",
        "Examples per update.",
        "Kind.",
        "Kinds.",
        "Prior.",
        "",
        "",
    ]
    assert [o.group for o in options.values()] == ["Shared things"] * 2 + ["Own things"] * 5
    assert options["batch"].default == 2  # overridden, with the help and group of the first
    assert [o.positional for o in options.values()].index(True) == 4


def test_choices_are_checked_in_one_place():
    assert options_of(Own)["kind"].words == ("one", "two", "five")
    assert config.build(Own, {"kind": "five", "kinds": ["four"], "mode": None}).kind == "five"
    refused("^kind must be one of one, two, five, not 'three'$", kind="three")
    refused("^kinds must be one of three, four, not 'one'$", kinds=["three", "one"])
    refused("^mode must be one of a, b, not 'c'$", mode="c")
    assert "piano" in options_of(Own)["prior"].words
    assert config.build(Own, {"prior": "mine.npz"}).prior == "mine.npz"  # suggestions only


def test_limits_are_checked():
    assert config.build(Own, {"rate": 1, "batch": 1}) == Own(rate=1.0, batch=1)
    refused("^batch must be at least 1, not 0$", batch=0)
    refused("^rate must be from 0 to 1, not 1.5$", rate=1.5)
    refused("^rate must be from 0 to 1, not -0.1$", rate=-0.1)


def test_what_cannot_be_an_option_is_a_mistake_of_the_programmer():
    @dataclass(frozen=True, kw_only=True)
    class Odd:
        items: dict[str, int] | None = None

    with pytest.raises(TypeError, match="items"):
        options_of(Odd)
    with pytest.raises(LookupError, match="NONE"):
        words_of("tests.cli.test_options:NONE")


def sources():
    """Find every table that the source of gensep names in `choices` or `suggestions`."""
    for path in sorted((ROOT / "gensep").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if re.fullmatch(r"gensep\.[\w.]+:[A-Z_]+", node.value):
                    yield node.value


@pytest.mark.parametrize("source", sorted(set(sources())))
def test_tables_that_are_read_from_the_source_are_those_that_are_imported(source):
    module, _, name = source.partition(":")
    assert words_of(source) == tuple(getattr(importlib.import_module(module), name))


def test_shipped_priors_are_found():
    from gensep.priors.files import shipped_names

    assert list(words_of("gensep/assets/priors/")) == shipped_names()


def test_marks_are_found_at_any_depth():
    hint = typing.get_type_hints(Own, include_extras=True)["kinds"]
    assert typing.get_origin(hint) is tuple
    assert options_of(Own)["kinds"].closed
    assert isinstance(choices("a"), Choices)
    assert options_of(Own)["batch"].range == Range(1)
