"""What a context over sent symbols saves, by its size and by what it was fitted to.

    python -m benchmarks.methods.contexts --run=runs/first --out=contexts.json

--run: a folder of launch.train, which unpacks published students too
(--recipe=zoo:NAME,...), whose codec codes symbols. Contexts are fitted to --fitted of
its training images and measured on --examples of its test set: real bytes at every
level of the rate with 8 tables a channel, then at the last one with other numbers of
tables and of examples. Beside them the milliseconds of the coder, each image alone,
plain and in context in turn, and the bytes of tables and weights. What is decoded is
compared with the plain codec's for every image: nothing of it may differ.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks.methods.latents import latents
from benchmarks.origin import origin
from launch import cli
from sc_jax.codec.codecs import at_level, levels_of
from sc_jax.codec.in_context import INNER, InContextCodec
from sc_jax.evaluate.reports.report import machine
from sc_jax.runs import publish, run_folder
from sc_jax.train import devices

RUN = flags.DEFINE_string("run", None, "folder of a finished launch.train run")
FITTED = flags.DEFINE_integer("fitted", 500, "training images", 1)
EXAMPLES = flags.DEFINE_integer("examples", 500, "of the test set", 1)
OUT = flags.DEFINE_string("out", None, "path of the JSON report")

CLASSES, COUNTS = (1, 2, 4, 8, 16, 32), (20, 50, 100, 200, 500)
USUAL = 8


def measured(inner: Any, known: np.ndarray, z: np.ndarray, classes: int) -> list[dict]:
    """A row for each level of `inner`, its context fitted to latents `known`."""
    begun = time.perf_counter()
    made = InContextCodec.fit(inner, [inner.outputs(known, np)], classes)
    fit_s = time.perf_counter() - begun
    rows = []
    for level, context in enumerate(made.contexts):
        plain, ours = at_level(inner, level), at_level(made, level)
        seconds: dict[str, list[float]] = {}
        sizes, differing = [], 0
        for latent in z:
            found = []
            for name, codec in (("plain", plain), ("in context", ours)):
                start = time.perf_counter()
                data = codec.encode(latent)
                middle = time.perf_counter()
                found.append((len(data), codec.decode(data)))
                seconds.setdefault(f"{name}, encode", []).append(middle - start)
                end = time.perf_counter() - middle
                seconds.setdefault(f"{name}, decode", []).append(end)
            (before, theirs), (after, value) = found
            sizes.append((before, after))
            differing += not np.array_equal(theirs, value)
        before, after = np.mean(sizes, 0)
        rows.append(
            {
                "level": level,
                "classes": classes,
                "fitted": len(known),
                "fit_s": fit_s / len(made.contexts),
                "bytes": [float(before), float(after)],
                "differing": differing,
                "ms": {k: 1e3 * float(np.median(v)) for k, v in seconds.items()},
                "kept_bytes": sum(a.nbytes for a in context.to_arrays().values()),
            }
        )
    return rows


def of_level(inner: Any, level: int) -> Any:
    """The codec with no other level: to fit one context a row, not one a level."""
    if levels_of(inner) == 1:
        return inner
    one = slice(level, level + 1)
    return replace(inner, tables=inner.tables[one], bins=inner.bins[one], level=0)


def head() -> tuple[str, str]:
    return f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"


def line(row: dict) -> str:
    (before, after), ms = row["bytes"], row["ms"]
    return (
        f"| {row['level']} | {row['classes']} | {row['fitted']} | {before:,.0f} "
        f"| {after:,.0f} | {100 * (after / before - 1):+.1f} | {row['differing']} | "
        + " | ".join(f"{ms[k]:.2f}" for k in ms)
        + f" | {row['kept_bytes']:,} | {row['fit_s']:.1f} |"
    )


COLUMNS = (
    *("level", "tables a channel", "fitted to", "bytes", "in context", "%"),
    *("images that differ", "plain ms: encode", "decode", "in context: encode"),
    *("decode", "tables and weights, B", "fit, s"),
)


def main(_):
    if not RUN.value or not OUT.value:
        raise cli.UsageError("give --run, a folder of launch.train, and --out")
    devices.start(multihost=False)
    cli.writable(OUT.value)
    folder = Path(RUN.value)
    recipe, codec, known = latents(folder, FITTED.value, "train")
    inner = getattr(codec, "inner", codec)
    if inner.kind not in INNER:
        raise cli.UsageError(f"{folder} sends {inner.kind}, not {' or '.join(INNER)}")
    z = latents(folder, EXAMPLES.value)[2]
    rows = measured(inner, known, z, USUAL)
    print(*head(), *map(line, rows), sep="\n")
    last = len(rows) - 1
    alone = of_level(inner, last)
    others = [(classes, len(known)) for classes in CLASSES if classes != USUAL]
    others += [(USUAL, count) for count in COUNTS if count < len(known)]
    for classes, count in others:
        some = known[np.linspace(0, len(known) - 1, count).astype(int)]
        row = measured(alone, some, z, classes)[0] | {"level": last}
        rows.append(row)
        print(line(row), flush=True)
    document = {
        **origin(),
        "machine": machine(),
        "recipe": recipe.title,
        "setting": recipe.setting,
        "latent": codec.shape,
        "data": publish.bare(run_folder.dataset_of(recipe, "test").name),
        "examples": len(z),
        "rows": rows,
    }
    Path(OUT.value).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    cli.start(main)
