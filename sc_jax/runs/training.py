"""A recipe trained in a folder, and its teacher before it."""

from __future__ import annotations

from pathlib import Path

from sc_jax.nets.run import Variables
from sc_jax.runs import run_folder
from sc_jax.train import loop
from sc_jax.train.recipe import Recipe, validate


def train(
    recipe: Recipe,
    workdir: Path,
    source: run_folder.Source | None = None,
    *,
    teacher_dir: Path | None = None,
    **options,
) -> tuple[Variables, Variables | None]:
    """Trains (or resumes) `recipe` and first its teacher: (variables, teacher's)."""
    validate(recipe, run_folder.example_of(recipe))
    folder = (teacher_dir or workdir / "teacher") if recipe.teacher else None
    run_folder.claim(workdir, source, recipe, folder)
    taught = None
    if recipe.teacher is not None and folder is not None:
        taught, _ = train(recipe.teacher, folder, title="teacher", **options)
    options.setdefault("title", recipe.name)
    return loop.fit(recipe, workdir, taught, **options), taught
