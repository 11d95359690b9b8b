"""Recipes as text: changed by path=value, written as JSON, compared, digested."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import replace
from typing import Any

import flax.linen as nn

from sc_jax import plugins
from sc_jax.errors import UsageError, unknown
from sc_jax.spec import assignment
from sc_jax.tasks import TASKS, Task
from sc_jax.train.recipe import Recipe


def override(recipe: Recipe, text: str) -> Recipe:
    """A copy with `path=value` applied, as in "data.batch_size=64", "phases.0.steps=9".

    The value is a Python literal (or a bare word) of the field's present type; a task
    is its name.
    """
    keys, value = assignment(text, "--set")
    return _replace(recipe, keys, value, ".".join(keys))


def _replace(node: Any, keys: tuple[str, ...], value: Any, path: str) -> Any:
    if not keys:
        # `--set=...=1` of a float is meant as 1.0; the other way round is a mistake.
        if isinstance(node, float) and type(value) is int:
            value = float(value)
        if isinstance(node, Task) and isinstance(value, str):
            value = plugins.find("task", value, TASKS, lambda it: isinstance(it, Task))
        # None says nothing of the type that it stands for.
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
    # Flax's own two fields: set when a module is bound, never by a recipe.
    hidden = ("parent", "name") if isinstance(node, nn.Module) else ()
    return [f.name for f in dataclasses.fields(node) if f.name not in hidden]


def describe(node: Any) -> Any:
    """The JSON form of a recipe or a part: dicts with a "type", lists, literals."""
    if isinstance(node, Task):
        return node.name  # its functions are code, not data
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
    """Twelve hex digits of the JSON of a recipe or a part."""
    # Sorted: two versions may list the same fields in another order.
    every = json.dumps(describe(node), sort_keys=True).encode()
    return hashlib.sha256(every).hexdigest()[:12]


def agrees(saved: Any, node: Any) -> bool:
    """Whether `saved`, JSON of `describe`, is of `node`.

    A field that `saved` does not know yet must stand at its default.
    """
    return difference(saved, node) is None


def difference(saved: Any, node: Any, path: str = "") -> str | None:
    """The first field in which `saved`, JSON of `describe`, is not of `node`.

    As "phases.stage1.steps is 40 there, 20 here"; None where they agree.
    """
    if dataclasses.is_dataclass(node) and not isinstance(node, type | Task):
        return _difference_of_fields(saved, node, path)
    if isinstance(node, tuple | list):
        if not isinstance(saved, list) or len(saved) != len(node):
            there = len(saved) if isinstance(saved, list) else _short(saved)
            return f"{path or 'it'} has {there} items there, {len(node)} here"
        for i, (old, new) in enumerate(zip(saved, node)):
            name = _join(path, getattr(new, "name", None) or str(i))
            if (found := difference(old, new, name)) is not None:
                return found
        return None
    # Through JSON as the saved one was: tuples are lists there, and keys text.
    here = json.loads(json.dumps(describe(node)))
    if saved == here:
        return None
    return f"{path or 'it'} is {_short(saved)} there, {_short(here)} here"


def continues(saved: Any, recipe: Recipe) -> bool:
    """Whether `recipe` is the saved one with a longer last phase, or another context.

    A context codes what is trained: for another one the tables are made again.
    """
    # Not 0: who leaves the setting out would lose what it has saved.
    if recipe.context and isinstance(saved, dict):
        recipe = replace(recipe, context=saved.get("context", 0))
        if agrees(saved, recipe):
            return True
    try:
        steps = saved["phases"][-1]["steps"]
        last = recipe.phases[-1]
    except (KeyError, IndexError, TypeError):
        return False
    if not last.steps > steps:
        return False
    shorter = (*recipe.phases[:-1], replace(last, steps=steps))
    return agrees(saved, replace(recipe, phases=shorter))


def _difference_of_fields(saved: Any, node: Any, path: str) -> str | None:
    kind = type(node).__name__
    if not isinstance(saved, dict) or saved.get("type") != kind:
        there = saved.get("type") if isinstance(saved, dict) else _short(saved)
        return f"{path or 'it'} is {there} there, {kind} here"
    names = field_names(node)
    for unknown_name in sorted(saved.keys() - {"type", *names}):
        return f"{_join(path, unknown_name)} is a field there, none here"
    # A field added since is no difference while it stands at its default.
    fresh = {f.name: f.default for f in dataclasses.fields(node)}
    for name in names:
        here, inside = getattr(node, name), _join(path, name)
        if name in saved:
            if (found := difference(saved[name], here, inside)) is not None:
                return found
        elif here != fresh[name]:
            return f"{inside} is not known there, {_short(describe(here))} here"
    return None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _short(value: Any) -> str:
    text = value.get("type", "") if isinstance(value, dict) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
