"""Source separation with generative priors: `gensep.separate(audio, rate, priors=...)`."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gensep.cli.records import __version__

if TYPE_CHECKING:
    from gensep.datasets.layouts import find_songs
    from gensep.datasets.windows import open_windows
    from gensep.evaluation.scoring import score_song
    from gensep.priors.files import load_prior
    from gensep.representation.mel import Representation
    from gensep.runtime.errors import UserError
    from gensep.separation.separate import separate

# public name -> where it is defined; loaded on first use, because most of them import JAX
_PUBLIC = {
    "Representation": "gensep.representation.mel:Representation",
    "UserError": "gensep.runtime.errors:UserError",
    "find_songs": "gensep.datasets.layouts:find_songs",
    "load_prior": "gensep.priors.files:load_prior",
    "open_windows": "gensep.datasets.windows:open_windows",
    "score_song": "gensep.evaluation.scoring:score_song",
    "separate": "gensep.separation.separate:separate",
}
__all__ = [
    "Representation",
    "UserError",
    "__version__",
    "find_songs",
    "load_prior",
    "open_windows",
    "score_song",
    "separate",
]

# Other packages have modules called basis, flows and score, too. Check here that ours are found,
# because another one would fail far from the cause.
for _name in ("basis", "flows", "score"):
    _spec = find_spec(_name)
    _wanted = Path(__file__).resolve().parents[1] / _name / "__init__.py"
    if _spec is None or not _spec.origin or Path(_spec.origin).resolve() != _wanted:
        _found = _spec.origin if _spec else "nothing"
        raise ImportError(
            f"'import {_name}' finds {_found}, gensep needs {_wanted}: rename or "
            "leave that file, or install gensep in an environment of its own"
        )


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'gensep' has no attribute '{name}'")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(import_module(module), attribute)
