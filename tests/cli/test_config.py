"""One dataclass per command: defaults, TOML, command line, and one line for every mistake."""

import tomllib
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from gensep.cli import config
from gensep.cli.options import Positional, Short
from gensep.runtime.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Inherited fields count too."""

    rate: float = 1e-3
    """Learning rate."""


@dataclass(frozen=True, kw_only=True)
class Options(Inner):
    """Every kind of field."""

    files: Positional[tuple[str, ...]] = ()
    """Files."""
    output: Positional[str]
    """Where to."""
    key: str
    """A required option."""
    steps: Annotated[int, Short("-s")] = 10
    """How many."""
    limit: float | None = None
    """At most."""
    mode: Literal["fast", "best"] = "fast"
    """How."""
    verbose: bool = False
    """Say more."""
    gains: tuple[float, ...] = (0.0, -6.0)
    """DB."""
    name: str | None = None
    """A name."""

    def __post_init__(self):
        if self.steps < 0:
            raise ValueError(f"steps must be 0 or more, not {self.steps}")


def parse(*argv):
    return config.parse(Options, list(argv))


GIVEN = ("out", "--key", "k")


def refused(words, *argv):
    with pytest.raises(UserError, match=words) as caught:
        parse(*argv)
    assert "\n" not in str(caught.value)


def test_defaults_positionals_and_types():
    c = parse(*GIVEN)
    assert c == Options(output="out", key="k")
    c = parse(
        "a.wav",
        "b.wav",
        "out",
        "--key=k",
        "--steps",
        "3",
        "--limit",
        "-2.5",
        "--mode",
        "best",
        "--verbose",
        "--gains",
        "1",
        "-2",
        "3e1",
        "--rate",
        "2e-5",
    )
    assert c.files == ("a.wav", "b.wav")
    assert c.output == "out"
    assert c.steps == 3
    assert c.limit == -2.5
    assert c.mode == "best"
    assert c.verbose is True
    assert c.gains == (1.0, -2.0, 30.0)
    assert c.rate == 2e-5
    assert [type(v) for v in (c.steps, c.limit, c.rate, c.gains[0])] == [int, float, float, float]
    assert parse(*GIVEN, "--verbose", "false").verbose is False
    assert parse("--verbose", *GIVEN).verbose is True  # a flag swallows no positional
    assert parse(*GIVEN, "--verbose=true").verbose is True
    assert parse(*GIVEN, "--gains").gains == ()
    assert parse(*GIVEN, "--name=a=b").name == "a=b"
    assert parse(*GIVEN, "-s", "4", "--steps", "5").steps == 5  # the last one counts
    assert parse(*GIVEN, "--gains", "-1", "-s", "4").gains == (-1.0,)
    assert parse("--output", "o", "--key", "k", "x.wav").files == ("x.wav",)


def test_wrong_values_are_refused():
    refused("steps must be an integer, not '1.5'", *GIVEN, "--steps", "1.5")
    refused("rate must be a number, not 'fast'", *GIVEN, "--rate", "fast")
    for odd in ("nan", "inf", "-inf", "1e999"):
        refused("rate must be a finite number", *GIVEN, "--rate", odd)
        refused("limit must be a finite number", *GIVEN, "--limit", odd)
    refused("mode must be one of fast, best, not 'slow'", *GIVEN, "--mode", "slow")
    refused("verbose must be true or false, not 'yes'", *GIVEN, "--verbose=yes")
    refused("gains must be a number, not 'x'", *GIVEN, "--gains", "1", "x")
    refused("--steps needs a value", *GIVEN, "--steps")
    refused("--steps needs a value", *GIVEN, "--steps", "--verbose")
    refused("steps must be 0 or more", *GIVEN, "--steps", "-1")  # from __post_init__
    refused("--config needs the path", *GIVEN, "--config")


def test_unknown_and_missing_names_are_refused():
    refused(r"^unknown option --step; did you mean --steps\?$", *GIVEN, "--step", "3")
    refused("^unknown option --zzz; known: rate, files, output, key", *GIVEN, "--zzz")
    refused("^unknown option -x; did you mean -s|^unknown option -x; known: -s", *GIVEN, "-x")
    refused("--key is missing: A required option", "out")
    refused("OUTPUT is missing: Where to", "--key", "k")
    with pytest.raises(UserError, match="unexpected argument 'b'; see --help"):
        config.parse(Single, ["a", "b"])
    assert config.parse(Single, ["a"]).only == "a"


@dataclass(frozen=True, kw_only=True)
class Single:
    only: Positional[str] = "x"
    """One."""


def test_toml_is_read_and_the_command_line_wins(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        'key = "from file"\noutput = "o"\nrate = 2e-5\nsteps = 7\nlimit = 3\n'
        'files = ["a", "b"]\nverbose = true\ngains = [1, 2.5]\nmode = "best"\n'
    )
    c = parse("--config", str(path), "--steps", "9")
    assert c == Options(
        key="from file",
        output="o",
        rate=2e-5,
        steps=9,
        limit=3.0,
        files=("a", "b"),
        verbose=True,
        gains=(1.0, 2.5),
        mode="best",
    )
    assert type(c.limit) is type(c.gains[0]) is float
    assert parse(f"--config={path}", "--key", "mine").key == "mine"
    c = parse("elsewhere", "--config", str(path))  # the last positional leaves the first its own
    assert (c.files, c.output) == (("a", "b"), "elsewhere")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stepps = 3", r"unknown key stepps; did you mean steps\?"),
        ("steps = 1.0", "steps must be an integer, not 1.0"),
        ("steps = true", "steps must be an integer, not True"),
        ('rate = "2e-5"', "rate must be a number, not '2e-5'"),
        ("rate = nan", "rate must be a finite number"),
        ("rate = inf", "rate must be a finite number"),
        ("verbose = 1", "verbose must be true or false, not 1"),
        ("name = 3", "name must be a string, not 3"),
        ('files = "a"', "files must be a list of strings"),
        ("files = [1]", "files must be a string, not 1"),
        ('mode = ["fast"]', "mode must be one of"),
        ("[rate]\nx = 1", "rate must be a number"),
        ("steps = ", "is not TOML: Invalid value"),
        ("a = 1\na = 2", "is not TOML"),
        (b"\xff\xfe\x00", "is not TOML"),
    ],
)
def test_wrong_toml_is_refused(tmp_path, text, words):
    path = tmp_path / "c.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(words, *GIVEN, "--config", str(path))


def test_a_missing_config_says_how_to_get_one(tmp_path):
    refused(
        "python tests/cli/test_config.py --print-config",
        *GIVEN,
        "--config",
        str(tmp_path / "none.toml"),
    )
    refused("cannot read the config", *GIVEN, "--config", str(tmp_path))


def test_what_is_printed_reads_back(tmp_path, capsys):
    odd = 'a "quoted" back\\slash, täglich'
    argv = [
        "in 1",
        "in 2",
        "out",
        "--key",
        odd,
        "--rate",
        "2e-5",
        "--limit",
        "1e16",
        "--verbose",
        "--gains",
        "-1",
        "--mode",
        "best",
    ]
    with pytest.raises(SystemExit) as done:
        parse(*argv, "--print-config")
    assert not done.value.code
    text = capsys.readouterr().out
    assert tomllib.loads(text)["rate"] == 2e-5
    path = tmp_path / "c.toml"
    path.write_text(text)
    assert parse("--config", str(path)) == parse(*argv)
    assert config.to_toml(parse("--config", str(path))) == text
    assert "name" not in tomllib.loads(text)  # None is left out


def test_print_config_works_before_the_required_options_are_given(capsys):
    from gensep import train_ncsn

    with pytest.raises(SystemExit):
        train_ncsn.main(["--print-config"])
    text = capsys.readouterr().out
    assert "# data =" in text
    assert tomllib.loads(text)["steps"] == train_ncsn.Config(data="d", run="r").steps


def test_names_may_have_hyphens():
    from gensep import train_ncsn

    needed = ["--data", "d", "--run", "r"]
    assert config.parse(train_ncsn.Config, [*needed, "--sigma-min", "0.1"]).sigma_min == 0.1
    assert config.parse(train_ncsn.Config, [*needed, "--sigma-min=0.1"]).sigma_min == 0.1


def test_training_numbers_are_checked():
    from gensep import train_ncsn

    for bad in (["--steps", "0"], ["--sigma_min", "3"], ["--gain_low", "20"]):
        with pytest.raises(UserError, match="expected|at least"):
            train_ncsn.main(["--data", "d", "--run", "r", *bad])


def test_help_lists_every_field_with_meaning_and_default(capsys):
    for argv in (["--help"], ["-h"], ["out", "--steps", "3", "--help"]):
        with pytest.raises(SystemExit) as done:
            parse(*argv)
        assert not done.value.code
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("usage: python tests/cli/test_config.py FILES ... OUTPUT ")
        assert __doc__ in lines
        for line in (
            ("--steps, -s", "How many", "default: 10"),
            ("--mode", "one of fast, best", "default: fast"),
            ("--key", "A required option", "(a string; required)"),
        ):
            assert any(all(word in shown for word in line) for shown in lines), line
