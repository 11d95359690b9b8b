"""The folder of a run: claimed for one recipe, recorded as JSON, and restored.

recipe.json holds the source (name, knobs, overrides), copies of its files, the facts of
its data, the teacher's folder, the run it began with and the recipe itself: a folder
needs neither its data set nor its recipe's file to be opened again.
"""

from __future__ import annotations

import dataclasses
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sc_jax import foreign, plugins
from sc_jax.codec import codecs
from sc_jax.data import pipeline, sources
from sc_jax.data.sources import Dataset
from sc_jax.errors import Unread, UsageError
from sc_jax.nets.run import Variables, variable_shapes
from sc_jax.recipes import common
from sc_jax.runs import source as origin
from sc_jax.runs.source import DataFacts, Source
from sc_jax.spec import parse
from sc_jax.train.checkpoint import Checkpoints
from sc_jax.train.recipe import Recipe
from sc_jax.train.serialisation import continues, describe, difference
from sc_jax.writing import writing

FILE = "recipe.json"


@dataclasses.dataclass(frozen=True)
class Init:
    """The finished run whose parts another starts with; digest: of its variables."""

    folder: str
    digest: str


def dataset_of(recipe: Recipe, split: str, name: str | None = None) -> Dataset:
    """A split of the recipe's data, or of the set `name` in the same size."""
    data = recipe.data
    if name is None:
        return pipeline.opened(data, split)
    return sources.load(name, split, data_dir=data.data_dir, image_size=data.image_size)


def example_of(recipe: Recipe, workdir: Path | None = None) -> np.ndarray:
    """Zeros [1, ...] of what the recipe's net reads.

    The data set is not opened where the folder of the run has its facts.
    """
    facts = None if workdir is None else facts_of(workdir)
    return dataset_of(recipe, "train").example() if facts is None else facts.example


def claim(
    workdir: Path,
    source: Source | None,
    recipe: Recipe,
    teacher: Path | None,
    init: Init | None = None,
    *,
    teaches: bool = False,
    facts: DataFacts | None = None,
) -> None:
    """Writes recipe.json, or refuses a folder that holds another run (`refuse`).

    The teacher's folder is noted relative to `workdir`, so that both can move. facts:
    of the data, None reads them from the set.
    """
    if not refuse(workdir, recipe, teacher, init, teaches=teaches):
        return
    file = workdir / FILE
    # Written anew with more steps; what it began with stays part of it.
    before = read_json(file) if file.exists() else {}
    if init is None and before:  # goes on, from what it began with
        init = Init(**found) if (found := before.get("init")) else None
    if jax.process_index() == 0:
        with writing(workdir):
            _write(workdir, source, recipe, teacher, init, before, facts)


def withdraw(workdir: Path) -> None:
    """Gives up a claim whose training never came to a checkpoint: it binds nobody."""
    if jax.process_index() > 0 or any((workdir / "checkpoints").glob("[0-9]*")):
        return
    if (workdir / FILE).exists():
        with suppress(UsageError):  # damaged meanwhile: nothing says which are copies
            origin.remove(read_json(workdir / FILE).get("files", {}).values(), workdir)
    (workdir / FILE).unlink(missing_ok=True)
    (workdir / FILE).with_suffix(".tmp").unlink(missing_ok=True)
    metrics = workdir / "metrics.jsonl"
    if metrics.exists() and not metrics.stat().st_size:
        metrics.unlink()
    for folder in (workdir / "checkpoints", workdir):
        with suppress(OSError):  # what holds something stays, as a teacher does
            folder.rmdir()


