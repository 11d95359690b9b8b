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

# Files of minutes start first, or one would still run when all else has ended.
LONGEST = (
    *("test_recipes", "test_api", "test_processes", "test_end_to_end", "test_loop"),
    *("test_segments", "test_split_equals_whole", "test_run_folder", "test_exits"),
    *("test_multilabel_run", "test_frozen_stays", "test_exit_backbones"),
)


def pytest_collection_modifyitems(items):
    rank = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


def pytest_collection_finish():
    """Modules live until the end: no later collection of garbage looks at them."""
    gc.collect()
    gc.freeze()
