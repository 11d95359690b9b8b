"""Every test runs on virtual CPU devices and shares compiled programs.

The environment is set before jax loads and so holds for subprocesses too.
"""

import gc
import os
from pathlib import Path

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=2",
    ]
).strip()
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path.home() / ".cache" / "sc_jax" / "xla-tests"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

# Files of minutes start first, or one would still run when all else has ended.
LONGEST = (
    *("test_recipes", "test_api", "test_processes", "test_end_to_end", "test_loop"),
    *("test_segments", "test_split_equals_whole", "test_run_folder", "test_exits"),
    *("test_multilabel_run", "test_frozen_stays", "test_exit_backbones"),
)


@pytest.fixture(scope="session", autouse=True)
def initialiser():
    """First variables are not compiled in any test; yields what compiles them."""
    from quick_init import quick  # where the environment is set: it imports jax

    from sc_jax.nets import run

    with pytest.MonkeyPatch.context() as patch:
        compiling = run._initialiser
        patch.setattr(run, "_initialiser", quick(compiling))
        yield compiling


@pytest.fixture(scope="module")
def compiled_quickly():
    """For a file whose comparisons are all of what it compiles, also in processes."""
    import jax
    from unoptimised import unoptimised

    # Nothing from before, and nothing of this for later files: last bits differ.
    jax.clear_caches()
    with unoptimised(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        yield
    jax.clear_caches()


def pytest_collection_modifyitems(items):
    rank = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


def pytest_collection_finish():
    """Modules live until the end: no later collection of garbage looks at them."""
    gc.collect()
    gc.freeze()
