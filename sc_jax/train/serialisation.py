"""Recipes as text: changed by path=value, told as JSON, compared, digested."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import replace
from typing import Any

import flax.linen as nn

from sc_jax.errors import UsageError, unknown
from sc_jax.spec import literal
from sc_jax.train.recipe import Recipe


def override(recipe: Recipe, assignment: str) -> Recipe:
    """A copy with `path=value` applied, as in "data.batch_size=64", "phases.0.steps=9".

    The value is a Python literal (or a bare word) of the field's present type.
    """
    path, equals, text = assignment.partition("=")
    if not equals:
        raise UsageError(f"--set takes path=value, got {assignment!r}")
    return _replace(recipe, path.split("."), literal(text), path)


def _replace(node: Any, keys: list[str], value: Any, path: str) -> Any:
    if not keys:
        if isinstance(node, float) and type(value) is int:
            value = float(value)
        if node is not None and type(value) is not type(node):
            kind = type(node).__name__
            raise UsageError(f"--set {path}: {value!r} is not a {kind} (now {node!r})")
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node, tuple):
        names = [getattr(item, "name", "") for item in node]
        index = names.index(key) if key in names else int(key) if key.isdigit() else -1
        if not 0 <= index < len(node):
            raise unknown("field", key, [n or str(i) for i, n in enumerate(names)])
        new = _replace(node[index], rest, value, path)
        return (*node[:index], new, *node[index + 1 :])
    fields = field_names(node)
    if key not in fields:
        raise unknown("field", key, fields)
    return replace(node, **{key: _replace(getattr(node, key), rest, value, path)})


def field_names(node: Any) -> list[str]:
    """Fields of a frozen dataclass or module that are its own data."""
    if not dataclasses.is_dataclass(node):
        return []
    hidden = ("parent", "name") if isinstance(node, nn.Module) else ()
    return [f.name for f in dataclasses.fields(node) if f.name not in hidden]


def describe(node: Any) -> Any:
    """The JSON form of a recipe or a part: dicts with a "type", lists, literals."""
    if isinstance(node, functools.partial):
        return {"type": node.func.__name__, **describe(node.keywords)}
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        fields = {name: describe(getattr(node, name)) for name in field_names(node)}
        return {"type": type(node).__name__, **fields}
    if isinstance(node, dict):
        return {str(key): describe(value) for key, value in node.items()}
    if isinstance(node, tuple | list | frozenset):
        return [describe(item) for item in node]
    if node is None or isinstance(node, str | int | float | bool):
        return node
    return getattr(node, "__name__", repr(node))


def digest(node: Any) -> str:
    """Twelve hex digits of all that `describe` tells of a recipe or a part."""
    every = json.dumps(describe(node), sort_keys=True).encode()
    return hashlib.sha256(every).hexdigest()[:12]


def agrees(saved: Any, node: Any) -> bool:
    """Whether `saved`, JSON of `describe`, is of `node`.

    A field that `saved` does not know yet must stand at its default.
    """
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        names = field_names(node)
        if not isinstance(saved, dict) or saved.get("type") != type(node).__name__:
            return False
        if not saved.keys() <= {"type", *names}:
            return False
        fresh = {f.name: f.default for f in dataclasses.fields(node)}
        return all(
            agrees(saved[name], getattr(node, name))
            if name in saved
            else getattr(node, name) == fresh[name]
            for name in names
        )
    if isinstance(node, tuple | list):
        same_length = isinstance(saved, list) and len(saved) == len(node)
        return same_length and all(map(agrees, saved, node))
    return saved == json.loads(json.dumps(describe(node)))
