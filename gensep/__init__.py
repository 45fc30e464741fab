"""Source separation with generative priors: `gensep.separate(audio, rate, priors=...)`."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gensep.cli.records import __version__

__all__ = ["__version__", "separate"]

if TYPE_CHECKING:
    from gensep.separation.separate import separate

# Our libraries have names that others use too; a stranger found first would fail far from here.
for _name in ("basis", "flows", "score"):
    _spec = find_spec(_name)
    _wanted = Path(__file__).resolve().parents[1] / _name / "__init__.py"
    if _spec is None or not _spec.origin or Path(_spec.origin).resolve() != _wanted:
        _found = _spec.origin if _spec else "nothing"
        raise ImportError(
            f"'import {_name}' finds {_found}, gensep needs {_wanted}: rename or "
            "leave that file, or install gensep in an environment of its own"
        )


def __getattr__(name: str) -> Any:
    """Load the separator, and JAX with it, on first use."""
    if name == "separate":
        from gensep.separation.separate import separate

        return separate
    raise AttributeError(f"module 'gensep' has no attribute '{name}'")
