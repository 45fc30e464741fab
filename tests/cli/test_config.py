"""One dataclass a command: defaults, TOML, command line, and one line for every mistake."""

import dataclasses
import importlib
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from typing import Literal

import pytest

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import UserError
from helpers import ROOT

COMMANDS = sorted(
    f"gensep.{path.stem}" for path in (ROOT / "gensep").glob("*.py") if path.name != "__init__.py"
)


@dataclass(frozen=True)
class Inner:
    """Inherited fields count too."""

    rate: float = option(1e-3, "learning rate")


@dataclass(frozen=True)
class Options(Inner):
    """Every kind of field."""

    files: tuple[str, ...] = option((), "files", positional=True)
    output: str = option(..., "where to", positional=True)
    key: str = option(..., "a required option")
    steps: int = option(10, "how many")
    limit: float | None = option(None, "at most")
    mode: Literal["fast", "best"] = option("fast", "how")
    verbose: bool = option(False, "say more")  # noqa: FBT003
    gains: tuple[float, ...] = option((0.0, -6.0), "dB")
    name: str | None = option(None, "a name")

    def __post_init__(self):
        if self.steps < 0:
            raise ValueError(f"steps must be 0 or more, not {self.steps}")


def parse(*argv):
    return config.parse(Options, list(argv), prog="prog", about="About.")


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
    refused(
        r"unknown option --step; did you mean --steps\? Known: rate, files", *GIVEN, "--step", "3"
    )
    refused("unknown option --zzz Known: ", *GIVEN, "--zzz")
    refused("--key is missing: a required option", "out")
    refused("OUTPUT is missing: where to", "--key", "k")
    with pytest.raises(UserError, match="unexpected argument 'b'; see --help"):
        config.parse(Single, ["a", "b"], prog="p", about="")
    assert config.parse(Single, ["a"], prog="p", about="").only == "a"


@dataclass(frozen=True)
class Single:
    only: str = option("x", "one", positional=True)


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
        ("name = 3", "name must be a text, not 3"),
        ('files = "a"', "files must be a list of texts"),
        ("files = [1]", "files must be a text, not 1"),
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
    refused("prog --print-config", *GIVEN, "--config", str(tmp_path / "none.toml"))
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
        assert lines[0].startswith("usage: prog FILES ... OUTPUT ")
        assert "About." in lines
        for line in (
            ("--steps", "how many", "[10]"),
            ("--mode", "one of fast, best", '["fast"]'),
            ("--key", "a required option", "(a text)"),
        ):
            assert any(all(word in shown for word in line) for shown in lines), line


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_is_whole_and_quick(command):
    """Under half a second, so nothing heavy may be imported: no jax, no audio, no plots."""
    script = (
        f"import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('{command}', run_name='__main__')\n"
        f"finally: print('MODULES', *sys.modules)"
    )
    times = []
    for _ in range(2):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        times.append(time.perf_counter() - began)
    assert done.returncode == 0, done.stderr
    text, _, modules = done.stdout.partition("MODULES")
    heavy = {
        "jax",
        "flax",
        "optax",
        "orbax",
        "tensorflow_datasets",
        "librosa",
        "museval",
        "scipy",
        "matplotlib",
    }
    assert not heavy & set(modules.split())
    cls = importlib.import_module(command).Config
    for field in dataclasses.fields(cls):
        head = field.name.upper() if field.metadata["positional"] else f"--{field.name}"
        assert any(
            line.split()[:1] == [head] and field.metadata["help"] in line
            for line in text.splitlines()
        ), field.name
    assert min(times) < 1.0  # half a second, twice that for a busy machine


@pytest.mark.parametrize("command", COMMANDS)
def test_the_defaults_of_every_command_fit_their_own_types(command):
    cls = importlib.import_module(command).Config
    values = {
        f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING
    }
    needed = {
        f.name: ("x",) if f.name in ("scores", "priors") else "x"
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING
    }
    assert config.build(cls, values | needed) == cls(**needed)
