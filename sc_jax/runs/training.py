"""A recipe trained in a folder, and its teacher before it."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sc_jax.nets.run import Variables
from sc_jax.recipes import common
from sc_jax.runs import begun, run_folder, zoo
from sc_jax.runs.lock import locked
from sc_jax.runs.source import Source
from sc_jax.train import loop, running
from sc_jax.train.log import LOGGER
from sc_jax.train.recipe import Recipe
from sc_jax.train.validation import check_labels, validate


def train(
    recipe: Recipe,
    workdir: Path,
    source: Source | None = None,
    *,
    teacher_dir: Path | None = None,
    reuse: Path | None = None,
    init: Path | None = None,
    teaches: bool = False,
    **options,
) -> tuple[Variables, Variables | None]:
    """Trains (or resumes) `recipe` and first its teacher: (variables, teacher's).

    teacher_dir: where the teacher is trained, by default `workdir`/teacher. reuse: a
    finished run that is the teacher instead, however it was trained: only its answers
    count. init: a finished run whose parts this one starts with, where they fit. A
    finished run whose last phase is now longer goes on, unless it `teaches` others.
    options: of train.loop.fit.
    """
    taught = reuse or teacher_dir or workdir / "teacher"
    known = begun.facts(recipe.data, workdir, taught)
    # A teacher that is not begun yet is of what its student's run has recorded.
    facts = nullcontext() if known is None else common.known(known)
    # One for the teacher's training and the student's, and for what lies between.
    with facts, running.stopping(), locked(workdir):
        return _train(
            recipe, workdir, source, taught, reuse is not None, init, teaches, options
        )


def _train(
    recipe: Recipe,
    workdir: Path,
    source: Source | None,
    folder: Path,
    reused: bool,
    init: Path | None,
    teaches: bool,
    options: dict[str, Any],
) -> tuple[Variables, Variables | None]:
    """`train`, where the facts of the data are known. folder: the teacher's."""
    check(recipe, reused=reused)
    start = None if init is None else weights(init)
    begins = None if init is None or start is None else _init(init, start)
    # Before this folder is claimed: a refusal must leave no half-claimed run.
    refuse(recipe, workdir, folder, begins, reused=reused, teaches=teaches)
    teacher_variables = None
    if recipe.teacher is not None and reused:
        teacher_variables = _reused(recipe.teacher, folder)
    above = folder if recipe.teacher else None
    fresh = not (workdir / run_folder.FILE).exists()
    try:
        run_folder.claim(workdir, source, recipe, above, begins, teaches=teaches)
        if recipe.teacher is not None and not reused:
            own = None if source is None else source.teacher()
            more: dict[str, Any] = options | {"title": "teacher"}
            teacher_variables, _ = train(
                recipe.teacher, folder, own, teaches=True, **more
            )
            running.heed("after the teacher")
        # After the teacher's own call, which has another.
        options.setdefault("title", recipe.name)
        variables = loop.fit(recipe, workdir, teacher_variables, start=start, **options)
    except BaseException:
        # Before the first checkpoint nothing was learnt: another recipe may have it.
        if fresh:
            run_folder.withdraw(workdir)
        raise
    return variables, teacher_variables


def check(recipe: Recipe, *, reused: bool = False) -> None:
    """UsageError, one line, for what would fail while training or at its end.

    reused: the teacher is a finished run, and not trained. Said: that the data set is
    not the one that the run was begun with.
    """
    data = run_folder.dataset_of(recipe, "train")
    validate(recipe, data.example(), data.target())
    trained = recipe
    while trained is not None:
        check_labels(trained, data)
        trained = None if reused else trained.teacher
    begun.report_change(recipe, data)


def refuse(
    recipe: Recipe,
    workdir: Path,
    folder: Path,
    begins: run_folder.Init | None = None,
    *,
    reused: bool = False,
    teaches: bool = False,
) -> None:
    """UsageError where a folder holds another run, or the teacher answers otherwise.

    folder: the teacher's. Nothing is written: a sweep asks of all of its points first.
    """
    teacher = recipe.teacher
    if teacher is not None and reused:
        run_folder.check_answers(teacher, folder)
    elif teacher is not None:
        inner = folder / "teacher" if teacher.teacher else None
        run_folder.refuse(folder, teacher, inner, teaches=True)
    above = folder if teacher else None
    run_folder.refuse(workdir, recipe, above, begins, teaches=teaches)


def begins_with(init: Path | None) -> run_folder.Init | None:
    """Which finished run another is to start from, as its folder will record it."""
    return None if init is None else _init(init, weights(init))


def _reused(teacher: Recipe, folder: Path) -> Variables:
    """The variables of a finished run that answers as `teacher` is to."""
    other = run_folder.check_answers(teacher, folder)
    if other is not None:
        LOGGER.info("the teacher in %s is as it was trained: %s", folder, other)
    return run_folder.restore(teacher, folder)[0]


def _init(folder: Path, start: Variables) -> run_folder.Init:
    """Which run another starts from, and a digest of its weights."""
    seen = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(start):
        # Names and shapes too: the same numbers in other places are other weights.
        seen.update(f"{jax.tree_util.keystr(path)} {leaf.dtype}{leaf.shape}".encode())
        seen.update(np.ascontiguousarray(leaf).tobytes())
    return run_folder.Init(str(folder), seen.hexdigest()[:12])


def weights(folder: Path) -> Variables:
    """The variables of a finished run, or of a student's parts, to start another."""
    if zoo.is_named(folder):
        return zoo.read(folder).variables
    return run_folder.restore(run_folder.recipe_of(folder), folder)[0]