def refuse(
    workdir: Path,
    recipe: Recipe,
    teacher: Path | None,
    init: Init | None = None,
    *,
    teaches: bool = False,
) -> bool:
    """UsageError where `workdir` holds another run: recipe, teacher, weights it began
    with. Else whether recipe.json is to be written.

    The same recipe with a longer last phase takes a folder over, to go on; not where
    the run teaches: what it has taught would no longer be what it answers.
    """
    flag, file = "--teacher" if teaches else "--workdir", workdir / FILE
    if workdir.exists() and not workdir.is_dir():
        raise UsageError(f"{workdir} is a file; give {flag} a folder")
    if not file.exists():
        return True
    saved = read_json(file)
    differs = difference(saved["recipe"], recipe)
    if differs and (teaches or not continues(saved["recipe"], recipe)):
        raise UsageError(
            f"{workdir} holds another recipe ({differs}); give {flag} another "
            "folder, or the same recipe to resume it"
        )
    _refuse_teacher(workdir, saved.get("teacher"), teacher)
    _refuse_init(workdir, saved, init)
    return differs is not None


def _refuse_teacher(workdir: Path, saved: str | None, teacher: Path | None) -> None:
    if saved is None or teacher is None:
        return
    before = workdir / saved
    # A teacher that was moved away is no other: only its place is known.
    if before.exists() and before.resolve() != teacher.resolve():
        raise UsageError(
            f"{workdir} is taught by {os.path.normpath(before)}, not by {teacher}; "
            "give --teacher that folder, or --workdir another"
        )


def _refuse_init(workdir: Path, saved: dict, init: Init | None) -> None:
    """A run that has a checkpoint goes on from it: another --init would be ignored."""
    # A claim alone, by a start that failed, binds nobody.
    begun = any((workdir / "checkpoints").glob("[0-9]*"))
    before = Init(**found) if (found := saved.get("init")) else None
    if init is None and before is not None and not begun:
        raise UsageError(f"{workdir} is to start from --init={before.folder}: give it")
    if init is not None and (before is None or before.digest != init.digest):
        other = f"from --init={before.folder} as it was then" if before else "without"
        raise UsageError(
            f"{workdir} was begun {other}, not from {init.folder} as it is: leave out "
            "--init to go on, or give another --workdir"
        )


def _write(
    workdir: Path,
    source: Source | None,
    recipe: Recipe,
    teacher: Path | None,
    init: Init | None,
    before: dict,
    facts: DataFacts | None,
):
    """before: what the folder's recipe.json held, {} where there was none."""
    workdir.mkdir(parents=True, exist_ok=True)
    # As they were recorded when the run was begun.
    data = before.get("data") or dataclasses.asdict(facts or origin.data_facts(recipe))
    copied = before.get("files", {})
    files = {} if source is None else origin.copy(source, workdir, copied)
    content = {
        "init": None if init is None else dataclasses.asdict(init),
        "source": None if source is None else dataclasses.asdict(source),
        "files": files,
        "data": data,
        # Relative: run and teacher are moved and copied together.
        "teacher": os.path.relpath(teacher, workdir) if teacher else None,
        "recipe": describe(recipe),
    }
    file = workdir / FILE
    draft = file.with_suffix(".tmp")
    try:
        # Whole or not at all: this file is what makes a folder a run's.
        draft.write_bytes(foreign.sealed(content, indent=1))
        os.replace(draft, file)
    except BaseException:
        if not before:  # no record says that these are copies
            origin.remove(files.values(), workdir)
        raise


def read_json(file: Path) -> dict:
    """A JSON file of a run's folder, or of a report; Damaged."""
    if not file.exists():
        raise UsageError(f"{file} is missing: not a folder of launch.train")
    fix = "restore it from a copy" if file.name == FILE else "make it again"
    return foreign.read_json(file, "file of a run", fix)


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
    # Recipes read classes and means of their data: here from the folder.
    # Its files run only where somebody has named them: it may be a stranger's folder.
    with common.known(facts and facts.known), plugins.opening(workdir):
        built = source.moved(copies).build()
        _refuse_policies(built)
    # Files by their names of then: traces are known by a digest of the recipe. Of two
    # names of one file, the first: `Source.build` writes that one everywhere.
    names = {copy: name for name, copy in reversed(copies.items())}
    recipe = origin.renamed(built, names)
    if (differs := difference(saved["recipe"], recipe)) is not None:
        raise UsageError(
            f"{workdir}/recipe.json describes another {recipe.name} than this version "
            f"of sc_jax or of the data builds ({differs})"
        )
    return recipe


