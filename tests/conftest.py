"""Fixtures that several files share."""

import os

# tests run in as many processes as there are cores: more threads only stand in each other's way
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen=false {os.environ.get('XLA_FLAGS', '')}"

# arrays of different rank meet only where the code writes the axes out, in subprocesses too
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Keep compiled programs on disk for a module, whose runs compile the same ones."""
    folder = str(tmp_path_factory.mktemp("programs"))
    names = {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in names.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield {name.upper(): str(value) for name, value in names.items()}
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def hasty():
    """Compile with few optimisations: for programs that run for moments only."""
    jax.config.update("jax_disable_most_optimizations", val=True)
    yield
    jax.config.update("jax_disable_most_optimizations", val=False)
    jax.clear_caches()  # other tests compare with processes that compile as users' do
