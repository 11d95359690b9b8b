"""Parts of one's own: `FILE.py:name` serves wherever a registered name does."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from sc_jax.errors import UsageError, unknown


def is_file(text: str) -> bool:
    """Whether the text names a Python file, as FILE.py or FILE.py:name."""
    return text.partition(":")[0].endswith(".py")


def find(
    kind: str,
    text: str,
    registry: Mapping[str, Any],
    needs: Callable[[Any], bool] = callable,
) -> Any:
    """`registry[text]`, or what FILE.py:name holds; UsageError lists the known."""
    if is_file(text):
        return from_file(kind, text, needs)
    if text not in registry:
        raise unknown(kind, text, (*registry, "FILE.py:name"))
    return registry[text]


def from_file(kind: str, text: str, needs: Callable[[Any], bool] = callable) -> Any:
    """What `name` is in FILE.py of "FILE.py:name"; "FILE.py" alone means its stem.

    `needs`: whether an object can be a `kind` ("backbone", "codec", ...): other
    objects, absent names and files that do not load are UsageErrors of one line.
    """
    path, _, name = text.partition(":")
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"no {kind} file {file}")
    name = name or file.stem
    found = getattr(_module(file.resolve()), name, None)
    if found is None or not needs(found):
        raise UsageError(f"{file} has no {kind} {name}")
    return found


def text_of(part: Any, registry: Mapping[str, Any]) -> str:
    """What `find` knows a class by: its registered name, or FILE.py:name."""
    for name, registered in registry.items():
        if registered is part:
            return name
    return f"{sys.modules[part.__module__].__file__}:{part.__qualname__}"


@lru_cache
def _module(file: Path) -> ModuleType:
    """The file as a module, executed once: its classes are compared by identity."""
    # Dataclasses, and so Flax modules, look their own module up by this name.
    name = f"sc_jax file {file}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # the suffix is .py
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        # Half a module must not be found by the next who looks.
        del sys.modules[name]
        kind = type(error).__name__
        raise UsageError(f"{file} does not load: {kind}: {error}") from error
    return module
