"""What the head of a finished run gives for images of its data."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from launch import cli
from sc_jax.data import pipeline
from sc_jax.nets.net import head
from sc_jax.nets.run import run
from sc_jax.runs import run_folder

BATCH = 20


def latents(folder: Path, count: int, split: str = "test"):
    """(recipe, codec, z f32[N, H, W, C]) of a run's examples, evenly spaced."""
    recipe = run_folder.recipe_of(folder)
    if len(recipe.net.splits) != 1:
        raise cli.UsageError(f"{folder} has no one split")
    variables, codecs = run_folder.restore(recipe, folder)
    (cut,) = recipe.net.splits
    device, every = head(recipe.net, cut.after), run_folder.dataset_of(recipe, split)
    # Folders come sorted by class.
    rows = np.linspace(0, len(every) - 1, min(count, len(every))).astype(int)
    some = every.take(rows)
    read = jax.jit(lambda v, x: run(device, v, x)[0].features[cut.after])
    found = [
        np.asarray(read(variables, images))[:number]
        for images, _, number in pipeline.evaluation_batches(some, BATCH)
    ]
    return recipe, codecs[cut.name], np.concatenate(found)
