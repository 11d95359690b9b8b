"""Facades that import nothing until a name is used (PEP 562).

What runs on a device shares packages with what trains: `sc_jax.deploy` must not load
jax because one of its files does.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any


def facade(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package.

    names: module in it -> what the package shows of that module. A name must not be
    that of a module of the package, which an import would put in its place.
    """
    homes = {name: module for module, shown in names.items() for name in shown}

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{homes[name]}")
        return getattr(module, name)

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return __getattr__, __dir__, sorted(homes)


def callable_package(package: str, module: str, name: str) -> None:
    """Lets the package itself be called, as the function `name` of `module`.

    `sc_jax.train(...)` is what a notebook says, and `sc_jax.train` holds the trainer:
    an import of any of its files puts the package where a function would stand.
    """

    class Package(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(module), name)(*args, **kwargs)

    sys.modules[package].__class__ = Package
