"""The folder of a run: claimed for one recipe, described by JSON, and restored.

recipe.json holds the source (name, knobs, overrides), copies of its files, the facts of
its data, the teacher's folder and the recipe itself: a folder needs neither its data
set nor its recipe's file to be opened again.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sc_jax.codec import codecs
from sc_jax.data import sources
from sc_jax.data.sources import Dataset
from sc_jax.errors import UsageError
from sc_jax.nets.run import Variables, init
from sc_jax.recipes import common
from sc_jax.runs import source as origin
from sc_jax.runs.source import DataFacts, Source
from sc_jax.train.checkpoint import Checkpoints
from sc_jax.train.recipe import Recipe
from sc_jax.train.serialisation import continues, describe, difference

FILE = "recipe.json"


def dataset_of(recipe: Recipe, split: str, name: str | None = None) -> Dataset:
    data = recipe.data
    return sources.load(
        name or data.name, split, data_dir=data.data_dir, image_size=data.image_size
    )


def example_of(recipe: Recipe) -> np.ndarray:
    """Zeros [1, ...] of what the recipe's net reads."""
    return dataset_of(recipe, "train").example()


def claim(
    workdir: Path,
    source: Source | None,
    recipe: Recipe,
    teacher: Path | None,
    flag: str = "--workdir",
) -> None:
    """Writes recipe.json, or refuses a folder that holds another recipe.

    The same recipe with a longer last phase takes a folder over, to go on. The
    teacher's folder is noted relative to `workdir`, so that both can move. flag: what
    named the folder.
    """
    file = workdir / FILE
    if workdir.exists() and not workdir.is_dir():
        raise UsageError(f"{workdir} is a file; give {flag} a folder")
    if file.exists():
        saved = read_json(file)["recipe"]
        differs = difference(saved, recipe)
        if differs is None:
            return
        if not continues(saved, recipe):
            raise UsageError(
                f"{workdir} holds another recipe ({differs}); give {flag} another "
                "folder, or the same recipe to resume it"
            )
    if jax.process_index() == 0:
        _write(workdir, source, recipe, teacher)


def _write(workdir: Path, source: Source | None, recipe: Recipe, teacher: Path | None):
    workdir.mkdir(parents=True, exist_ok=True)
    content = {
        "source": None if source is None else dataclasses.asdict(source),
        "files": {} if source is None else origin.copy(source, workdir),
        "data": dataclasses.asdict(origin.data_facts(recipe)),
        "teacher": os.path.relpath(teacher, workdir) if teacher else None,
        "recipe": describe(recipe),
    }
    file = workdir / FILE
    draft = file.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=1))
    os.replace(draft, file)


def read_json(file: Path) -> dict:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise UsageError(f"{file} is missing: not a folder of launch.train") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None


def recipe_of(workdir: Path) -> Recipe:
    """The recipe that `workdir` was trained with, built again from recipe.json.

    The data set is not opened where the folder has its facts.
    """
    saved = read_json(workdir / FILE)
    try:
        found: dict[str, Any] = dict(saved["source"])
        found["overrides"] = tuple(found["overrides"])
        source = Source(**found)
    except (KeyError, TypeError):
        raise UsageError(
            f"{workdir}/recipe.json does not say how it was built: a teacher's folder "
            "of an older version, or a recipe that had no name"
        ) from None
    files = saved.get("files", {})
    copies = {name: str((workdir / copy).resolve()) for name, copy in files.items()}
    facts = facts_of(workdir)
    with common.known(facts and facts.known):
        recipe = source.moved(copies).build()
    # The saved recipe names the files as they were; it must agree in all else.
    described = json.loads(origin.replaced(json.dumps(saved["recipe"]), copies))
    if (differs := difference(described, recipe)) is not None:
        raise UsageError(
            f"{workdir}/recipe.json describes another {recipe.name} than this version "
            f"of sc_jax or of the data builds ({differs})"
        )
    return recipe


def facts_of(workdir: Path) -> DataFacts | None:
    """The facts of the run's data; None in a folder of an older version."""
    saved = read_json(workdir / FILE).get("data")
    try:
        return None if saved is None else origin.facts_from_json(saved)
    except TypeError as error:
        raise UsageError(f"{workdir}/{FILE}: facts of its data: {error}") from None


