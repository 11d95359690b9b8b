"""What an attacker sees in the messages of each cut: PSNR and SSIM of its pictures.

    python -m benchmarks.methods.inversion --run=runs/first/teacher \\
        --out=inversion.json --picture=inversion.png

--run, a finished run without a bottleneck, or --recipe, a classifier with a public
checkpoint. At each of --cuts the head's latents of --fitted training images go through
--codec, encoded and decoded; a decoder of --steps steps learns to make the images of
them (`inversion_attack.py`) and is judged on --limit test images that it never saw,
from their own bytes. Beside the cuts: the image file that edge computing sends
(--file), which is the image, and the mean training image, what an attacker has without
any message. --side scales the images that the decoder is to make. Jeong et al. (2018)
keep the first layers to the device for this; how much it hides is what is measured.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks.methods import cuts, inversion_attack
from benchmarks.methods.inversion_attack import COLUMNS, Budget, line
from benchmarks.methods.inverted_cuts import BATCH, measured
from launch import cli
from sc_jax.data import pipeline
from sc_jax.data.dataset import Dataset
from sc_jax.nets.net import INPUT, resolve
from sc_jax.runs import run_folder
from sc_jax.train import devices

RECIPE = flags.DEFINE_string("recipe", None, "classifier:...,pretrained=FILE,epochs=0")
RUN = flags.DEFINE_string("run", None, "folder of a finished run without a bottleneck")
CUTS = flags.DEFINE_list("cuts", [], "stages or groups; empty: all")
CODEC = flags.DEFINE_string("codec", "affine:bits=8", "of latents, NAME:knob=value")
FILE = flags.DEFINE_string("file", "image:format=JPEG+quality=75", "of the input")
FITTED = flags.DEFINE_integer("fitted", 2000, "training images of the attacker", 2)
LIMIT = flags.DEFINE_integer("limit", 200, "test images, evenly spaced", 1)
STEPS = flags.DEFINE_integer("steps", 400, "of the decoder's training", 1)
WIDTH = flags.DEFINE_integer("width", 32, "channels of the decoder", 16)
SIDE = flags.DEFINE_integer("side", None, "of the images to make; else the data's", 11)
OUT = flags.DEFINE_string("out", None, "path of the JSON report")
PICTURE = flags.DEFINE_string("picture", None, "PNG of the first images by cut")

SHOWN = 10


def images_of(data: Dataset) -> np.ndarray:
    """uint8 [N, H, W, K]."""
    found = [x[:count] for x, _, count in pipeline.evaluation_batches(data, BATCH)]
    return np.concatenate(found)


def main(_):
    if not OUT.value:
        raise cli.UsageError("give --out, the path of the JSON report")
    devices.start(multihost=False)
    cli.writable(OUT.value, PICTURE.value)
    for text in (CODEC.value, FILE.value):  # a mistake shows before the first cut
        cuts.part_of(text)
    recipe, variables = cuts.subject(RECIPE.value, RUN.value)
    example = run_folder.example_of(recipe)
    test = cuts.some(run_folder.dataset_of(recipe, "test"), LIMIT.value)
    train = cuts.some(run_folder.dataset_of(recipe, "train"), FITTED.value)
    every = cuts.cuts(recipe.net, variables, example)
    places = [resolve(recipe.net, c) for c in CUTS.value]
    budget = Budget(STEPS.value, width=WIDTH.value)
    print(f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", sep="\n")
    rows, pictures = measured(
        recipe.net, variables, places or [c for c in every if c != INPUT],
        images_of(train), images_of(test), budget, SIDE.value, CODEC.value, FILE.value,
    )  # fmt: skip
    print(*map(line, rows[:2]), sep="\n")
    document = {
        **cuts.described(recipe.backbone, test, train),
        "side": SIDE.value or int(example.shape[1]),
        "codec": CODEC.value,
        "steps": budget.steps,
        "batch": budget.batch,
        "width": budget.width,
        "rows": rows,
    }
    Path(OUT.value).write_text(json.dumps(document, indent=1) + "\n")
    if PICTURE.value:
        at = np.linspace(0, len(test) - 1, min(SHOWN, len(test))).astype(int)
        shown = [(name, every[at]) for name, every in pictures]
        inversion_attack.draw(shown, PICTURE.value)


if __name__ == "__main__":
    cli.start(main)
