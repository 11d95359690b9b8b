"""One run, or a curve of runs over a knob: trained, measured and reported together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sc_jax.errors import UsageError
from sc_jax.evaluate.reports.report import Row
from sc_jax.recipes import common
from sc_jax.runs import (
    begun,
    exit_runs,
    preflight,
    rate_runs,
    run_folder,
    training,
)
from sc_jax.runs.run_folder import Source
from sc_jax.spec import literal, words
from sc_jax.train.recipe import Recipe


def points(source: Source, sweep: str) -> dict[str, Source]:
    """The runs of "knob:value,value" by their folder's name, "knob=value".

    Without a sweep one run, named "": it stands in the folder itself.
    """
    if not sweep:
        return {"": source}
    knob, values = words(sweep, "sweep")
    if not values:
        raise UsageError(f"--sweep takes knob:value,value, got {sweep!r}")
    if knob in source.knobs:
        raise UsageError(f"--sweep and --recipe both set {knob}; leave one out")
    return {
        f"{knob}={value}": replace(source, knobs=source.knobs | {knob: value})
        for value in map(literal, values)
    }


class Point(NamedTuple):
    """One run of a sweep; name: of its folder."""

    name: str
    source: Source
    recipe: Recipe


def built(
    source: Source, workdir: Path, sweep: str = "", teacher_dir: Path | None = None
) -> list[Point]:
    """The recipes of all points; UsageError where they do not share one teacher."""
    taught = teacher_dir or workdir / "teacher"
    found = [
        Point(name, each, begun.build(each, workdir / name, taught))
        for name, each in points(source, sweep).items()
    ]
    for point in found[1:]:
        if point.recipe.teacher != found[0].recipe.teacher:
            raise UsageError(
                f"--sweep: {point.name} has another teacher than {found[0].name}, and "
                "a sweep has one; train them in a --workdir each"
            )
    return found


def teacher_of(workdir: Path, teacher_dir: Path | None) -> dict[str, Any]:
    """What `training.train` takes of the teacher that all points share.

    A finished run teaches as it is; otherwise the first point trains the teacher there.
    """
    # Looked up once, before any point trains: the first may finish the teacher.
    finished = teacher_dir is not None and run_folder.is_finished(teacher_dir)
    reuse = teacher_dir if finished else None
    return {"teacher_dir": teacher_dir or workdir / "teacher", "reuse": reuse}


def run(
    source: Source,
    workdir: Path,
    *,
    sweep: str = "",
    teacher_dir: Path | None = None,
    baselines: bool = True,
    command: str = "",
    **options,
) -> None:
    """Trains and reports every point under `workdir`; all of them share one teacher.

    teacher_dir: of a finished run that teaches however it was trained, or where the
    teacher is to be trained. baselines: whether the teacher and image codecs are
    measured too. options: of `training.train`. Every mistake of a recipe shows before
    the first is trained.
    """
    runs = built(source, workdir, sweep, teacher_dir)
    taught = teacher_of(workdir, teacher_dir)
    for name, _, recipe in runs:
        places = workdir / name, taught["teacher_dir"]
        with common.known(begun.facts(recipe.data, *places)):
            preflight.check(recipe)
    rows, first = [], runs[0].recipe
    unlike = len({point.recipe.setting for point in runs}) == len(runs)
    test = run_folder.dataset_of(first, "test")
    for name, each, recipe in runs:
        folder = workdir / name
        training.train(recipe, folder, each, **taught, **options)
        if exit_runs.leaves_early(recipe.net):
            exit_runs.conclude(recipe, folder, command)
            if not recipe.net.splits:
                continue  # nothing is sent: the exits' report is all there is
        # Baselines once: they depend on the teacher and the data alone.
        own = rate_runs.rows(
            recipe, folder, test, baselines=baselines and not rows, beside=len(runs) > 1
        )
        if not unlike:  # as of seed: no setting names the knob, and rows look alike
            own = [_renamed(row, recipe, name) for row in own]
        rows += own
    if rows:
        rate_runs.conclude(rows, first, workdir, test, command)


def _renamed(row: Row, recipe: Recipe, name: str) -> Row:
    """A recipe's own row under its point's name; a baseline as it is."""
    mine = (row.method, row.setting) == (recipe.title, recipe.setting)
    return replace(row, setting=name) if mine else row
