"""A shallow training step: images a CPU second, and where its time goes.

    taskset -c 0 python -m benchmarks.speed.training_step --out=training_step.json
    taskset -c 0 python -m benchmarks.speed.training_step --before=../older

The Entropic Student's shallow phase (the hint at the cut alone, and bits) on random
images and weights: squares of --window pixels, a batch of --batch, a latent of
--channels. Each subject has a process of its own, and they take turns, round by round:

  step       this checkout's
  before     the library of another checkout, --before
  no pages, no prior, no teacher    without one of what makes it quick: memory that
             the process keeps, the prior's quick gradient, the teacher in portions
  plain      in XLA's own forms, as accelerators run it (convolution.plain)

CPU seconds of one process, so that other work on the machine counts little; under
taskset there is one thread. The first line of cases is timed in parts too, each the
difference of a program and of one that lacks it. Then one of window, batch and channels
is changed at a time: images a second would stay where cost is linear.
"""

import json
from pathlib import Path

from absl import flags

from benchmarks.speed import step_rounds
from launch import cli

BACKBONE = flags.DEFINE_string("backbone", "mobilenetv2", "teacher and tail")
PAIR = flags.DEFINE_string("pair", "patch", "encoder and decoder")
WINDOWS = flags.DEFINE_list("window", ["112", "224"], "pixels; the first is main")
BATCHES = flags.DEFINE_list("batch", ["16", "4", "32"], "images; the first is main")
CHANNELS = flags.DEFINE_list("channels", ["24", "12"], "the first is main")
ROUNDS = flags.DEFINE_integer("rounds", 7, "timed, after one untimed", 1)
BEFORE = flags.DEFINE_string("before", None, "another checkout, built")
SEED = flags.DEFINE_integer("seed", 0, "of weights, images and noise")
OUT = flags.DEFINE_string("out", None, "JSON file; default: printed only")


def main(argv):
    del argv
    cli.writable(OUT.value)
    fixed = {"backbone": BACKBONE.value, "pair": PAIR.value, "seed": SEED.value}
    cases = step_rounds.cases(WINDOWS.value, BATCHES.value, CHANNELS.value, fixed)
    found: dict = {}
    for found in step_rounds.reports(cases, ROUNDS.value, BEFORE.value):
        if OUT.value:
            Path(OUT.value).write_text(json.dumps(found, indent=1) + "\n")
    print(step_rounds.table(found))


if __name__ == "__main__":
    cli.start(main)
