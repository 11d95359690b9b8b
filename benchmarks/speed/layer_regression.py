"""How far a regression of layers' seconds is off on networks it was not fitted to.

    python -m benchmarks.speed.layer_regression --out=layers.json \\
        --networks=cnn:28,resnet20:32,mobilenetv2:224

--networks: registered backbones at an image's side, untrained, each converted once and
timed layer by layer by LiteRT's profiler; of --rounds inferences the least counts. Each
family (a file of backbones: every ResNet is one) is then predicted by
`plan/regression.py` from the others alone, forms chosen anew: errors by kind of layer
and by network, of the paper's two forms (Kang et al. 2017) and of ours. Nothing in
sample is printed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks.origin import origin
from launch import cli
from sc_jax.deploy.export import layer_seconds
from sc_jax.evaluate.reports.report import machine
from sc_jax.plan import regression
from sc_jax.plan.layers import Layer

NETWORKS = flags.DEFINE_list(
    "networks",
    [
        *("cnn:28", "cnn:64", "resnet20:32", "resnet18:48", "mobilenetv2:64"),
        *("mobilenetv2:96", "efficientnet_lite0:64", "nin:32", "wrn16_2:32"),
    ],
    "NAME:SIDE, of two families or more",
)
THREADS = flags.DEFINE_integer("threads", 1, "of the interpreter", 1)
ROUNDS = flags.DEFINE_integer("rounds", 15, "inferences, the least counts", 1)
OUT = flags.DEFINE_string("out", None, "path of the JSON report")

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


def main(_):
    if not OUT.value:
        raise cli.UsageError("give --out, a JSON file")
    cli.writable(OUT.value)
    layers: list[Layer] = []
    whole = {}
    for text in NETWORKS.value:
        found, whole[text] = layer_seconds.of_network(text, THREADS.value, ROUNDS.value)
        layers += found
    errors = evaluated(layers)
    document = {
        **origin(),
        "machine": machine(),
        "threads": THREADS.value,
        "rounds": ROUNDS.value,
        "whole_s": whole,
        "errors": errors,
        "layers": [asdict(layer) for layer in layers],
    }
    Path(OUT.value).write_text(json.dumps(document, indent=1) + "\n")
    print("\n".join(lines(errors)))


if __name__ == "__main__":
    cli.start(main)
