"""The folder of a run: claimed for one recipe, described by JSON, and restored."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from sc_jax import recipes
from sc_jax.codec import codecs
from sc_jax.data import sources
from sc_jax.data.sources import Dataset
from sc_jax.errors import UsageError
from sc_jax.nets.run import Variables
from sc_jax.train.checkpoint import Checkpoints
from sc_jax.train.loop import first_variables
from sc_jax.train.recipe import Recipe
from sc_jax.train.serialisation import agrees, describe, override


@dataclass(frozen=True)
class Source:
    """How a recipe was asked for: enough to build it again."""

    recipe: str
    knobs: dict
    overrides: tuple[str, ...] = ()

    def build(self) -> Recipe:
        built = recipes.build(self.recipe, self.knobs)
        for assignment in self.overrides:
            built = override(built, assignment)
        return built


def dataset_of(recipe: Recipe, split: str, name: str | None = None) -> Dataset:
    data = recipe.data
    return sources.load(
        name or data.name, split, data_dir=data.data_dir, image_size=data.image_size
    )


def claim(
    workdir: Path, source: Source | None, recipe: Recipe, teacher: Path | None
) -> None:
    """Writes recipe.json, or refuses a folder that holds another recipe.

    The teacher's folder is noted relative to `workdir`, so that both can move.
    """
    file = workdir / "recipe.json"
    here = {"source": None if source is None else describe(source)}
    here |= {"teacher": os.path.relpath(teacher, workdir) if teacher else None}
    here = json.loads(json.dumps(here | {"recipe": describe(recipe)}))
    if workdir.exists() and not workdir.is_dir():
        raise UsageError(f"{workdir} is a file; give --workdir a folder")
    if file.exists():
        if not agrees(read_json(file)["recipe"], recipe):
            raise UsageError(
                f"{workdir} holds another recipe (see {file}); give --workdir another "
                "folder, or the same recipe to resume it"
            )
        return
    if jax.process_index() > 0:
        return
    workdir.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".tmp")
    draft.write_text(json.dumps(here, indent=1))
    os.replace(draft, file)


def read_json(file: Path) -> dict:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise UsageError(f"{file} is missing: not a folder of launch.train") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None


def example_of(recipe: Recipe) -> np.ndarray:
    """uint8 [1, H, W, C] zeros of the recipe's input shape."""
    return dataset_of(recipe, "train").example()


def recipe_of(workdir: Path) -> Recipe:
    """The recipe that `workdir` was trained with, built again from recipe.json."""
    saved = read_json(workdir / "recipe.json")
    try:
        asked = saved["source"]
        source = Source(asked["recipe"], asked["knobs"], tuple(asked["overrides"]))
    except (KeyError, TypeError):
        raise UsageError(
            f"{workdir}/recipe.json does not say how it was asked for; give the folder "
            "of a launch.train run, not its teacher's"
        ) from None
    recipe = source.build()
    if not agrees(saved["recipe"], recipe):
        raise UsageError(
            f"{workdir}/recipe.json describes another {recipe.name} than this version "
            "of sc_jax or of the data builds"
        )
    return recipe


def teacher_of(workdir: Path) -> Path:
    """The folder of the teacher that `workdir` was trained with."""
    folder = read_json(workdir / "recipe.json")["teacher"]
    if folder is None:
        raise UsageError(f"{workdir}/recipe.json names no teacher's folder")
    return workdir / folder


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
    checkpoints = Checkpoints(workdir / "checkpoints")
    try:
        step = _finished(recipe, workdir, checkpoints)
        like = first_variables(recipe, None, example_of(recipe))
        variables = Variables(*checkpoints.arrays(step, like))
        saved = checkpoints.tables(step)
    finally:
        checkpoints.close()
    return variables, {name: codecs.from_arrays(a) for name, a in saved.items()}


def finished_step(recipe: Recipe, workdir: Path) -> int:
    """The step at which the run under `workdir` ended; UsageError if it did not."""
    checkpoints = Checkpoints(workdir / "checkpoints")
    try:
        return _finished(recipe, workdir, checkpoints)
    finally:
        checkpoints.close()


def _finished(recipe: Recipe, workdir: Path, checkpoints: Checkpoints) -> int:
    step = checkpoints.latest()
    if step is None or checkpoints.meta(step)["phase"] != len(recipe.phases):
        raise UsageError(
            f"{workdir} holds no finished run of {recipe.name} (newest step: "
            f"{step}); run launch.train with it again to finish it"
        )
    return step
