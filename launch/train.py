"""Trains a recipe, measures it in real bytes, and writes a report.

  python -m launch.train --recipe=entropic_student --workdir=runs/first
  python -m launch.train --recipe=entropic_student --workdir=runs/curve \\
      --sweep=beta:0.0001,0.0002,0.0008
  python -m launch.train --list=recipes:entropic_student

The first needs nothing but this package; the second trains a curve under one teacher;
the third shows the knobs of a recipe. The same command resumes a run that was
stopped. A net with exits gets a report of what they save (docs/exits.md), a method of
one's own is a file: --recipe=FOLDER/mine.py:knob=value (docs/adding_a_part.md).
"""

from pathlib import Path

from absl import flags

from launch import cli
from sc_jax.runs import catalogue, sweep
from sc_jax.runs.run_folder import Source
from sc_jax.spec import parse
from sc_jax.train import devices

RECIPE = flags.DEFINE_string("recipe", None, "NAME:knob=value,... or FILE.py:...")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; created or resumed")
LIST = flags.DEFINE_string("list", None, f"{', '.join(catalogue.LISTS)}, or KIND:NAME")
SET = flags.DEFINE_multi_string("set", [], "path=value, as in phases.stage1.steps=100")
SWEEP = flags.DEFINE_string("sweep", "", "knob:value,value,...: a curve, one teacher")
TEACHER = flags.DEFINE_string("teacher", None, "folder of a trained teacher to reuse")
INIT = flags.DEFINE_string("init", None, "finished run whose parts it starts from")
BASELINES = flags.DEFINE_bool("baselines", True, "measure teacher and image codecs too")
MULTIHOST = flags.DEFINE_bool("multihost", False, "join other processes")
LOG_EVERY = flags.DEFINE_integer("log_every", 25, "steps between records", 1)
SAVE_EVERY = flags.DEFINE_integer("save_every", 250, "steps between checkpoints", 1)
KEEP = flags.DEFINE_integer("keep", 2, "checkpoints to keep", 1)
flags.declare_key_flag("skip_damaged")


def main(_):
    if LIST.value is not None:
        print(catalogue.show(LIST.value))
        return
    if RECIPE.value is None or WORKDIR.value is None:
        raise cli.UsageError(
            "give --recipe and --workdir; --list=recipes shows recipes"
        )
    name, knobs = parse(RECIPE.value, "recipe")
    # Before the recipe is built: processes must join before jax is used.
    devices.start(MULTIHOST.value, image_size=knobs.get("image_size"))
    sweep.run(
        Source(name, knobs, tuple(SET.value)), Path(WORKDIR.value), sweep=SWEEP.value,
        teacher_dir=Path(TEACHER.value) if TEACHER.value else None,
        init=Path(INIT.value) if INIT.value else None,
        baselines=BASELINES.value, command=cli.command(),
        log_every=LOG_EVERY.value, save_every=SAVE_EVERY.value, keep=KEEP.value,
    )  # fmt: skip


if __name__ == "__main__":
    cli.start(main)
