"""Measures a trained run again: on its own test split, or on other data.

  python -m launch.evaluate --workdir=runs/first
  python -m launch.evaluate --workdir=runs/first --data=fashion_mnist --out=runs/full

  python -m launch.evaluate --workdir=runs/exits --policy=threshold:score=margin \\
      --budget=0.6

--policy and --budget (docs/exits.md) decide again from the recorded traces of a net
with exits; the network does not run. Weights and codec tables are read as they were
saved; nothing under --workdir changes unless --out is left out, where the report is
written again (baselines are kept in the teacher's folder).
"""

import sys
from pathlib import Path

from absl import flags

from launch import cli
from sc_jax.evaluate.reports import exit_report
from sc_jax.runs import baselines, exit_runs, rate_runs, run_folder
from sc_jax.train import devices

WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished launch.train run")
DATA = flags.DEFINE_string("data", None, "another data set of the same classes")
SPLIT = flags.DEFINE_string("split", "test", "test, validation or train")
OUT = flags.DEFINE_string("out", None, "folder of the report (default: the workdir)")
BASELINES = flags.DEFINE_bool("baselines", True, "measure the teacher and image codecs")


POLICY = flags.DEFINE_string("policy", None, "how to leave at exits, NAME:knob=...")
BUDGET = flags.DEFINE_float("budget", None, "of --policy: share or MACs", 0)


def main(_):
    if WORKDIR.value is None:
        raise cli.UsageError("give --workdir, a folder that launch.train has finished")
    if DATA.value and not OUT.value:
        raise cli.UsageError("with --data also give --out, so that no report is lost")
    workdir = Path(WORKDIR.value)
    recipe = run_folder.recipe_of(workdir)
    command = "python -m launch.evaluate " + " ".join(sys.argv[1:])
    if POLICY.value is not None or BUDGET.value is not None:
        decide(recipe, workdir, command)
        return
    devices.start(multihost=False)
    examples = run_folder.dataset_of(recipe, SPLIT.value, DATA.value)
    run_folder.check_same_classes(recipe, examples)
    out = Path(OUT.value) if OUT.value else workdir
    if exit_runs.leaves_early(recipe.net):
        exit_runs.conclude_again(recipe, workdir, out, examples, command)
        if not recipe.net.splits:
            return
    rows = [rate_runs.student_row(recipe, workdir, examples)]
    if BASELINES.value and recipe.teacher is not None:
        folder = run_folder.teacher_of(workdir)
        variables, _ = run_folder.restore(recipe.teacher, folder)
        rows = baselines.rows(recipe.teacher, variables, examples, folder) + rows
    rate_runs.conclude(rows, recipe, out, examples, command)


def decide(recipe, workdir, command):
    """Prints (and with --out writes) what a policy gives on the recorded traces."""
    if DATA.value:
        raise cli.UsageError("--policy reads the run's own traces: leave out --data")
    made = exit_runs.decide(
        recipe, workdir, SPLIT.value, POLICY.value or "", BUDGET.value
    )
    print(exit_report.table([made.way, made.whole], made.exits))
    if OUT.value:
        examples = run_folder.dataset_of(recipe, SPLIT.value)
        facts = rate_runs.facts_of(recipe, examples, command)
        exit_runs.write_decision(made, Path(OUT.value), facts)


if __name__ == "__main__":
    cli.start(main)
