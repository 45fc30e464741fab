"""How tests compile: quickly, and nothing twice.

Tests compile much and run little. Their programs, and those of the commands that they start, are
compiled with few optimisations (JAX_DISABLE_MOST_OPTIMIZATIONS=0 runs the tests with all), and
lie in a folder that tests, processes and commands share until the session ends.
"""

import atexit
import os
import shutil
import tempfile

import pytest

# before jax is imported, which reads them then; processes of pytest-xdist inherit them
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    folder = tempfile.mkdtemp(prefix="programs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": folder,
                   "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                   "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}


@pytest.fixture(scope="module")
def optimised():
    """Compile with all optimisations: for programs that run for long."""
    import jax

    before = jax.config.jax_disable_most_optimizations
    jax.config.update("jax_disable_most_optimizations", False)  # noqa: FBT003
    yield
    jax.config.update("jax_disable_most_optimizations", before)
