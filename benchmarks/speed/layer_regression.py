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
from dataclasses import asdict
from pathlib import Path

from absl import flags

from benchmarks.origin import origin
from benchmarks.speed.layer_errors import evaluated, lines
from launch import cli
from sc_jax.deploy.export import layer_seconds
from sc_jax.evaluate.reports.report import machine
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
