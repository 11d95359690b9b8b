"""What a command can name: recipes, policies, data and other parts, a line on each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from inspect import cleandoc
from typing import Any

from sc_jax import plugins, recipes, spec
from sc_jax.compressors import COMPRESSORS
from sc_jax.data.sources import SOURCES
from sc_jax.errors import unknown
from sc_jax.exits import policies
from sc_jax.exits.scores import SCORES
from sc_jax.exits.solve import policy_spec
from sc_jax.exits.solve.solvers import SOLVERS
from sc_jax.nets.backbones.registry import BACKBONES
from sc_jax.nets.exit_classifiers.registry import EXIT_CLASSIFIERS
from sc_jax.plan import LINKS, PLANNERS
from sc_jax.runs import zoo
from sc_jax.spec import Parameter
from sc_jax.tasks import TASKS

LISTS: dict[str, Mapping[str, Any]] = {
    "recipes": recipes.RECIPES,
    "policies": SOLVERS,
    "scores": SCORES,
    "backbones": BACKBONES,
    "exit_classifiers": EXIT_CLASSIFIERS,
    "compressors": COMPRESSORS,
    "data": SOURCES,
    "links": LINKS,
    "planners": PLANNERS,
    "tasks": TASKS,
    "zoo": zoo.ZOO,
}
# Of the kinds that take knobs, NAME:knob=value: the knobs of one name.
KNOBS: dict[str, Callable[[str], dict[str, Parameter]]] = {
    "recipes": recipes.knobs_of,
    "policies": policy_spec.knobs_of,
    "zoo": zoo.knobs_of,
}
# Of the kinds whose NAME may be FILE.py:name: what it holds.
FILES: dict[str, Callable[[str], Any]] = {
    "recipes": recipes.find,
    "policies": policies.find,
}


def show(text: str) -> str:
    """The list KIND, or of "KIND:NAME" all that NAME says of itself and its knobs."""
    kind, colon, name = text.partition(":")
    if kind not in LISTS:
        raise unknown("list", kind, LISTS)
    entries = LISTS[kind]
    if not colon:
        more = f"\n--list={kind}:NAME shows the knobs of one." if kind in KNOBS else ""
        return spec.table({n: line(kind, e) for n, e in entries.items()}) + more
    if kind in FILES and plugins.is_file(name):
        entry = FILES[kind](name)
    elif name in entries:
        entry = entries[name]
    else:
        raise unknown(kind, name, entries)
    words = [cleandoc(about(kind, entry))]
    if kind in KNOBS:
        start = f"zoo:{name}," if kind == "zoo" else f"{name}:"
        words += ["", f"Knobs, {start}knob=value,...", spec.detail(KNOBS[kind](name))]
    return "\n".join(words)


def line(kind: str, entry: Any) -> str:
    """The first line of what an entry says of itself."""
    return about(kind, entry).strip().partition("\n")[0]


def about(kind: str, entry: Any) -> str:
    """What an entry says of itself: a recipe by its file, others by their docstring.

    Data without a docstring speaks by its note, the function that it holds (a score by
    its step), or fields.
    """
    if kind == "zoo":
        return zoo.about(entry)
    if kind == "recipes":
        return sys.modules[entry.__module__].__doc__ or ""
    # A partial's docstring is that of `functools.partial`.
    while isinstance(entry, partial):
        entry = entry.func
    if not is_dataclass(entry) or isinstance(entry, type):
        return entry.__doc__ or ""
    values = {f.name: getattr(entry, f.name) for f in fields(entry)}
    if values.get("note"):
        return values["note"]
    for value in values.values():
        if callable(value):
            function = value.func if isinstance(value, partial) else value
            return function.__doc__ or sys.modules[function.__module__].__doc__ or ""
    known = (f"{k}={v:g}" for k, v in values.items() if isinstance(v, int | float))
    return ", ".join(known)
