"""Split computing and early exiting in JAX and Flax.

    import sc_jax

    model = sc_jax.train("entropic_student", "runs/first")
    model = sc_jax.load("runs/first")
    outputs = model(images)

Nothing heavy is imported before it is used. docs/python.md is a tour.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sc_jax.api import Model, build, compare, evaluate, load, train

_PACKAGES = (
    *("codec", "compressors", "data", "deploy", "exits", "losses", "nets", "plan"),
    *("recipes", "runs", "tasks", "traces"),
)

# train and evaluate are packages that can be called (sc_jax.lazy.callable_package).
__all__ = ["Model", "build", "compare", "evaluate", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in (*_PACKAGES, "train", "evaluate"):
        return importlib.import_module(f"sc_jax.{name}")
    if name in __all__:
        return getattr(importlib.import_module("sc_jax.api"), name)
    raise AttributeError(f"module 'sc_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
