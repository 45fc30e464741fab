"""The rooms of gensep and their order, read from the source without importing anything."""

import ast

import pytest

from helpers import ROOT
from helpers.source import FILES, PACKAGES, TREES, imported

# A room imports rooms of lower layers only. Commands and gensep/__init__ stand above all of them.
LAYERS = (
    {"runtime"},
    {"cli", "audio"},
    {"representation"},
    {"plots", "inversion", "rendering"},
    {"datasets", "separators"},
    {"priors", "evaluation", "partitions"},
    {"mixtures"},
    {"training", "separation", "listening"},
    {"images"},
)
# Which libraries of mathematics a room may import; rooms that are not named import none.
LIBRARIES = {
    "representation": {"basis"},
    "separators": {"score"},
    "separation": {"basis", "score"},
    "images": {"basis", "score"},
    "training": {"basis", "score", "flows"},
    "priors": {"basis", "score", "flows"},
    "commands": {"score"},
}
ROOMS, NO_ROOMS = set().union(*LAYERS), {"assets", "__pycache__"}
MOST_LINES, MOST_FILES, MOST_FUNCTION_LINES = 300, 16, 60
HEIGHT = {room: height for height, layer in enumerate(LAYERS) for room in layer}
HEIGHT["commands"] = len(LAYERS)


def targets(name):
    """Return the files that a file imports; the room of `from gensep.room import file` is none."""
    found = {module for module in imported(TREES[name]) if module in TREES}
    return {
        module for module in found if FILES[module].name != "__init__.py" or module in (*PACKAGES,)
    } - {name, "gensep"}


def room_of(name):
    parts = name.split(".")
    if parts[0] != "gensep":
        return parts[0]
    return parts[1] if len(parts) > 2 or FILES[name].name == "__init__.py" else "commands"


def violations(edges):
    """Return the imports that run upwards or sideways: pairs (importer, imported)."""
    wrong = []
    for source, target in edges:
        here, there = room_of(source), room_of(target)
        if here == there and here != "commands":
            continue
        if there in PACKAGES:
            wrong += [(source, target)] * (there not in LIBRARIES.get(here, ()))
        elif HEIGHT[there] >= HEIGHT[here]:
            wrong.append((source, target))
    return wrong


EDGES = [(name, target) for name in TREES if name.startswith("gensep.") for target in targets(name)]


def test_rooms_import_lower_rooms_only():
    assert not violations(EDGES)


def test_the_order_would_notice_one_wrong_import():
    for wrong in (
        ("gensep.evaluation.scoring", "gensep.separation.separate"),  # upwards
        ("gensep.cli.config", "gensep.audio.files"),  # beside it
        ("gensep.priors.files", "gensep.basis"),  # a command
        ("gensep.datasets.songs", "basis"),
    ):  # a library that it has no business with
        assert violations([*EDGES, wrong]) == [wrong]


def misplaced(package):
    """Return the folders of a package that are no room, or a folder within a room."""
    wrong = []
    for folder in sorted(p for p in package.iterdir() if p.is_dir()):
        if folder.name not in NO_ROOMS:
            inside = [p for p in folder.iterdir() if p.is_dir() and p.name not in NO_ROOMS]
            wrong += [folder] * (folder.name not in ROOMS or not (folder / "__init__.py").exists())
            wrong += inside
    return [str(folder.relative_to(package)) for folder in wrong]


def test_every_folder_is_a_room_and_rooms_hold_no_folders(tmp_path):
    assert not misplaced(ROOT / "gensep")
    for name in ("audio", "runtime/deeper", "attic", "assets/priors", "__pycache__"):
        (tmp_path / name).mkdir(parents=True)
    for room in ("runtime", "attic"):
        (tmp_path / room / "__init__.py").touch()
    # without an __init__; without a place in LAYERS; a folder within a room
    assert misplaced(tmp_path) == ["attic", "audio", "runtime/deeper"]


def circles(edges):
    """Return the groups of files that import one another (strongly connected components)."""
    graph = {}
    for source, target in edges:
        graph.setdefault(source, set()).add(target)
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            group = [stack.pop()]
            while group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in list(graph):
        if node not in index:
            visit(node)
    return found


def test_no_files_import_one_another_in_a_circle():
    edges = [(name, target) for name in TREES for target in targets(name)]
    assert not circles(edges)
    assert circles([("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]) == [["a", "b", "c"]]


def test_files_rooms_and_functions_stay_small():
    long = {
        name: lines
        for name, path in FILES.items()
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long
    full = {
        room.name: n
        for room in (ROOT / "gensep").iterdir()
        if room.is_dir()
        if (n := len([p for p in room.glob("*.py") if p.name != "__init__.py"])) > MOST_FILES
    }
    assert not full
    tall = [
        f"{name}.{node.name}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
        and name.startswith("gensep")
    ]
    assert not tall


@pytest.mark.parametrize(
    "name", [n for n, p in FILES.items() if p.name == "__init__.py" and n.startswith("gensep.")]
)
def test_a_room_says_what_it_is_for_and_nothing_else(name):
    assert ast.get_docstring(TREES[name])
    assert len(TREES[name].body) == 1
