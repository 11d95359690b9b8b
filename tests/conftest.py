"""Every test runs on virtual CPU devices and shares compiled programs.

The environment is set before jax loads and so holds for subprocesses too.
"""

import gc
import os
from pathlib import Path

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
# Most programs run once: compiled without optimisation, in half the time.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax
import pytest

# Their claims are of last bits, of seconds or of a runtime's own: compiled as users do.
# They run first, for a process keeps what it has compiled.
OPTIMISED = (
    *("test_split_equals_whole", "test_executors", "test_executors_save"),
    *("test_conformance", "test_priors", "test_weights", "test_golden"),
    *("test_convolution", "test_variable_rate"),
)

# Files of minutes start first, or one would still run when all else has ended.
LONGEST = (
    *("test_recipes", "test_api", "test_processes", "test_end_to_end", "test_loop"),
    *("test_photographs_run", "test_nets", "test_segments", "test_run_folder"),
    *("test_exits", "test_hostile", "test_multilabel_run", "test_exit_backbones"),
)


def pytest_collection_modifyitems(items):
    rank = {name: at for at, name in enumerate((*OPTIMISED, *LONGEST))}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="module", autouse=True)
def compiled(request):
    """Everything is compiled as its file is to be: see OPTIMISED."""
    quick = request.path.stem not in OPTIMISED
    if jax.config.read("jax_disable_most_optimizations") != quick:
        jax.config.update("jax_disable_most_optimizations", quick)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quick))
        jax.clear_caches()


def pytest_collection_finish():
    """Modules live until the end: no later collection of garbage looks at them."""
    gc.collect()
    gc.freeze()
