"""Source separation with generative priors: `gensep.separate(audio, rate, priors=...)`."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gensep.cli.records import __version__

if TYPE_CHECKING:
    from gensep.datasets.layouts import find_songs as find_songs
    from gensep.datasets.windows import open_windows as open_windows
    from gensep.evaluation.scoring import score_song as score_song
    from gensep.priors.files import load_prior as load_prior
    from gensep.representation.mel import Representation as Representation
    from gensep.runtime.errors import UserError as UserError
    from gensep.separation.separate import separate as separate

# public name -> the file that defines it; loaded on first use, because most of them import JAX
_PUBLIC = {
    "Representation": "gensep.representation.mel",
    "UserError": "gensep.runtime.errors",
    "find_songs": "gensep.datasets.layouts",
    "load_prior": "gensep.priors.files",
    "open_windows": "gensep.datasets.windows",
    "score_song": "gensep.evaluation.scoring",
    "separate": "gensep.separation.separate",
}
__all__ = ["__version__", *_PUBLIC]

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


class _Package(ModuleType):
    """The package: a command of the name of a public function does not take its place."""

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; leave a public name as it is when a module of its name is imported."""
        if name not in _PUBLIC or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'gensep' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)
