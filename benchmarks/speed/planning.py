"""Times every planner of splits on networks of 25 to 400 stages.

  python -m benchmarks.speed.planning --runs=9 --out=runs/planning.json

Drawn profiles of two cuts a stage and three exits, edges that are fast at some stages
and slow at others, records of 500 inputs: their plans mean nothing, but what a plan
takes depends on the number of stages. CPU milliseconds of one thread, the median of
--runs rounds in which all planners take turns.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy

import json
from pathlib import Path

from absl import flags

from benchmarks.origin import origin
from benchmarks.speed.planner_times import INPUTS, drawn, milliseconds, planners
from launch import cli
from sc_jax.evaluate.reports.report import aligned, machine

STAGES = flags.DEFINE_list("stages", ["25", "50", "100", "200", "400"], "how many")
RUNS = flags.DEFINE_integer("runs", 9, "rounds, after one that does not count", 1)
OUT = flags.DEFINE_string("out", None, "JSON file")


def main(_):
    cli.absent(OUT.value)
    rows = []
    for stages in map(int, STAGES.value):
        found = milliseconds(planners(drawn(stages)), RUNS.value)
        rows += [{"planner": n, "stages": stages, "ms": ms} for n, ms in found.items()]
    names = list(dict.fromkeys(row["planner"] for row in rows))
    ms = {(row["planner"], row["stages"]): row["ms"] for row in rows}
    counts = [*map(int, STAGES.value)]
    cells = [[n, *(f"{ms[n, count]:.1f}" for count in counts)] for n in names]
    print(aligned([["ms of", *map(str, counts)], *cells]))
    if OUT.value:
        facts = {"machine": machine(), "runs": RUNS.value, "inputs": INPUTS}
        report = {**origin(), **facts, "rows": rows}
        Path(OUT.value).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    cli.start(main)
