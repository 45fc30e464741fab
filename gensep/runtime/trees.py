"""Leaves of a tree by their path, for files that do not depend on versions of the libraries."""

import re
from typing import Any, TypeVar

import jax

State = TypeVar("State")


def by_path(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by their path, e.g. `model.net.blocks.0.conv.kernel`.

    orbax can save trees that hold an nnx.List, but cannot restore them; it can restore a flat dict.
    The name that flax gives to the array inside a variable is left out, as it differs by version.
    """
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: tuple) -> str:
    words = re.sub(r"\W+", ".", jax.tree_util.keystr(path)).strip(".")
    return re.sub(r"\._?(raw_)?value$", "", words)


def from_paths(like: State, leaves: dict[str, Any]) -> State:
    """Put leaves by path into a tree of the structure of `like`.

    Raises:
        KeyError: where a leaf is missing.
    """
    found = [leaves[path] for path in by_path(like)]
    return jax.tree.unflatten(jax.tree.structure(like), found)
