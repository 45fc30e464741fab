"""The source of the four packages, parsed and not imported."""

import ast

from helpers import ROOT

PACKAGES = ("gensep", "basis", "score", "flows")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def imported(tree, *, top_only=False):
    """List the modules that a tree imports; `from gensep import x` counts as gensep.x.

    Imports inside functions are included unless `top_only`.
    """
    for node in _at_import(tree) if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _at_import(tree):
    """Walk what runs when the module is imported: all but functions and what types need."""
    for node in ast.iter_child_nodes(tree):
        typing = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        if not typing and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _at_import(node)
