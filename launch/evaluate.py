"""Measures a trained run again: on its own test split, or on other data.

  python -m launch.evaluate --workdir=runs/first
  python -m launch.evaluate --workdir=runs/first --data=fashion_mnist --out=runs/full
  python -m launch.evaluate --workdir=runs/exits --policy=threshold:score=margin \\
      --budget=0.6

--policy and --budget decide again from the recorded traces of a net with exits; the
network does not run (docs/exits.md; python -m launch.train --list=policies). Weights
and codec tables are read as they were saved; nothing under --workdir changes unless
--out is left out, where the report is written again.
"""

from pathlib import Path

from absl import flags

from launch import cli
from sc_jax import plugins
from sc_jax.runs import evaluation
from sc_jax.train import devices

WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished launch.train run")
DATA = flags.DEFINE_string("data", None, "another data set of the same classes")
SPLIT = flags.DEFINE_string("split", "test", "test, validation or train")
OUT = flags.DEFINE_string("out", None, "folder of the report; without: the workdir")
BASELINES = flags.DEFINE_bool("baselines", True, "measure teacher and image codecs too")
AGREEMENT = flags.DEFINE_bool("agreement", False, "with the teacher, not with labels")
POLICY = flags.DEFINE_string("policy", None, "how to leave at exits, NAME:knob=...")
BUDGET = flags.DEFINE_float("budget", None, "of --policy: share or MACs", 0)
RECIPE = flags.DEFINE_list("recipe", [], "FILE.py,... of the run, to be trusted")
flags.declare_key_flag("skip_damaged")


def main(_):
    plugins.trust(RECIPE.value)
    if WORKDIR.value is None:
        raise cli.UsageError("give --workdir, a folder that launch.train has finished")
    workdir, out = Path(WORKDIR.value), Path(OUT.value) if OUT.value else None
    shared = {"split": SPLIT.value, "out": out, "command": cli.command()}
    if POLICY.value is not None or BUDGET.value is not None:
        if DATA.value:
            raise cli.UsageError(
                "--policy reads the run's own traces: leave out --data"
            )
        policy = POLICY.value or ""
        evaluation.decide(workdir, policy=policy, budget=BUDGET.value, **shared)
        return
    devices.start(multihost=False)
    evaluation.measure(
        workdir,
        data=DATA.value,
        baselines=BASELINES.value,
        agreement=AGREEMENT.value,
        **shared,
    )


if __name__ == "__main__":
    cli.start(main)
