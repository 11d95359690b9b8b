"""Errors of a regression of layers' seconds, held out, as tables. Without flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sc_jax.plan import regression
from sc_jax.plan.layers import Layer

SETS = {
    "the paper's two": ("linear", "logarithmic"),
    "ours beside them": regression.FORMS,
}


def evaluated(layers: Sequence[Layer]) -> dict[str, Any]:
    """Held-out errors by kind and by network, for each set of forms."""
    seconds = np.array([layer.seconds for layer in layers], np.float64)
    found: dict[str, Any] = {}
    for name, forms in SETS.items():
        guesses = regression.held_out(layers, forms)
        groups = {
            "kinds": [layer.kind for layer in layers],
            "networks": [layer.network for layer in layers],
        }
        found[name] = {
            what: [asdict(e) for e in regression.errors_by(names, guesses, seconds)]
            for what, names in groups.items()
        } | {"error": regression.error(guesses, seconds)}
    return found


def lines(errors: dict[str, Any]) -> list[str]:
    """Both tables of `evaluated`, as Markdown."""
    found = []
    for what in ("kinds", "networks"):
        found += [f"| {' | '.join(COLUMNS[what])} |", "|---" * len(COLUMNS[what]) + "|"]
        every = {name: each[what] for name, each in errors.items()}
        for rows in zip(*every.values()):
            found.append("| " + " | ".join(cells(what, rows)) + " |")
        found.append("")
    return found


def cells(what: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """A row of a table: what was measured, then the errors of each set of forms."""
    first = rows[0]
    begin = [first["name"], str(first["layers"]), f"{1e3 * first['measured_s']:.3f}"]
    if what == "kinds":
        begin.append(f"{100 * first['share']:.1f}")
    for row in rows:
        if what == "networks":
            off = row["predicted_s"] / row["measured_s"] - 1
            begin += [f"{100 * off:+.0f}", f"{100 * row['error']:.0f}"]
        else:
            median = row["median"]
            said = "" if median is None else f"{100 * median:.0f}"
            begin += [f"{100 * row['error']:.0f}", said]
    return begin


COLUMNS = {
    "kinds": (
        *("kind", "layers", "measured ms", "% of all", "paper: error %", "median %"),
        *("ours: error %", "median %"),
    ),
    "networks": (
        *("network", "layers", "measured ms", "paper: sum %", "layers %"),
        *("ours: sum %", "layers %"),
    ),
}
