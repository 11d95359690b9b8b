"""A published student as the finished folder of a run: nothing is trained.

Its parts and tables come from its file, all else from the teacher's checkpoint.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sc_jax import spec
from sc_jax.data import pipeline
from sc_jax.errors import UsageError
from sc_jax.nets.checkpoints import pretrained as checkpoint
from sc_jax.nets.run import Variables, variable_shapes
from sc_jax.places import cache_root
from sc_jax.recipes import common
from sc_jax.runs import evaluation, run_folder, zoo
from sc_jax.runs.lock import locked
from sc_jax.runs.source import Source
from sc_jax.runs.zoo import Student
from sc_jax.train.checkpoint import Checkpoints
from sc_jax.train.log import LOGGER
from sc_jax.train.recipe import Recipe
from sc_jax.train.serialisation import describe, digest
from sc_jax.writing import writing

TEACHER = "teacher"


def run(
    source: Source,
    workdir: Path,
    *,
    trains: Mapping[str, Any],
    report: bool = True,
    baselines: bool = True,
    command: str = "",
) -> None:
    """Unpacks the student that `source` names, and reports it where there is a set.

    trains: what only a training takes, by its flag; UsageError where any is set.
    """
    student, knobs = zoo.read(source.recipe), source.knobs
    for flag, value in {**trains, "--set": source.overrides}.items():
        if value:
            raise UsageError(
                f"{source.recipe} is trained already: leave out {flag}, or start "
                f"another run from it, --init={source.recipe}"
            )
    spec.check(source.recipe, zoo.knobs_of(source.recipe), knobs)
    # Before the folder is made: a mistake leaves nothing.
    student.check_teacher(knobs.get("pretrained"))
    recipe = _built(student, student.source(**knobs))
    measured = recipe.data.test or not pipeline.is_unlabelled(recipe.data)
    if report and measured:
        run_folder.dataset_of(recipe, "test")
    with locked(workdir):
        unpack(student, workdir, **knobs)
    if report and measured:
        evaluation.measure(workdir, baselines=baselines, command=command)
    else:
        LOGGER.info("%s is a finished run; test=indexed:1000:PATH measures it", workdir)


def kept(text: str, pretrained: str | Path | None) -> Path:
    """The folder of a student below `cache_root`, made at its first use."""
    student, root = zoo.read(text), cache_root()
    if root is None:
        raise UsageError("no place to keep a run: set SC_JAX_CACHE=FOLDER")
    # The recipe too: another version may build another net of the same words.
    source = student.source(student.record.teacher.url)
    name = f"{Path(student.name).stem}-{student.digest[:12]}"
    folder = root / "zoo" / f"{name}-{digest(_built(student, source))}"
    if folder.is_dir() and pretrained is None:
        return folder
    student.check_teacher(pretrained)
    if folder.is_dir():
        return folder
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, also where two processes come at once.
        draft = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        unpack(student, draft / "run", pretrained)
        if not folder.is_dir():
            with writing(folder):
                (draft / "run").rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def unpack(
    student: Student,
    folder: Path,
    pretrained: str | Path | None = None,
    data: str | None = None,
    test: str | None = None,
) -> Recipe:
    """Writes the finished run and its teacher's, or finds them there; its recipe."""
    student.check_teacher(pretrained)
    assert pretrained is not None
    source, facts = student.source(pretrained, data, test), student.record.data
    recipe, taught = _built(student, source), folder / TEACHER
    teacher = recipe.teacher
    assert teacher is not None
    _check_fits(student, recipe)
    run_folder.refuse(folder, recipe, taught)
    run_folder.claim(taught, source.teacher(), teacher, None, teaches=True, facts=facts)
    run_folder.claim(folder, source, recipe, taught, facts=facts)

    def theirs() -> Variables:
        like = run_folder.shapes_of(teacher, taught)
        return checkpoint.load(teacher.backbone, teacher.net, like, pretrained)

    def ours() -> Variables:
        whole, names = theirs(), run_folder.shapes_of(recipe, folder).params
        own = student.record.parts
        return Variables(
            *(
                {name: (mine if name in own else them)[name] for name in names}
                for mine, them in zip(student.variables, whole)
            )
        )

    _save(teacher, taught, theirs, {})
    _save(recipe, folder, ours, student.tables)
    with writing(folder):
        zoo.copy(student, folder)
    return recipe


def _check_fits(student: Student, recipe: Recipe) -> None:
    """UsageError where this version builds other parts than the student's."""
    example, net = student.record.data.example, recipe.net
    like = variable_shapes(net, example)
    for part in student.record.parts:
        for own, wanted in zip(student.variables, like):
            if jax.tree.map(np.shape, own[part]) != jax.tree.map(
                lambda leaf: leaf.shape, wanted.get(part)
            ):
                raise UsageError(
                    f"{zoo.PREFIX}{student.name} was trained by another version of "
                    f"sc_jax: its {part} has other parameters than this one builds"
                )


def _built(student: Student, source: Source) -> Recipe:
    """By the facts of the record: no data is opened."""
    with common.known(student.record.data.known):
        return source.build()


def _save(
    recipe: Recipe,
    folder: Path,
    variables: Callable[[], Variables],
    tables: Mapping[str, Mapping],
) -> None:
    """The one checkpoint of a run without phases."""
    checkpoints = Checkpoints(folder / "checkpoints", keep=1)
    try:
        if checkpoints.latest() is None:
            meta = {"phase": len(recipe.phases), "data": {}, "recipe": describe(recipe)}
            checkpoints.save(recipe.steps, jax.device_put(variables()), meta)
            checkpoints.wait()
        checkpoints.save_tables(recipe.steps, tables)
    finally:
        checkpoints.close()
