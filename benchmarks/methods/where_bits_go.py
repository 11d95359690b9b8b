"""Where the bits of learned heads go: by channel of the latent, and by place.

    python -m benchmarks.methods.where_bits_go --runs=runs/a,runs/b --out=bits.json

--runs: folders of launch.train, which unpacks published students too
(--recipe=zoo:NAME,...); of a network of several rates every level. A symbol costs -log2
of its probability in the table that codes it, an escaped one also the digits of its
value; the sum stands beside the real bytes of the same examples. Means over --examples
of the run's test set. Beside the JSON a picture: bytes by channel, most expensive
first, and a map of bits by place.
"""

from __future__ import annotations

import json
from pathlib import Path

from absl import flags

from benchmarks.methods.bits import draw, measured, table
from benchmarks.methods.latents import latents
from benchmarks.origin import origin
from launch import cli
from sc_jax.codec.codecs import at_level, levels_of
from sc_jax.evaluate.reports.report import machine
from sc_jax.train import devices

RUNS = flags.DEFINE_list("runs", [], "folders of finished launch.train runs")
EXAMPLES = flags.DEFINE_integer("examples", 500, "of the test set", 1)
OUT = flags.DEFINE_string("out", None, "path of the JSON report; a .png stands beside")


def main(_):
    if not RUNS.value or not OUT.value:
        raise cli.UsageError("give --runs, folders of launch.train, and --out")
    devices.start(multihost=False)
    cli.writable(OUT.value)
    rows = []
    for folder in map(Path, RUNS.value):
        recipe, codec, z = latents(folder, EXAMPLES.value)
        many = levels_of(codec)
        for level in range(many):
            name = recipe.setting + (f", level={level}" if many > 1 else "")
            rows.append(measured(name, at_level(codec, level), z))
    report = {
        **origin(),
        "machine": machine(),
        "examples": EXAMPLES.value,
        "rows": rows,
    }
    Path(OUT.value).write_text(json.dumps(report, indent=1) + "\n")
    draw(rows, Path(OUT.value).with_suffix(".png"))
    print(table(rows))


if __name__ == "__main__":
    cli.start(main)