def _refuse_policies(recipe: Recipe) -> None:
    """Of a recipe that is opened: texts that are looked up later, when it is used."""
    if recipe.policy:
        name, knobs = parse(recipe.policy, "policy")
        for text in (name, *knobs.values()):
            if isinstance(text, str) and plugins.is_file(text):
                plugins.refuse_untrusted(text)
    if recipe.teacher is not None:
        _refuse_policies(recipe.teacher)


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


def check_answers(
    teacher: Recipe, folder: Path, known: DataFacts | None = None
) -> str | None:
    """UsageError unless the run in `folder` answers as `teacher` is to: net, classes.

    What else its recipe differs in, None if nothing: how it was trained is its own
    affair. known: facts of the student's data; read from the data set without them.
    """
    saved = read_json(folder / FILE)
    differs = difference(saved["recipe"]["net"], teacher.net, "net")
    if differs is not None:
        raise UsageError(
            f"the teacher in {folder} has another net ({differs}); give another "
            "--teacher, or the recipe its teacher's knobs"
        )
    # Only what an answer depends on: net, classes, shape.
    facts = facts_of(folder)
    if facts is not None:
        own = known or dataset_of(teacher, "train")
        other = _other_data(facts, own)
        if other is not None:
            raise UsageError(
                f"the teacher in {folder} was trained on {facts.name}, whose {other} "
                f"of {own.name}: the recipe's data is another"
            )
    return difference(saved["recipe"], teacher)


def check_same_classes(recipe: Recipe, examples: Dataset, workdir: Path) -> None:
    """UsageError unless `examples` has the classes and shape of the run's own data."""
    own = facts_of(workdir) or dataset_of(recipe, "train")
    if (other := _other_data(own, examples)) is not None:
        raise UsageError(
            f"the run was trained on {own.name}, whose {other} of {examples.name}"
        )


def _other_data(own: DataFacts | Dataset, other: DataFacts | Dataset) -> str | None:
    """In what two data sets differ, "class 'a' is not the 'b'"; None: in nothing."""
    for ours, theirs in zip(own.classes, other.classes):
        if ours != theirs:
            return f"class {ours!r} is not the {theirs!r}"
    if (ours := len(own.classes)) != (theirs := len(other.classes)):
        return f"{ours} classes are not the {theirs}"
    if tuple(own.shape) != tuple(other.shape):
        return f"shape {list(own.shape)} is not the {list(other.shape)}"
    return None


def shapes_of(recipe: Recipe, workdir: Path) -> Any:
    """Of the run's variables: not fresh weights, which the checkpoint replaces."""
    example = example_of(recipe, workdir if (workdir / FILE).exists() else None)
    return variable_shapes(recipe.net, example)


def restore(recipe: Recipe, workdir: Path) -> tuple[Variables, dict[str, codecs.Codec]]:
    """The finished variables and codecs under `workdir`: tables as they were saved."""
    # Saved on a mesh of any size; whoever reads may have one device.
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like: Any = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes_of(recipe, workdir),
    )
    checkpoints = Checkpoints(workdir / "checkpoints", writing=False)
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
    checkpoints = Checkpoints(workdir / "checkpoints", writing=False)
    try:
        return _finished(workdir, checkpoints)
    finally:
        checkpoints.close()


def is_finished(workdir: Path) -> bool:
    """Whether a run ended in `workdir`; it need not exist."""
    if not (workdir / "checkpoints").is_dir():
        return False
    checkpoints = Checkpoints(workdir / "checkpoints", writing=False)
    try:
        _finished(workdir, checkpoints)
    except Unread:
        raise  # it may be
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
