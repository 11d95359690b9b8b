"""The one grammar of the command line, and the check of what it reads.

    NAME:knob=value,knob=value   recipes, policies, compressors       parse
    NAME:word,word               data sets, sweeps, --list            words
    path=value                   --set                                assignment
    [NAME=]PATH                  what is served, or compared          named
    0.9,0.8                      thresholds                           numbers

NAME is registered, or FILE.py:function of one's own, or zoo:NAME with a comma behind
it, a published student. A value is a Python literal, or
the text itself where it is none; a comma inside a value stays there, as in
`thresholds=(0.9,0.8)` and `data=folder:TRAIN,TEST`.

What a knob means and its range stand beside its default, in the one signature:

    def mine(*, beta: Annotated[float, Knob("weight of a bit", at_least=0)] = 1e-4)

`check` refuses what does not fit in one line, `table` and `detail` print the lists.
"""

from __future__ import annotations

import ast
import inspect
import math
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from sc_jax.errors import UsageError, unknown


@dataclass(frozen=True)
class Knob:
    """One line of help and a range, for `Annotated`; a tuple's range is its items'."""

    help: str = ""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: Iterable[str] = ()  # of a word, when they are keys of a registry

    def holds(self, number: float) -> bool:
        """Whether the number is finite and within the range."""
        return (
            math.isfinite(number)
            and (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
        )

    @property
    def range(self) -> str:
        """The range in words, "" where every finite number will do."""
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:g} to {self.at_most:g}"
        low = f"{self.at_least:g} or more" if self.at_least is not None else ""
        low = f"above {self.above:g}" if self.above is not None else low
        high = f"at most {self.at_most:g}" if self.at_most is not None else ""
        high = f"below {self.below:g}" if self.below is not None else high
        return ", ".join(filter(None, (low, high)))


@dataclass(frozen=True)
class Parameter:
    """A knob as its function's signature has it."""

    name: str
    type: Any
    default: Any
    knob: Knob

    @property
    def values(self) -> str:
        """What a value may be, as "a whole number, 1 or more"."""
        return _values(self.type, self.knob)


# Reading


def literal(text: str) -> Any:
    """A Python literal, or the text itself where it is none (a bare word)."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parse(text: str, kind: str = "spec") -> tuple[str, dict[str, Any]]:
    """ "name:knob=value,knob=value" -> (name, knobs); UsageError names the `kind`."""
    name, colon, rest = _name(text)
    knobs: dict[str, str] = {}
    last = ""
    for piece in rest.split(",") if colon else ():
        word, equals, value = piece.partition("=")
        word = word.strip()
        if equals and word.isidentifier() and word not in knobs:
            last, knobs[word] = word, value
        # No knob's name: a comma of the value before, as in thresholds=(0.9,0.8).
        elif last and not (equals and word.isidentifier()):
            knobs[last] += "," + piece
        else:
            raise UsageError(
                f"a {kind} is NAME:knob=value,..., each knob once, not {text!r}"
            )
    values = {knob: literal(value.strip()) for knob, value in knobs.items()}
    return name.strip(), values


def _name(text: str) -> tuple[str, str, str]:
    """Name, colon and the rest; FILE.py is a whole path and may have a :function.

    Of "zoo:NAME,..." the name is zoo:NAME, and the comma what stands behind it.
    """
    name, colon, rest = text.partition(":")
    if name.strip() == "zoo" and colon:
        student, comma, rest = rest.partition(",")
        return f"zoo:{student.strip()}", comma, rest
    if not name.strip().endswith(".py"):
        return name, colon, rest
    # Absolute: the spec is kept with the run and read again from elsewhere.
    name = str(Path(name.strip()).expanduser().resolve())
    function, more, behind = rest.partition(":")
    if function.strip().isidentifier():
        return f"{name}:{function.strip()}", more, behind
    return name, colon, rest


def words(text: str, kind: str = "spec") -> tuple[str, tuple[str, ...]]:
    """ "name:word,word" -> (name, words); none without a colon, empty ones refused."""
    name, colon, rest = text.partition(":")
    found = tuple(word.strip() for word in rest.split(",")) if colon else ()
    if not name.strip() or not all(found):
        raise UsageError(f"a {kind} is NAME:value,value, not {text!r}")
    return name.strip(), found


def assignment(text: str, kind: str) -> tuple[tuple[str, ...], Any]:
    """ "a.b.c=value" -> (("a", "b", "c"), literal)."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise UsageError(f"{kind} takes path=value, got {text!r}")
    return tuple(path.strip().split(".")), literal(value.strip())


def named(text: str, kind: str) -> tuple[str, str]:
    """ "NAME=PATH" -> (NAME, PATH), "PATH" -> ("", PATH).

    A text that is itself a path (of a sweep: runs/curve/bits=4) has no name.
    """
    name, equals, path = text.partition("=")
    # A sweep's folders are called knob=value: what exists is a path.
    if not equals or Path(text).exists():
        return "", text
    if not name or not path:
        raise UsageError(f"{kind} takes [NAME=]PATH, not {text!r}")
    return name, path


