"""Options of a command, read from the fields of its frozen dataclass.

The annotation of a field says which values are allowed, the string under it is its help:

    @dataclass(frozen=True, kw_only=True)
    class Config(Run):
        prior: Positional[str]
        \"\"\"Shipped name, run folder or prior file.\"\"\"
        n: Count = 32
        \"\"\"Number of samples.\"\"\"
        sampler: Annotated[str, choices("gensep.priors.unconditional:KERNELS")] = "heun"
        \"\"\"Method that turns noise into a sample.\"\"\"

Tables of choices and strings under fields are read from the source, so that `--help` imports
nothing heavy. A field belongs to the group of the first class that has it; the docstring of that
class is the title of the group.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

from gensep.cli.source import strings_under_fields, words_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")  # the options of a command
Field = TypeVar("Field")
Scalar = bool | int | float | str
KINDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


class Choices(NamedTuple):
    """Words that an option takes: "module:TABLE" means the keys of a table."""

    sources: tuple[str, ...]
    closed: bool  # False: other texts are allowed too


class Range(NamedTuple):
    """Limits of a number, both included."""

    low: float
    high: float = math.inf


class Short(NamedTuple):
    """A second, short name of an option, e.g. "-j"."""

    name: str


POSITIONAL = "positional"
Positional = Annotated[Field, POSITIONAL]
Count = Annotated[int, Range(1)]
Fraction = Annotated[float, Range(0, 1)]


def choices(*sources: str) -> Choices:
    """Allow these words only: "module:TABLE" is all keys of a table, "folder/" its subfolders."""
    return Choices(sources, closed=True)


def suggestions(*sources: str) -> Choices:
    """Show and complete these words (see `choices`), but allow any text."""
    return Choices(sources, closed=False)


IMAGE_SETS = "gensep.datasets.images:SETS"
SeparatorName = Annotated[str, suggestions("gensep/assets/separators/")]
PriorName = Annotated[str, suggestions("gensep/assets/priors/")]
DataName = Annotated[str, suggestions(IMAGE_SETS)]
Layout = Annotated[str, choices("auto", "gensep.datasets.layouts:LAYOUTS")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StemFormat:
    """Format of the stems."""

    ext: str = "wav"
    """File format of the stems: wav, flac, ogg or another that libsndfile writes."""
    subtype: str | None = None
    """Sample format, e.g. PCM_16, or same for that of the mixture, where the file format has it; by
    default float for wav, 24 bits for flac."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StemChoice:
    """Which stems are written."""

    targets: tuple[str, ...] = ()
    """Sources to write; by default all."""
    two_stems: str | None = None
    """Write this source, and the mixture without it as no_NAME, and nothing else."""
    residual: bool = False
    """Write one more stem, the mixture without the sources of all other stems; it is called
    accompaniment if vocals are the only source, else residual."""
    aggregate: tuple[str, ...] = ()
    """Write sums of sources in their place, e.g. accompaniment=drums,bass,other."""


class Option(NamedTuple):
    """One field of a config."""

    name: str
    kind: type[Scalar]  # of the value, or of each of several values
    many: bool  # a tuple of values
    optional: bool  # None is allowed
    positional: bool
    words: tuple[str, ...]
    closed: bool  # only `words` are allowed
    range: Range
    short: str
    default: object  # dataclasses.MISSING for a required option
    help: str
    group: str

    @property
    def required(self) -> bool:
        """Whether the option has no default."""
        return self.default is dataclasses.MISSING

    @property
    def flag(self) -> str:
        """The option as it is shown: NAME of a positional argument, else --name."""
        return self.name.upper() if self.positional else f"--{self.name}"

    @property
    def expected(self) -> str:
        """The type in words."""
        if self.words and self.closed:
            return f"{'any' if self.many else 'one'} of {', '.join(self.words)}"
        kind = KINDS[self.kind]
        kind = f"a list of {kind.split(' ', 1)[1]}s" if self.many else kind
        kind = f"{kind} {self.limits}" if self.limits else kind
        return ", e.g. ".join(filter(None, [kind, ", ".join(self.words)]))

    @property
    def limits(self) -> str:
        """The range in words; empty if there is none."""
        low, high = self.range
        if high == math.inf:
            return f"of at least {low:g}" if low > -math.inf else ""
        return f"from {low:g} to {high:g}"


@cache
def options_of(cls: type[Config]) -> Mapping[str, Option]:
    """Return the options of a config type by name, in the order of its fields."""
    hints = typing.get_type_hints(cls, include_extras=True)
    texts: dict[str, str] = {}
    groups: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for name in vars(base).get("__annotations__", {}):
            texts[name] = strings_under_fields(base).get(name) or texts.get(name, "")
            groups.setdefault(name, title(base))
    return {
        f.name: _option(f.name, hints[f.name], f.default, texts[f.name], groups[f.name])
        for f in dataclasses.fields(cls)
    }


def title(cls: type) -> str:
    """Return the first line of a class's docstring, the title of its options in --help."""
    return (cls.__doc__ or "").split("\n")[0].rstrip(".")


def _option(name: str, hint: object, default: object, text: str, group: str) -> Option:
    """Read an annotation: any nesting of Annotated, `| None`, Literal and tuple[X, ...]."""
    marks: list[Any] = []
    many = optional = False
    while not isinstance(hint, type) or typing.get_origin(hint):
        origin, inner = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            marks += inner[1:]
            hint = inner[0]
        elif origin in (types.UnionType, typing.Union):
            optional = True
            hint = next(kind for kind in inner if kind is not type(None))
        elif origin is Literal:
            marks.append(Choices(inner, closed=True))
            hint = str
        elif origin is tuple:
            many, hint = True, inner[0]
        else:
            raise TypeError(f"an option cannot be {hint}: {name}")
    found = {type(mark): mark for mark in marks}
    sources, closed = found.get(Choices, Choices((), closed=False))
    words = tuple(word for source in sources for word in words_of(source))
    limits, (short,) = found.get(Range, Range(-math.inf)), found.get(Short, Short(""))
    position = POSITIONAL in marks
    return Option(
        name, hint, many, optional, position, words, closed, limits, short, default, text, group
    )
