"""A recipe in a folder: trained with its teacher, measured, reported."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jax
import numpy as np

from sc_jax import recipes
from sc_jax.codec import codecs
from sc_jax.compressors.freeze import freeze_all
from sc_jax.compressors.simple import Image
from sc_jax.config import Recipe, validate
from sc_jax.data import sources
from sc_jax.data.sources import Dataset
from sc_jax.described import agrees, describe, override
from sc_jax.errors import UsageError
from sc_jax.evaluate import rate, report
from sc_jax.evaluate.report import Row
from sc_jax.nets.net import INPUT, cut_at
from sc_jax.nets.run import Variables
from sc_jax.train import loop
from sc_jax.train.checkpoint import Checkpoints
from sc_jax.train.log import LOGGER
from sc_jax.train.loop import first_variables

CLASSICAL = (
    ("PNG", (None,)),
    ("JPEG", (5, 10, 20, 30, 50, 75, 90)),
    ("WEBP", (None, 1, 5, 10, 20, 30, 50, 75, 90)),
)


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


def train(
    recipe: Recipe,
    workdir: Path,
    source: Source | None = None,
    *,
    teacher_dir: Path | None = None,
    **options,
) -> tuple[Variables, Variables | None]:
    """Trains (or resumes) `recipe` and first its teacher: (variables, teacher's)."""
    validate(recipe, example_of(recipe))
    folder = (teacher_dir or workdir / "teacher") if recipe.teacher else None
    claim(workdir, source, recipe, folder)
    taught = None
    if recipe.teacher is not None and folder is not None:
        taught, _ = train(recipe.teacher, folder, title="teacher", **options)
    options.setdefault("title", recipe.name)
    return loop.fit(recipe, workdir, taught, **options), taught


def example_of(recipe: Recipe) -> np.ndarray:
    """uint8 [1, H, W, C] zeros of the recipe's input shape."""
    return np.zeros((1, *dataset_of(recipe, "train").shape), np.uint8)


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


def student_row(recipe: Recipe, workdir: Path, test: Dataset) -> Row:
    """The recipe's own line: measured through the codec tables it saved."""
    variables, frozen = restore(recipe, workdir)
    title = f"{recipe.title} {recipe.setting}".strip()
    measured = rate.measure(recipe.net, variables, frozen, test, title=title)
    if measured.disagreements:
        LOGGER.warning(
            "%d predictions from decoded bytes differ from the hard-quantised run",
            measured.disagreements,
        )
    family = "learned" if recipe.net.splits else "reference"
    example = np.zeros((1, *test.shape), np.uint8)
    return rate.row(
        measured,
        recipe.net,
        variables,
        example,
        method=recipe.title,
        setting=recipe.setting,
        family=family,
    )


def baselines(recipe: Recipe, variables: Variables, test: Dataset) -> list[Row]:
    """The whole net as teacher, local-only and edge-only with classical codecs."""
    net, example = recipe.net, np.zeros((1, *test.shape), np.uint8)
    LOGGER.info("measuring teacher and image codecs on %d images", len(test))
    measured = rate.measure(net, variables, {}, test, title="local-only")
    rows = [
        rate.row(measured, net, variables, example, method=name, family="reference")
        for name in ("teacher", "local-only")
    ]
    for kind, qualities in CLASSICAL:
        for quality in qualities:
            cut = cut_at(net, INPUT, Image(kind, quality))
            with_cut = Variables(*({**part, "split@input": {}} for part in variables))
            frozen = freeze_all(cut, with_cut, example)
            setting = "lossless" if quality is None else f"q={quality}"
            label = f"edge-only {kind.replace('WEBP', 'WebP')}"
            if kind == "WEBP" and quality is None:
                label += " lossless"
            measured = rate.measure(
                cut, with_cut, frozen, test, title=f"{label} {setting}"
            )
            rows.append(
                rate.row(
                    measured,
                    cut,
                    with_cut,
                    example,
                    method=label,
                    setting=setting,
                    family="classical",
                )
            )
    return rows


def conclude(
    rows: Sequence[Row], recipe: Recipe, workdir: Path, test: Dataset, command: str
) -> None:
    """Writes the report's files and prints its table, in one process of all."""
    if jax.process_index() > 0:
        return
    facts = facts_of(recipe, test, command)
    report.write(rows, workdir, title=f"{recipe.title} on {test.name}", facts=facts)
    print(report.table(rows))


def facts_of(recipe: Recipe, test: Dataset, command: str) -> dict:
    """What it takes to repeat a measurement."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "seed": recipe.seed,
        "data": test.name,
        "split": test.split,
        "phases": {phase.name: phase.steps for phase in recipe.phases},
        "machine": report.machine(),
    }
