"""Every test runs on virtual CPU devices and shares compiled programs.

The environment is set before jax loads and so holds for subprocesses too.
"""

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
