"""Trains a recipe, measures it in real bytes, and writes a report.

  python -m launch.train --recipe=entropic_student --workdir=runs/first
  python -m launch.train --recipe=ghnd:channels=6 --workdir=runs/ghnd \\
      --teacher=runs/first/teacher
  python -m launch.train --recipe=entropic_student --workdir=runs/curve \\
      --sweep=beta:0.0001,0.0002,0.0008

A net with exits is recorded on its validation and test splits, and gets a report of
what thresholds solved on the first give on the second (docs/exits.md).

Knobs of a recipe follow its name, or the path of a file mine.py with a function mine
(docs/adding_a_part.md); --set changes any field of the finished recipe. The
same command resumes a run that was stopped.
"""

import sys
from pathlib import Path

from absl import flags

from launch import cli
from sc_jax import recipes
from sc_jax.runs import baselines, exit_runs, rate_runs, run_folder, training
from sc_jax.spec import literal
from sc_jax.train import devices

__doc__ = f"{__doc__}\n{recipes.catalogue()}"

RECIPE = flags.DEFINE_string("recipe", None, "NAME:knob=value,... or FILE.py:...")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; created or resumed")
SET = flags.DEFINE_multi_string("set", [], "path=value, as in phases.stage1.steps=100")
SWEEP = flags.DEFINE_string("sweep", None, "knob:value,value,...: a curve, one teacher")
TEACHER = flags.DEFINE_string("teacher", None, "folder of a trained teacher to reuse")
MULTIHOST = flags.DEFINE_bool(
    "multihost", False, "join other processes (jax.distributed)"
)
LOG_EVERY = flags.DEFINE_integer("log_every", 25, "steps between records", 1)
SAVE_EVERY = flags.DEFINE_integer("save_every", 250, "steps between checkpoints", 1)
KEEP = flags.DEFINE_integer("keep", 2, "checkpoints to keep", 1)


def main(_):
    if RECIPE.value is None or WORKDIR.value is None:
        raise cli.UsageError(
            "give --recipe and --workdir. Recipes: " + ", ".join(recipes.RECIPES)
        )
    devices.start(MULTIHOST.value)
    workdir = Path(WORKDIR.value)
    name, knobs = cli.parse_recipe(RECIPE.value)
    knob, _, values = (SWEEP.value or "").partition(":")
    points = [literal(v) for v in values.split(",")] if values else [None]
    if SWEEP.value and points == [None]:
        raise cli.UsageError(f"--sweep takes knob:value,value, got {SWEEP.value!r}")
    sources = [
        run_folder.Source(name, knobs | ({knob: p} if values else {}), tuple(SET.value))
        for p in points
    ]
    built = [source.build() for source in sources]
    for recipe in built:  # every mistake shows before training
        exit_runs.check(recipe)
    teacher_dir = Path(TEACHER.value) if TEACHER.value else workdir / "teacher"
    options = dict(
        log_every=LOG_EVERY.value, save_every=SAVE_EVERY.value, keep=KEEP.value
    )
    command = "python -m launch.train " + " ".join(sys.argv[1:])
    rows, first = [], built[0]
    test = run_folder.dataset_of(first, "test")
    for point, source, recipe in zip(points, sources, built):
        folder = workdir if point is None else workdir / f"{knob}={point}"
        variables, taught = training.train(
            recipe, folder, source, teacher_dir=teacher_dir, **options
        )
        if exit_runs.leaves_early(recipe.net):
            exit_runs.conclude(recipe, folder, command)
            if not recipe.net.splits:
                continue
        whole = recipe.teacher or recipe
        if not rows and not whole.net.splits:
            net_variables = variables if taught is None else taught
            owner = teacher_dir if recipe.teacher else folder
            rows = baselines.rows(whole, net_variables, test, owner)
        if recipe.teacher is not None or recipe.net.splits:
            rows.append(rate_runs.student_row(recipe, folder, test))
    if rows:
        rate_runs.conclude(rows, first, workdir, test, command)


if __name__ == "__main__":
    cli.start(main)
