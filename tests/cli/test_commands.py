"""Every command: its help, its defaults; `gensep COMMAND`; completion in a shell."""

import dataclasses
import importlib
import os
import resource
import subprocess
import sys

import pytest

from gensep.cli import config
from gensep.cli.completion import candidates, commands, install
from gensep.cli.options import options_of
from gensep.cli.source import ROOT
from gensep.runtime.errors import UserError

COMMANDS = [f"gensep.{name}" for name in commands()]
HEAVY = {"jax", "flax", "optax", "orbax", "tensorflow_datasets", "librosa", "museval", "scipy"}
HEAVY |= {"matplotlib", "basis", "score", "flows"}


def gensep(*argv, **environment):
    """Run `python -m gensep`."""
    command = [sys.executable, "-m", "gensep", *argv]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def seconds():
    """Return the processor time of all children; other work on the machine does not add to it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_is_whole_and_quick(command):
    """Under half a second of processor time, so nothing heavy may be imported."""
    script = (
        f"import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('{command}', run_name='__main__', alter_sys=True)\n"
        f"finally: print('MODULES', *sys.modules)"
    )
    times = []
    for _ in range(2):
        began = seconds()
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        times.append(seconds() - began)
        if times[-1] < 0.5:
            break  # a second try only on a busy machine
    assert done.returncode == 0, done.stderr
    text, _, modules = done.stdout.partition("MODULES")
    assert not HEAVY & set(modules.split())
    module = importlib.import_module(command)
    assert text.startswith(f"usage: python -m {command} ")
    assert module.__doc__.strip() in text
    lines, words = text.splitlines(), " ".join(text.split())
    for option in options_of(module.Config).values():
        assert option.help.endswith("."), option.name
        assert option.help in words, option.name
        assert any(line.split()[:1] in ([option.flag], [f"{option.flag},"]) for line in lines)
        assert f"{option.group}:" in lines
    assert min(times) < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_the_defaults_of_every_command_fit_their_own_types(command):
    cls = importlib.import_module(command).Config
    options = options_of(cls).values()
    values = {o.name: o.default for o in options if not o.required}
    words = {o.name: o.words[0] if o.closed else "x" for o in options if o.required}
    needed = {o.name: (words[o.name],) if o.many else words[o.name] for o in options if o.required}
    assert config.build(cls, values | needed) == cls(**needed)
    assert set(values | needed) == {f.name for f in dataclasses.fields(cls)}


def test_gensep_lists_the_commands():
    for argv in ([], ["--help"], ["-h"]):
        done = gensep(*argv)
        assert done.returncode == 0, done.stderr
        for name in commands():
            about = importlib.import_module(f"gensep.{name}").__doc__.splitlines()[0]
            assert f"  {name:<18} {about}" in done.stdout.splitlines()
    assert set(commands()) >= {"basis", "evaluate", "train_ncsn"}
    assert not {"__init__", "__main__"} & set(commands())


def test_gensep_runs_a_command_and_hands_on_its_exit_code(tmp_path):
    done = gensep("bassis")
    assert done.returncode == 2
    assert done.stderr == "error: unknown command bassis; did you mean basis?\n"
    done = gensep("basis", str(tmp_path / "none.wav"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    done = gensep("train-ncsn", "--data", "d", "--run", "r", "--print-config")
    assert done.returncode == 0
    assert done.stdout == subprocess.run(
        [sys.executable, "-m", "gensep.train_ncsn", "--data", "d", "--run", "r", "--print-config"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout  # fmt: skip
    assert gensep("--version").stdout.strip()


def test_completion_knows_commands_options_choices_and_priors():
    assert candidates(["train_n"]) == ["train_ncsn", "train_noisy_glow"]
    assert candidates([]) == [*commands(), "--help", "--version", "--install-completion"]
    assert candidates(["basis", "--pr"]) == ["--priors", "--preset", "--print-config"]
    assert candidates(["basis", "--preset", ""]) == ["fast", "default", "best"]
    assert candidates(["basis", "--preset", "="]) == ["fast", "default", "best"]
    assert candidates(["basis", "--preset", "=", "b"]) == ["best"]
    assert candidates(["basis", "--save-masks", "t"]) == ["true"]
    assert candidates(["basis", "a.wav", "--priors", "piano", "v"]) == ["violin"]
    assert candidates(["basis", "--uncertainty", ""]) == ["true", "false"]
    assert candidates(["basis", "--output", ""]) == []  # any file
    assert candidates(["basis", "--seed", "1", "x"]) == []
    assert candidates(["sample", "cl"]) == ["clarinet"]
    assert candidates(["sample", "--seed", "1", "cl"]) == ["clarinet"]
    assert candidates(["train_ncsn", "--data", "m"]) == ["mnist"]
    assert candidates(["nothing", ""]) == []
    assert candidates(["--install-completion", "f"]) == ["fish"]


def test_bash_completes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/usr/bin/bash")
    assert "open a new bash" in install()
    script = tmp_path / ".local/share/bash-completion/completions/gensep"
    (tmp_path / "gensep").write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m gensep "$@"\n'
    )
    (tmp_path / "gensep").chmod(0o755)

    def complete(*words):
        line = " ".join(f'"{word}"' for word in words)
        shell = f'source "{script}"; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _gensep; '
        done = subprocess.run(
            ["bash", "-c", shell + 'printf "%s\\n" "${COMPREPLY[@]}"'],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        )
        assert not done.stderr
        return done.stdout.split()

    assert complete("gensep", "ba") == ["basis", "basis_images"]
    assert complete("gensep", "basis", "--save") == ["--save_masks"]
    assert complete("gensep", "basis", "--priors", "piano", "sax") == ["saxophone"]
    assert complete("gensep", "basis", "no such") == []
    listed = subprocess.run(
        ["bash", "-c", f'source "{script}"; complete -p gensep'], capture_output=True, text=True
    )
    assert listed.stdout.split()[-3:] == ["-F", "_gensep", "gensep"]


def test_other_shells_get_a_script_and_unknown_ones_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for shell, place in (
        ("zsh", ".zfunc/_gensep"),
        ("fish", ".config/fish/completions/gensep.fish"),
    ):
        install(shell)
        assert "gensep --complete" in (tmp_path / place).read_text()
    with pytest.raises(UserError, match="^shell must be one of bash, zsh, fish, not 'tcsh'$"):
        install("tcsh")
    monkeypatch.delenv("SHELL", raising=False)
    with pytest.raises(UserError, match="not ''"):
        install()


def test_public_names_are_loaded_on_first_use():
    script = (
        "import sys, gensep\n"
        "assert 'jax' not in sys.modules\n"
        "for name in gensep.__all__: getattr(gensep, name)\n"
        "assert set(gensep._PUBLIC) | {'__version__'} == set(gensep.__all__)\n"
        "from gensep import separate, UserError\n"
        "assert separate.__module__ == 'gensep.separation.separate'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    import gensep as package

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