def teacher_of(workdir: Path) -> Path:
    """The folder of the teacher that `workdir` was trained with."""
    folder = read_json(workdir / FILE)["teacher"]
    if folder is None:
        raise UsageError(f"{workdir}/recipe.json names no teacher's folder")
    return workdir / folder


def check_answers(teacher: Recipe, folder: Path) -> str | None:
    """UsageError unless the run in `folder` answers as `teacher` is to: net, classes.

    What else its recipe differs in, None if nothing: how it was trained is its own
    affair.
    """
    saved = read_json(folder / FILE)
    differs = difference(saved["recipe"]["net"], teacher.net, "net")
    if differs is not None:
        raise UsageError(
            f"--teacher={folder} has another net ({differs}); give another --teacher, "
            "or the recipe its teacher's knobs"
        )
    facts = facts_of(folder)
    if facts is not None:
        here = tuple(dataset_of(teacher, "train").classes)
        for theirs, ours in zip(facts.classes, here):
            if theirs != ours:
                raise UsageError(
                    f"--teacher={folder} was trained on {facts.name}, where a class is "
                    f"{theirs!r}, not {ours!r}: the recipe's data is another"
                )
    return difference(saved["recipe"], teacher)


def check_same_classes(recipe: Recipe, examples: Dataset) -> None:
    """UsageError unless `examples` has the classes the recipe was trained on."""
    own = dataset_of(recipe, "train")
    if (own.classes, own.shape[2]) != (examples.classes, examples.shape[2]):
        raise UsageError(
            f"{examples.name} has {len(examples.classes)} classes of "
            f"{examples.shape[2]} colours, the run was trained on {own.name} with "
            f"{len(own.classes)} of {own.shape[2]}"
        )


def restore(recipe: Recipe, workdir: Path) -> tuple[Variables, dict[str, codecs.Codec]]:
    """The finished variables and codecs under `workdir`: tables as they were saved."""
    facts = facts_of(workdir) if (workdir / FILE).exists() else None
    example = example_of(recipe) if facts is None else facts.example
    key = jax.random.key(recipe.seed)
    shapes = jax.eval_shape(lambda x: init(recipe.net, key, x), example)
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like: Any = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
    )
    checkpoints = Checkpoints(workdir / "checkpoints")
    try:
        step = _finished(workdir, checkpoints)
        variables = Variables(*checkpoints.arrays(step, like))
        saved = checkpoints.tables(step)
    finally:
        checkpoints.close()
    if saved is None and recipe.net.splits:
        raise UsageError(
            f"{workdir} was stopped before its codec tables were made; run "
            "launch.train with it again to make them"
        )
    tables = (saved or {}).items()
    return variables, {name: codecs.from_arrays(arrays) for name, arrays in tables}


def finished_step(recipe: Recipe, workdir: Path) -> int:
    """The step at which the run under `workdir` ended; UsageError if it did not."""
    checkpoints = Checkpoints(workdir / "checkpoints")
    try:
        return _finished(workdir, checkpoints)
    finally:
        checkpoints.close()


def is_finished(workdir: Path) -> bool:
    """Whether a run ended in `workdir`; it need not exist."""
    if not (workdir / "checkpoints").is_dir():
        return False
    checkpoints = Checkpoints(workdir / "checkpoints")
    try:
        _finished(workdir, checkpoints)
    except UsageError:
        return False
    finally:
        checkpoints.close()
    return True


def _finished(workdir: Path, checkpoints: Checkpoints) -> int:
    """The newest step, if it is the last of what recipe.json describes."""
    step = checkpoints.latest()
    meta = {} if step is None else checkpoints.meta(step)
    recipe: dict = meta.get("recipe", {"phases": []})
    if (workdir / FILE).exists():  # a run that goes on has a longer one there
        recipe = read_json(workdir / FILE)["recipe"]
    steps = sum(phase["steps"] for phase in recipe["phases"])
    if step is None or (step, meta["phase"]) != (steps, len(recipe["phases"])):
        raise UsageError(
            f"{workdir} holds no finished run (newest step: {step} of {steps}); run "
            "launch.train with it again to finish it"
        )
    return step
