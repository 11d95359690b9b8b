"""Early exits in seconds: how much of the saved MACs the executors turn into time.

  python -m benchmarks.speed.exit_speed --out=exit_speed.json
  python -m benchmarks.speed.exit_speed --net=resnet56 --side=32 \\
      --exits=layer1.6,layer2.4,layer3.2
  python -m benchmarks.speed.exit_speed --shares=0.7,0.2,0.05,0.05 --batch=64

The net is untrained; its thresholds are solved on the timed batch, so that the shares
are met. Everything takes turns in one process, so that a busy machine slows all alike:

  whole      the net without exits, all stages: what one would run otherwise
  run_all    every exit for every example, then the policy: nothing is saved
  capacity   fixed shares leave, in one program
  bucketed   a threshold decides, whoever is left is regrouped into buckets
  cond       batch 1, twenty images in turn that leave by the shares

speed-up: time of `whole` over its own, the median over rounds of the ratio within each.
ideal: the ratio of MACs, exit classifiers counted, padding not. of ideal: the one over
the other. CPU seconds tell more than wall-clock where other work has the cores. "could"
is what no loss at all would give: each segment's own time at the full batch, times who
gets there; under the ideal where early MACs are slower than late ones (few channels,
large maps).
"""

import json
import os
import platform
import statistics
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import jax
from absl import flags

from benchmarks.origin import origin
from benchmarks.speed import exit_case
from benchmarks.speed.exit_case import Case, Subject
from launch import cli

NET = flags.DEFINE_string("net", "resnet50", "a backbone of sc_jax.nets.backbones")
EXITS = flags.DEFINE_list(
    "exits", ["layer1", "layer2", "layer3"], "stages or groups that exits stand after"
)
SIDE = flags.DEFINE_integer("side", 64, "pixels of the square images", 1)
BATCH = flags.DEFINE_integer("batch", 256, "images of a batch; 20 or more", 20)
SHARES = flags.DEFINE_list(
    "shares", ["0.4", "0.25", "0.2", "0.15"], "who leaves at each exit, and at the last"
)
BUCKETS = flags.DEFINE_integer("buckets", 8, "of bucketed: parts of the batch", 1)
RUNS = flags.DEFINE_integer("runs", 15, "timed rounds; at batch 1 four times that", 1)
SEED = flags.DEFINE_integer("seed", 0, "of weights and images")
OUT = flags.DEFINE_string("out", None, "JSON file; default: printed only")
BARS = {"capacity": 0.9, "bucketed": 0.8, "cond": 0.85}

Times = dict[str, list[tuple[float, float]]]  # (wall, CPU) seconds of each round


def timed(calls: dict, runs: int, warm_up: int = 1) -> Times:
    """All calls in turn, round by round; the order turns about from round to round."""
    found: Times = {name: [] for name in calls}
    for number in range(warm_up + runs):
        # What runs first after another finds its caches: no one is always that one.
        order = list(calls) if number % 2 else list(calls)[::-1]
        for name in order:
            wall, cpu = time.perf_counter(), time.process_time()
            calls[name]()
            taken = time.perf_counter() - wall, time.process_time() - cpu
            if number >= warm_up:
                found[name].append(taken)
    return found


def ratio(times: Times, over: str, under: str, clock: int) -> float:
    """Median over rounds of the ratio within each."""
    pairs = zip(times[over], times[under])
    return statistics.median(a[clock] / b[clock] for a, b in pairs)


def rows(subjects: dict[str, Subject], times: Times, batch: int) -> list[dict]:
    """One row for each executor, beside the whole net at this batch."""
    whole, found = subjects["whole"], []
    for name, subject in subjects.items():
        wall, cpu = zip(*times[name])
        ideal = whole.ideal_macs / subject.ideal_macs
        speed_up, by_cpu = (ratio(times, "whole", name, clock) for clock in (0, 1))
        row = {
            "batch": batch,
            "executor": name,
            "wall_ms": {
                "median": 1e3 * statistics.median(wall),
                "best": 1e3 * min(wall),
            },
            "cpu_ms": {"median": 1e3 * statistics.median(cpu), "best": 1e3 * min(cpu)},
            "speed_up": speed_up,
            "speed_up_best": min(w for w, _ in times["whole"]) / min(wall),
            "speed_up_cpu": by_cpu,
            "ideal": ideal,
            "ideal_with_padding": whole.ideal_macs / subject.computed_macs,
            "of_ideal": speed_up / ideal,
            "of_ideal_cpu": by_cpu / ideal,
            "shares": subject.shares,
            "exits_other_than_the_policy": subject.different,
        }
        if "run_all" in times:
            row["speed_up_on_run_all"] = ratio(times, "run_all", name, 0)
        found.append(row)
    return found


