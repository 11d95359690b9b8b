"""One run, or a curve of runs over a knob: trained, measured and reported together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sc_jax.errors import UsageError
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
    taught = teacher_dir or workdir / "teacher"
    runs = [
        (name, each, begun.build(each, workdir / name, taught))
        for name, each in points(source, sweep).items()
    ]
    for name, _, recipe in runs:
        with common.known(begun.facts(recipe.data, workdir / name, taught)):
            preflight.check(recipe)
    for name, _, recipe in runs[1:]:
        if recipe.teacher != runs[0][2].teacher:
            raise UsageError(
                f"--sweep: {name} has another teacher than {runs[0][0]}, and a sweep "
                "has one; train them in a --workdir each"
            )
    finished = teacher_dir is not None and run_folder.is_finished(teacher_dir)
    reuse = teacher_dir if finished else None
    rows, first = [], runs[0][2]
    unlike = len({recipe.setting for *_, recipe in runs}) == len(runs)
    test = run_folder.dataset_of(first, "test")
    for name, each, recipe in runs:
        folder = workdir / name
        training.train(recipe, folder, each, teacher_dir=taught, reuse=reuse, **options)
        if exit_runs.leaves_early(recipe.net):
            exit_runs.conclude(recipe, folder, command)
            if not recipe.net.splits:
                continue
        beside = baselines and not rows
        own = rate_runs.rows(recipe, folder, test, baselines=beside)
        if not unlike:  # as of seed: no setting names the knob, and rows look alike
            mine = recipe.title, recipe.setting
            own = [
                replace(r, setting=name) if (r.method, r.setting) == mine else r
                for r in own
            ]
        rows += own
    if rows:
        rate_runs.conclude(rows, first, workdir, test, command)
