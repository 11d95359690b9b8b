"""Frozen dataclasses as JSON and back; what does not fit is one line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from sc_jax import foreign
from sc_jax.errors import Damaged, UsageError, unknown
from sc_jax.writing import writing

R = TypeVar("R")


def record(kind: type[R], content: Any, what: str, parts: Mapping[str, Any]) -> R:
    """The dataclass that a JSON object holds; UsageError for a key unknown or missing.

    parts: by field, what makes its value, or each item of its list.
    """
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(content, dict):
        raise UsageError(f"{what} is a JSON object, not {content!r:.60}")
    for name in content:
        if name not in known:
            raise unknown(f"key of {what}", name, known)
    for name, field in known.items():
        open_ = field.default is MISSING and field.default_factory is MISSING
        if open_ and name not in content:
            raise UsageError(f"{what} lacks the key {name!r}")
        # Annotations are text here, as in every file of this folder.
        kind_of, value = str(field.type), content.get(name)
        if name in content and kind_of.startswith("tuple") != isinstance(value, list):
            want = "a list" if kind_of.startswith("tuple") else "no list"
            raise UsageError(f"{name} of {what} is {want}, not {value!r:.60}")
        if kind_of == "str" and not isinstance(value, str):
            raise UsageError(f"{name} of {what} is text, not {value!r:.60}")
    return kind(**{k: _value(v, parts.get(k)) for k, v in content.items()})


def _value(value: Any, make: Any) -> Any:
    if isinstance(value, list):
        return tuple(_value(item, make) for item in value)
    return value if make is None or value is None else make(value)


def write(path: str | Path, kind: str, version: int, value: Any) -> None:
    """A dataclass as JSON with its kind and format number."""
    content = {"kind": kind, "format": version, **asdict(value)}
    with writing(path):
        Path(path).write_text(json.dumps(content, indent=1) + "\n")


def read(
    path: str | Path, kind: str, version: int, make: Callable[[dict[str, Any]], R]
) -> R:
    """What `make` makes of a JSON of `write`; UsageError names the file."""
    content = foreign.read_json(path, kind)
    if content.pop("kind", None) != kind:
        raise UsageError(f'{path} is no {kind}: its "kind" is another or missing')
    if (found := content.pop("format", None)) != version:
        raise UsageError(
            f"{path}: format {found!r} of a {kind}, this version reads {version}"
        )
    try:
        with foreign.reading(path, kind):
            return make(content)
    except Damaged:
        raise
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def number(
    name: str, value: Any, *, above: float | None = None, negative: bool = False
) -> float:
    """A finite number, 0 or more (or above `above`, or any); else UsageError."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    low = -math.inf if negative else 0.0
    fits = plain and math.isfinite(value) and value >= low
    if not fits or (above is not None and not value > above):
        want = "a finite number" + ("" if negative else ", 0 or more")
        want = want if above is None else f"a finite number above {above:g}"
        raise UsageError(f"{name} is {want}, not {value!r}")
    return value


def column(name: str, values: Any, count: int, holes: bool = False) -> tuple:
    """`count` numbers, 0 or more; holes: None stands for what cannot be."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UsageError(f"{name} is a list of {count} numbers, not {values!r:.60}")
    if len(values) != count:
        raise UsageError(f"{name} has {len(values)} numbers for {count} stages")
    return tuple(
        None if holes and v is None else number(f"{name}[{i}]", v)
        for i, v in enumerate(values)
    )
