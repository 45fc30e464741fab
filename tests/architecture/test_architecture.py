"""Who may import whom, read from the source without importing anything."""

import ast
import dataclasses
import importlib
import sys

import pytest

from helpers import ROOT
from helpers.source import TREES, imported

LIBRARIES = {
    "basis": {"jax", "numpy"},
    "score": {"jax", "flax", "numpy"},
    "flows": {"jax", "flax", "numpy"},
}
COMMANDS = sorted(
    f"gensep.{path.stem}"
    for path in (ROOT / "gensep").glob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
# comparisons and pictures only; neither training nor separation waits for them to load
SELDOM = {"librosa", "museval", "musdb", "music21", "av"}


def outside(names):
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)


def test_every_file_was_read():
    assert {"basis.mmps", "score.edm", "flows", "gensep", "gensep.separation.sampling"} <= set(
        TREES
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_are_mathematics_only(library):
    """No file, audio or config, and blind to each other and to gensep."""
    for name, tree in TREES.items():
        if name.split(".")[0] == library:
            assert outside(imported(tree)) <= LIBRARIES[library] | {library}, name
            called = {
                node.func.id
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert not called & {"open", "print", "input"}, name


def test_nobody_imports_a_command():
    for name, tree in TREES.items():
        wrong = set(imported(tree)) & set(COMMANDS) - {name}
        assert not wrong, f"{name} imports {wrong}"


def test_what_is_seldom_needed_is_imported_where_it_is():
    for name, tree in TREES.items():
        assert not outside(imported(tree, top_only=True)) & SELDOM, name


def test_commands_are_light_until_they_run():
    """Help may not wait for JAX: neither a command nor what it imports loads it at once."""
    heavy = {
        "jax",
        "flax",
        "optax",
        "orbax",
        "tensorflow_datasets",
        "matplotlib",
        "scipy",
        "basis",
        "score",
        "flows",
    }
    for command in COMMANDS:
        seen, left = set(), [command]
        while left:
            name = left.pop()
            seen.add(name)
            top = set(imported(TREES[name], top_only=True))
            assert not outside(top) & heavy, f"{command} loads {outside(top) & heavy} by {name}"
            left += [n for n in top & set(TREES) if n not in seen]


def test_nothing_is_pickled():
    for name, tree in TREES.items():
        assert not outside(imported(tree)) & {"dill", "joblib", "cloudpickle"}, name
        assert not {n.split(".")[0] for n in imported(tree)} & {"pickle", "shelve", "marshal"}, name
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), name
                assert node.value.value is False, name
            if isinstance(node, ast.Name):
                assert node.id not in ("eval", "exec"), name


def test_there_is_no_global_state_of_chance():
    """Keys and seeds are arguments: no np.random.normal and the like, no import of random."""
    allowed = {"default_rng", "SeedSequence", "Generator"}
    for name, tree in TREES.items():
        assert "random" not in set(imported(tree)), name
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                inner = node.value
                if inner.attr == "random" and getattr(inner.value, "id", "") in ("np", "numpy"):
                    assert node.attr in allowed, f"{name}: np.random.{node.attr}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_read_somewhere(command):
    """The ancestor's config named a step size that no code read."""
    cls = importlib.import_module(command).Config
    near, left = {}, [command]
    while left:  # the command and all that it reaches, for it hands its config on
        name = left.pop()
        near[name] = TREES[name]
        left += [
            n
            for n in set(imported(TREES[name])) & set(TREES)
            if n.startswith("gensep.") and n not in {*near, *left} and ".cli." not in n
        ]
    read = {
        node.attr
        for tree in near.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    read |= {
        word.value
        for tree in near.values()
        for loop in ast.walk(tree)
        if isinstance(loop, ast.comprehension | ast.For | ast.Assign)
        for word in ast.walk(getattr(loop, "iter", None) or loop.value)
        if isinstance(word, ast.Constant)
    }
    unread = {field.name for field in dataclasses.fields(cls)} - read
    assert not unread


def test_modules_say_what_they_are():
    for name, tree in TREES.items():
        assert ast.get_docstring(tree), name
