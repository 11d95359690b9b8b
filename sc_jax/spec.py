"""The one grammar of the command line: NAME:knob=value,knob=value.

Recipes, policies, data sets and sweeps are read by it. A value is a Python literal, or
the text itself where it is none; a comma inside a value stays there, as in
`thresholds=(0.9,0.8)` and `data=folder:TRAIN,TEST`.
"""

from __future__ import annotations

import ast
from typing import Any

from sc_jax.errors import UsageError


def literal(text: str) -> Any:
    """A Python literal, or the text itself where it is none (a bare word)."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parse(text: str, kind: str = "spec") -> tuple[str, dict[str, Any]]:
    """ "name:knob=value,knob=value" -> (name, knobs); UsageError names the `kind`."""
    name, colon, rest = text.partition(":")
    knobs: dict[str, str] = {}
    last = ""
    for piece in rest.split(",") if colon else ():
        word, equals, value = piece.partition("=")
        word = word.strip()
        if equals and word.isidentifier() and word not in knobs:
            last, knobs[word] = word, value
        elif last and not (equals and word.isidentifier()):
            knobs[last] += "," + piece
        else:
            raise UsageError(
                f"a {kind} is NAME:knob=value,..., each knob once, not {text!r}"
            )
    values = {knob: literal(value.strip()) for knob, value in knobs.items()}
    return name.strip(), values
