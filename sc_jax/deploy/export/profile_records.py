"""What every input of a run's split met: the records beside its device's profile.

Each cut of the profile is run on real bytes, each exit and the whole network without
one. A risk is certified on them, so that no input is one the weights were trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sc_jax.data.dataset import Dataset
from sc_jax.deploy.export import stage_seconds
from sc_jax.deploy.export.profile_cuts import candidates, over
from sc_jax.errors import UsageError, unknown
from sc_jax.exits.scores import MAX_PROBABILITY
from sc_jax.plan.profile import Profile
from sc_jax.plan.recorded import SPLITS, Records
from sc_jax.runs import exit_runs, run_folder
from sc_jax.runs.loading import LoadedRun
from sc_jax.traces import record
from sc_jax.train.log import LOGGER


def data_of(loaded: LoadedRun, split: str) -> Dataset:
    """The labelled inputs of a split, "validation" or "test"; UsageError.

    Validation is held out of the run's own training images alone: refused where weights
    came from elsewhere, or the set has changed since.
    """
    if split not in SPLITS:
        raise unknown("split to record", split, SPLITS)
    if split == "validation":
        why = next(_other_weights(loaded.folder), None)
        if why is None and exit_runs.has_changed(loaded.recipe, loaded.folder):
            why = "the training images are not those that the run was begun with"
        if why is not None:
            raise UsageError(
                f"{why}: it may have been trained on these validation images, and "
                "nothing is certified on such; --records=test records others"
            )
    data = run_folder.dataset_of(loaded.recipe, split)
    if not data.labelled or len(data) < 2:
        raise UsageError(f"{data.name} has no labelled {split} images to record")
    return data


def recorded(loaded: LoadedRun, profile: Profile, data: Dataset) -> Records:
    """Every exit and cut of the profile over `data`, in its order.

    Scores are the largest probability, which is fitted to no data.
    """
    net, quality = replace(loaded.recipe.net, splits=()), loaded.recipe.task.quality
    LOGGER.info("recording %d %s inputs", len(data), data.split)
    trace = record.record(
        net, loaded.variables, data, net_name=profile.network, task=loaded.recipe.task
    ).trace
    places = {ending.name: ending.after for ending in net.exits}
    rows = [places.get(name) for name in trace.exits]
    exits = tuple(ending.after for ending in profile.exits)
    at = [rows.index(after) for after in exits]
    example = data.example()
    given = stage_seconds.features(net, loaded.variables, example)
    wanted = {cut.name for cut in profile.cuts}
    behind = {}
    for cut, after, name, codec in candidates(loaded, example, given):
        if (key := f"{after}/{name}") in wanted:
            found = over(loaded, cut, codec, data, f"{after}, {name}, {data.split}")
            behind[key] = found.metrics[quality]
    return Records(
        profile.network,
        data.split,
        exits,
        tuple(behind),
        score=MAX_PROBABILITY.of(trace)[at],
        right=trace.quality[at],
        behind=np.reshape(list(behind.values()), (len(behind), len(data))),
        whole=trace.quality[-1],
    )


def _other_weights(folder: Path, data: str | None = None) -> Iterator[str]:
    """Why a run's validation images may have been trained on, in words.

    Of its folder, its teacher's and that of the run that it began with. data: the
    student's.
    """
    saved = run_folder.read_json(folder / run_folder.FILE)
    for recipe in _recipes(saved["recipe"]):
        if recipe.get("pretrained"):
            yield f"weights of {folder} came from a checkpoint, {recipe['pretrained']}"
    own = (saved.get("data") or {}).get("name")
    if data is not None and own != data:
        yield f"{folder} was trained on {own}, not on {data}"
    if init := saved.get("init"):
        if not (Path(init["folder"]) / run_folder.FILE).exists():
            yield f"{init['folder']}, which the run began with, is not there"
            return
        yield from _other_weights(Path(init["folder"]), own)
    teacher = folder / (saved.get("teacher") or "")
    if saved.get("teacher"):
        if not (teacher / run_folder.FILE).exists():
            yield f"{teacher}, the run's teacher, is not there"
            return
        yield from _other_weights(teacher, own)


def _recipes(recipe: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The recipe, its teacher, and that one's."""
    while recipe:
        yield recipe
        recipe = recipe.get("teacher")
