"""Every test runs on virtual CPU devices and shares compiled programs.

The environment is set before jax loads and so holds for subprocesses too.
"""

import gc
import os
from functools import partial
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Most programs run once. XLA's older emitters write them in half the time of its fusion
# emitters, and two workers leave no core for a compiler's threads.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=2",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
).strip()
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path.home() / ".cache" / "sc_jax" / "xla-tests"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax
import pytest
from jax._src import compiler

# Their claims are of last bits: compiled as users do. They run first, for a process
# keeps what it has compiled.
OPTIMISED = ("test_split_equals_whole", "test_executors", "test_weights", "test_golden")

# Files of minutes start first, or one would still run when all else has ended.
LONGEST = (
    *("test_recipes", "test_api", "test_processes", "test_end_to_end", "test_loop"),
    *("test_photographs_run", "test_nets", "test_segments", "test_run_folder"),
    *("test_exits", "test_hostile", "test_multilabel_run", "test_exit_backbones"),
)


def pytest_collection_modifyitems(items):
    rank = {name: at for at, name in enumerate((*OPTIMISED, *LONGEST))}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


FLAGS = os.environ["XLA_FLAGS"]
USUAL = {
    "--xla_cpu_use_fusion_emitters": True,
    "--xla_cpu_parallel_codegen_split_count": 32,
}
_options = compiler.get_compile_options


def _own_options(more, *arguments, **named):
    """A program's own options win over XLA_FLAGS, which is read once in a process."""
    options = _options(*arguments, **named)
    options.env_option_overrides = [*options.env_option_overrides, *more]
    return options


USUAL_OPTIONS = partial(_own_options, [(f.lstrip("-"), v) for f, v in USUAL.items()])
# Inits ask for level 1 themselves.
QUICK_OPTIONS = partial(_own_options, [("xla_backend_optimization_level", 0)])
compiler.get_compile_options = QUICK_OPTIONS


@pytest.fixture(scope="module", autouse=True)
def compiled(request):
    """Everything is compiled as its file is to be: see OPTIMISED."""
    quick = request.path.stem not in OPTIMISED
    if jax.config.read("jax_disable_most_optimizations") != quick:
        jax.config.update("jax_disable_most_optimizations", quick)
        compiler.get_compile_options = QUICK_OPTIONS if quick else USUAL_OPTIONS
        # A program of its own begins with them.
        slow = [flag for flag in FLAGS.split() if not flag.startswith((*USUAL,))]
        os.environ["XLA_FLAGS"] = FLAGS if quick else " ".join(slow)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quick))
        jax.clear_caches()


def pytest_collection_finish():
    """Modules live until the end: no later collection of garbage looks at them."""
    gc.collect()
    gc.freeze()
