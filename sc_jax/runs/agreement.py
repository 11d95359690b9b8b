"""Images without labels: measured by how many answers are those of the whole net."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np

from sc_jax.data import pipeline
from sc_jax.data.sources import Dataset
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports.report import Row
from sc_jax.nets.net import FINAL
from sc_jax.nets.run import run
from sc_jax.runs import run_folder
from sc_jax.tasks import classification
from sc_jax.train.recipe import Recipe

METRIC, _BATCH = "agreement", 200


def labelled(recipe: Recipe, workdir: Path, examples: Dataset) -> Dataset:
    """The examples, each in the class that the run's teacher (or it itself) finds."""
    if recipe.task != classification:
        raise UsageError(f"{examples.name} has no targets for {recipe.task.name}")
    whole, folder = recipe, workdir
    if recipe.teacher is not None:
        whole, folder = recipe.teacher, run_folder.teacher_of(workdir)
    variables, _ = run_folder.restore(whole, folder)

    def classes(variables, images):
        return run(whole.net, variables, images)[0].predictions[FINAL].argmax(-1)

    answer = partial(jax.jit(classes), variables)
    found = [
        np.asarray(answer(images))[:count]
        for images, _, count in pipeline.evaluation_batches(examples, _BATCH)
    ]
    labels = np.concatenate([np.zeros(0, np.int32), *found]).astype(np.int32)
    return replace(examples, labels=labels, labelled=True)


def renamed(row: Row) -> Row:
    """A row whose quality is the share of answers that are the whole net's."""
    return replace(row, metric=METRIC)
