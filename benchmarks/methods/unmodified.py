"""Bits an element against points lost at every cut of a network, nothing trained.

    python -m benchmarks.methods.unmodified --out=unmodified.json \\
        --recipe=classifier:backbone=mobilenetv2,pretrained=FILE.pth,epochs=0,\\
            data=indexed:1000:PHOTOS.zip --limit=500

--recipe: a classifier with a public checkpoint, or --run, a folder of launch.train. At
each of --cuts (all stages that give one array) the head runs once on --limit images of
the test set; every one of --compressors, NAME:knob=value+knob=value, really encodes and
decodes each latent, and the tail answers what was decoded. What a compressor takes from
activations is solved from --fitted training images. Behind its knobs +context=N codes
the symbols of clipped in context, and +loss=P loses a share P of the values, packets of
+packet=N of them (Itahara et al. 2021). Points lost are of top-1, paired
with the whole network's answers, ± their standard error; agreement is the share of
images whose answer stays. At the cut "input" only compressors named image are measured,
and elsewhere all others. A second call measures what --out does not have yet.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

from absl import flags

from benchmarks.methods import cuts
from launch import cli
from sc_jax.data import pipeline
from sc_jax.nets.net import INPUT, resolve
from sc_jax.runs import run_folder
from sc_jax.train import devices

RECIPE = flags.DEFINE_string("recipe", None, "classifier:...,pretrained=FILE,epochs=0")
RUN = flags.DEFINE_string("run", None, "folder of a finished run without a bottleneck")
CUTS = flags.DEFINE_list("cuts", [], "stages, groups or input; empty: all")
COMPRESSORS = flags.DEFINE_multi_string(
    "compressors",
    [
        *("image:format=JPEG+quality=75", "image:format=WEBP+quality=60"),
        *(f"affine:bits={n}" for n in (8, 4, 2)),
        *(f"tiled:bits={n}" for n in (8, 4, 2)),
        *(f"tiled:format=JPEG+quality={q}" for q in (75, 25)),
        *(f"top_k:share={s}+bits=4" for s in (0.2, 0.05)),
        *(f"slicer:share={s}+distortion=4" for s in (0.5, 0.2)),
        *(f"csr:bits={n}" for n in (4, 3)),
        *(f"clipped:points={n}" for n in (2, 4, 8, 16)),
        *(f"clipped:points={n}+context=8" for n in (4, 8)),
        *(f"clipped:points=8+bit_weight={w}" for w in (0.05, 0.2)),
    ],
    "each, NAME:knob=value+knob=value",
)
LIMIT = flags.DEFINE_integer("limit", 500, "images of the test set, evenly spaced", 1)
FITTED = flags.DEFINE_integer("fitted", 50, "training images, evenly spaced", 1)
OUT = flags.DEFINE_string("out", None, "path of the JSON report")

BATCH = 10


def main(_):
    if not OUT.value:
        raise cli.UsageError("give --out, the path of the JSON report")
    devices.start(multihost=False)
    cli.writable(OUT.value)
    for text in COMPRESSORS.value:  # every mistake shows before the first cut
        cuts.part_of(text)
    recipe, variables = cuts.subject(RECIPE.value, RUN.value)
    example = run_folder.example_of(recipe)
    test = cuts.some(run_folder.dataset_of(recipe, "test"), LIMIT.value)
    train = cuts.some(run_folder.dataset_of(recipe, "train"), FITTED.value)
    document = {
        **cuts.described(recipe.backbone, test, train),
        "rows": [],
    }
    file = Path(OUT.value)
    if file.exists() and file.stat().st_size:
        saved = json.loads(file.read_text())
        document["rows"] = cuts.kept(saved, document)
        document["command"] = cuts.commands(saved["command"], document["command"])
    places = [resolve(recipe.net, c) for c in CUTS.value]
    print(f"| {' | '.join(cuts.COLUMNS)} |", "|---" * len(cuts.COLUMNS) + "|", sep="\n")
    batches = partial(pipeline.evaluation_batches, batch_size=BATCH)
    for cut in places or cuts.cuts(recipe.net, variables, example):
        have = {(row["cut"], row["compressor"]) for row in document["rows"]}
        wanted = [
            text
            for text in COMPRESSORS.value
            if (cut, text) not in have
            and (cut == INPUT) == (text.partition(":")[0] == "image")
        ]
        if not wanted:
            continue
        begun = time.perf_counter()
        rows = cuts.measured(
            recipe.net, variables, cut, wanted, batches(train), batches(test)
        )
        document["rows"] += rows
        file.write_text(json.dumps(document, indent=1) + "\n")
        print(*map(cuts.line, rows), sep="\n")
        print(f"{cut}: {time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    cli.start(main)
