"""Import museval on machines without ffmpeg, for scripts and tests that compare with it."""

import importlib
import sys
import types

from gensep.runtime.errors import UserError


def import_museval() -> types.ModuleType:
    """Import museval, also without ffmpeg, which its metrics never use.

    museval imports musdb, which imports stempeg, which raises RuntimeError without ffmpeg. Empty
    modules take the places of these two during the import and are removed afterwards.

    Raises:
        UserError: if museval is not installed.
    """
    before = set(sys.modules)
    try:
        return importlib.import_module("museval")
    except ModuleNotFoundError as error:
        raise UserError(f"museval cannot be imported ({error}); pip install museval") from None
    except RuntimeError:
        pass
    ours = ("museval", "musdb", "stempeg")
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ours:  # modules that the failed import left incomplete
            del sys.modules[name]
    stand_ins = {name: types.ModuleType(name) for name in ours[1:] if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module("museval")
    finally:
        for name in stand_ins:
            del sys.modules[name]
