"""Measures a trained run again: on its own test split, or on other data.

  python -m launch.evaluate --workdir=runs/first
  python -m launch.evaluate --workdir=runs/first --data=fashion_mnist --out=runs/full

Weights and codec tables are read as they were saved; nothing under --workdir changes
unless --out is left out, where the report is written again.
"""

import sys
from pathlib import Path

from absl import flags

from launch import cli
from sc_jax import experiment
from sc_jax.train import devices

WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished launch.train run")
DATA = flags.DEFINE_string("data", None, "another data set of the same classes")
SPLIT = flags.DEFINE_string("split", "test", "test, validation or train")
OUT = flags.DEFINE_string("out", None, "folder of the report (default: the workdir)")
BASELINES = flags.DEFINE_bool("baselines", True, "measure the teacher and image codecs")


def main(_):
    if WORKDIR.value is None:
        raise cli.UsageError("give --workdir, a folder that launch.train has finished")
    if DATA.value and not OUT.value:
        raise cli.UsageError("with --data also give --out, so that no report is lost")
    devices.start(multihost=False)
    workdir = Path(WORKDIR.value)
    recipe = experiment.recipe_of(workdir)
    examples = experiment.dataset_of(recipe, SPLIT.value, DATA.value)
    experiment.check_same_classes(recipe, examples)
    rows = [experiment.student_row(recipe, workdir, examples)]
    if BASELINES.value and recipe.teacher is not None:
        folder = experiment.teacher_of(workdir)
        variables, _ = experiment.restore(recipe.teacher, folder)
        rows = experiment.baselines(recipe.teacher, variables, examples) + rows
    command = "python -m launch.evaluate " + " ".join(sys.argv[1:])
    out = Path(OUT.value) if OUT.value else workdir
    experiment.conclude(rows, recipe, out, examples, command)


if __name__ == "__main__":
    cli.start(main)