def numbers(items: Iterable[str], kind: str) -> tuple[float, ...]:
    """Words as finite numbers; UsageError names the first that is none."""
    found = tuple(map(literal, items))
    for number in found:
        if not _fits(number, float, Knob()):
            raise UsageError(f"{kind}: {number!r} is not a number")
    return found


def integers(items: Iterable[str], kind: str) -> tuple[int, ...]:
    """Words as whole numbers above 0; UsageError names the first that is none."""
    found = numbers(items, kind)
    for number in found:
        if number != int(number) or number < 1:
            raise UsageError(f"{kind}: {number:g} is not a whole number above 0")
    return tuple(map(int, found))


# Checking


def knobs_of(function: Callable, skip: int = 0) -> dict[str, Parameter]:
    """The knobs of a function's signature, without its first `skip` parameters."""
    # Annotations are text under `from __future__ import annotations`; those of a class
    # in the words of the module of each of its bases, which eval_str does not look up.
    of_class = isinstance(function, type)
    hints = get_type_hints(function, include_extras=True) if of_class else {}
    every = list(inspect.signature(function, eval_str=not of_class).parameters.values())
    found = {}
    for each in every[skip:]:
        if each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL):
            continue
        kind, knob = hints.get(each.name, each.annotation), Knob()
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            knob = next((m for m in more if isinstance(m, Knob)), knob)
        found[each.name] = Parameter(each.name, kind, each.default, knob)
    return found


def check(kind: str, known: Mapping[str, Parameter], values: Mapping[str, Any]) -> None:
    """UsageError in one line for the first unknown knob or value that does not fit.

    kind: what takes the knobs, as "recipe ghnd".
    """
    for name, value in values.items():
        if name not in known:
            raise unknown(f"knob of {kind}", name, known or ("none",))
        check_value(kind, known[name], value)
    for name, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and name not in values:
            raise UsageError(f"{kind} needs {name}={parameter.values}")


def check_value(kind: str, parameter: Parameter, value: Any) -> None:
    """UsageError "KIND: KNOB is RANGE, not VALUE" where the value does not fit."""
    choices, name = _choices(parameter.type, parameter.knob), parameter.name
    if isinstance(value, str) and choices:
        # FILE.py:function stands wherever a registered name does.
        if value not in choices and not (parameter.knob.choices and ".py" in value):
            raise unknown(f"{name} of {kind}", value, choices)
    elif not _fits(value, parameter.type, parameter.knob):
        raise UsageError(f"{kind}: {name} is {parameter.values}, not {value!r}")


def _parts(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _choices(kind: Any, knob: Knob) -> tuple[str, ...]:
    named = [c for p in _parts(kind) if get_origin(p) is Literal for c in get_args(p)]
    return (*named, *knob.choices)


def _fits(value: Any, kind: Any, knob: Knob) -> bool:
    return any(_fits_one(value, each, knob) for each in _parts(kind))


def _fits_one(value: Any, kind: Any, knob: Knob) -> bool:
    if kind in (inspect.Parameter.empty, Any):
        return True
    if kind is types.NoneType or kind is None:
        return value is None
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    base = get_origin(kind) or kind
    if base is tuple:
        items = get_args(kind) or (float, ...)
        return isinstance(value, tuple) and all(_fits(v, items[0], knob) for v in value)
    if base in (int, float):
        types_ = (int, float) if base is float else int
        # True is an int for Python, and no number of epochs.
        is_number = isinstance(value, types_) and not isinstance(value, bool)
        return is_number and knob.holds(value)
    # A type that cannot be checked at run time is left to the function.
    return isinstance(value, base) if isinstance(base, type) else True


def _values(kind: Any, knob: Knob) -> str:
    said = []
    for each in _parts(kind):
        base = get_origin(each) or each
        if base is Literal:
            said.append(" or ".join(map(str, get_args(each))))
        elif base in (int, float):
            name = "a whole number" if base is int else "a number"
            said.append(f"{name}, {knob.range}" if knob.range else name)
        elif base is tuple:
            said.append("numbers in brackets" + (f", {knob.range}" * bool(knob.range)))
        elif base is types.NoneType:
            said.append("None")
        elif base is bool:
            said.append("True or False")
        elif base is str:
            choices = tuple(knob.choices)
            few = ", ".join(choices) if len(choices) <= 6 else "a name"
            said.append(few or "text")
        else:
            said.append(getattr(base, "__name__", str(base)))
    return " or ".join(said)


# Listing


def table(lines: Mapping[str, str], columns: int = sys.maxsize) -> str:
    """The name, then its line, which goes on below itself past `columns`."""
    width = max(map(len, lines), default=0)
    form = {"width": columns, "subsequent_indent": " " * (width + 4)}
    return "\n".join(
        textwrap.fill(f"  {name:{width}}  {line}", **form).rstrip()
        for name, line in lines.items()
    )


def detail(known: Mapping[str, Parameter]) -> str:
    """One line a knob: its default, what a value may be, what it does."""
    rows = []
    for name, each in known.items():
        empty = each.default is inspect.Parameter.empty
        start = name if empty else f"{name}={each.default}"
        rows.append((start, each.values, each.knob.help))
    width = max((len(start) for start, _, _ in rows), default=0)
    return "\n".join(
        f"  {start:{width}}  {about + ' ' if about else ''}({values})"
        for start, values, about in rows
    )
