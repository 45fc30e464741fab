"""Facts read from source text, so that `--help` and completion import nothing heavy."""

import ast
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def words_of(source: str) -> tuple[str, ...]:
    """Return the keys of "module:TABLE" (a dict, tuple or list display), or names in "folder/".

    The module is read, not imported. Any other text is a word itself.

    Raises:
        LookupError: if the module has no such table.
    """
    if source.endswith("/"):
        if not (ROOT / source).is_dir():
            return ()
        return tuple(sorted(path.name for path in (ROOT / source).iterdir() if path.is_dir()))
    module, colon, table = source.partition(":")
    if not colon:
        return (source,)
    for node in tree_of(ROOT.joinpath(*module.split(".")).with_suffix(".py")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if table in [target.id for target in targets if isinstance(target, ast.Name)]:
                value = node.value
                keys = value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", [])
                return tuple(ast.literal_eval(key) for key in keys if key)
    raise LookupError(f"no table {source}")


@cache
def strings_under_fields(cls: type) -> dict[str, str]:
    """Return the string that follows each field in the source of a class."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if cls is object or not file:
        return {}
    texts = {}
    for node in ast.walk(tree_of(Path(file))):
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
            for field, after in zip(node.body, node.body[1:], strict=False):
                match field, after:
                    case ast.AnnAssign(ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                        texts[name] = " ".join(text.split())
    return texts


@cache
def tree_of(path: Path) -> ast.Module:
    """Parse a file of Python."""
    return ast.parse(path.read_text(encoding="utf-8"))