def measured(
    subjects: dict[str, Subject], segments: dict, case: Case, batch: int, runs: int
) -> dict:
    """Rows, and what each segment's own time and who gets there would give."""
    calls = {name: subject.call for name, subject in subjects.items()} | segments
    times = timed(calls, runs)
    reach = [float((case.exits >= e).mean()) for e in range(len(segments))]
    # The best of all rounds: a bound must not carry the noise of a busy machine.
    own = {n: [min(t[clock] for t in times[n]) for clock in (0, 1)] for n in times}
    parts = [[r * t for t in own[name]] for r, name in zip(reach, segments)]
    wall, cpu = (sum(column) for column in zip(*parts))
    return {
        "batch": batch,
        "rows": rows(subjects, times, batch),
        "segment_ms": [1e3 * own[name][0] for name in segments],
        "could": {"wall": own["whole"][0] / wall, "cpu": own["whole"][1] / cpu},
    }


def table(report: dict) -> str:
    lines = [
        f"{report['net']}, {report['side']} px, {report['whole_mmacs']:.0f} MMAC; "
        f"{report['device']}; load {report['load'][0]:.1f} to {report['load'][1]:.1f}",
        f"{'batch':>5} {'executor':<10} {'ms (median, best)':>19} {'speed-up':>9} "
        f"{'ideal':>6} {'of ideal':>9} {'CPU ms':>9} {'of ideal':>9}   bar",
    ]
    for part in report["batches"]:
        for row in part["rows"]:
            wall, bar = row["wall_ms"], BARS.get(row["executor"])
            lines.append(
                f"{row['batch']:5d} {row['executor']:<10} {wall['median']:10.1f} "
                f"{wall['best']:8.1f} {row['speed_up']:8.2f}x {row['ideal']:5.2f}x "
                f"{row['of_ideal']:9.0%} {row['cpu_ms']['median']:9.1f} "
                f"{row['of_ideal_cpu']:9.0%}   " + (f"{bar:.0%}" if bar else "")
            )
        free = part["could"]
        lines.append(
            f"{part['batch']:5d} could      {free['wall']:28.2f}x by wall-clock, "
            f"{free['cpu']:.2f}x by CPU"
        )
    return "\n".join(lines)


def report() -> dict:
    try:
        shares = tuple(map(float, SHARES.value))
    except ValueError:
        raise cli.UsageError(f"shares are numbers, not {SHARES.value}") from None
    before = os.getloadavg()[0]
    case = exit_case.untrained(
        NET.value, tuple(EXITS.value), SIDE.value, BATCH.value, shares, SEED.value
    )
    many, few = exit_case.batched(case, BUCKETS.value), exit_case.twenty(case)
    each = exit_case.segments(replace(few, images=few.images[:1]), exit_case.TWENTY)
    batches = [
        measured(many, exit_case.segments(case), case, BATCH.value, RUNS.value),
        measured(exit_case.single(few), each, few, 1, 4 * RUNS.value),
    ]
    device = jax.devices()[0]
    return {
        **origin(),
        "machine": f"{platform.platform()}, {len(os.sched_getaffinity(0))} cores",
        "device": f"{device.platform}: {device.device_kind}",
        "load": [before, os.getloadavg()[0]],
        "versions": {n: version(n) for n in ("jax", "jaxlib", "flax", "numpy")},
        "net": NET.value,
        "exits": list(case.net.exit_names),
        "side": SIDE.value,
        "seed": SEED.value,
        "runs": RUNS.value,
        "buckets": BUCKETS.value,
        "shares": shares,
        "whole_mmacs": case.whole_macs / 1e6,
        "cost_shares": (case.cost / case.whole_macs).tolist(),
        "bars": BARS,
        "batches": batches,
    }


def main(argv):
    del argv
    cli.writable(OUT.value)
    found = report()
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    cli.start(main)
