"""Rounds of training_step: processes that take turns, and what their times say."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.origin import origin
from sc_jax.errors import UsageError

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("timed_step.py")
# Each part of a step and the programs of timed_step whose times it is made of.
PARTS = {
    "teacher, forward": {"teacher": 1},
    "student, forward": {"student": 1, "teacher": -1},
    "student, backward": {"student_gradient": 1, "student": -1},
    "prior, forward": {"prior": 1, "student": -1},
    "prior, backward": {
        "gradient": 1, "student_gradient": -1, "prior": -1, "student": 1
    },
    "optimiser": {"step": 1, "gradient": -1},
}  # fmt: skip


def cases(
    windows: Sequence[str], batches: Sequence[str], channels: Sequence[str], fixed: dict
) -> list[dict]:
    """The main case in parts, then those that change one number of it."""
    try:
        numbers = {
            name: [int(text) for text in texts]
            for name, texts in zip(
                ("window", "batch", "channels"), (windows, batches, channels)
            )
        }
    except ValueError:
        raise UsageError(
            f"window, batch and channels are whole numbers: --window=112,224, not "
            f"{windows}, {batches}, {channels}"
        ) from None
    main = {name: values[0] for name, values in numbers.items()} | fixed
    others = [
        main | {name: value, "parts": False}
        for name, values in numbers.items()
        for value in values[1:]
    ]
    return [main, *others]


def reports(cases: list[dict], rounds: int, before: str | None) -> Iterator[dict]:
    """What was measured and where, after each case: a run may be ended early."""
    if before is not None and not (Path(before) / "sc_jax").is_dir():
        raise UsageError(f"--before={before} holds no sc_jax: name a checkout")
    load, found = os.getloadavg()[0], []
    for case in cases:
        subjects = {"step": (ROOT, case)}
        if before is not None:
            subjects["before"] = Path(before).absolute(), case
        if case is cases[0]:
            for what in ("pages", "prior", "teacher", "plain"):
                own = case | {"without": what, "parts": False}
                subjects["plain" if what == "plain" else f"no {what}"] = ROOT, own
        found.append({"case": case, "subjects": measured(subjects, rounds)})
        yield {
            **origin(),
            "machine": f"{platform.platform()}, {len(os.sched_getaffinity(0))} cores",
            "load": [load, os.getloadavg()[0]],
            "versions": {n: version(n) for n in ("jax", "jaxlib", "flax", "numpy")},
            "rounds": rounds,
            "cases": found,
        }


def measured(subjects: dict[str, tuple[Path, dict]], rounds: int) -> dict[str, Any]:
    """By subject (a checkout and a case): its speed, times of parts, to compile."""
    times: dict[str, list[dict]] = {name: [] for name in subjects}
    with ExitStack() as opened:
        workers, compile_s = {}, {}
        # One after another: two that compile at once would share the cores.
        for name, (checkout, case) in subjects.items():
            workers[name] = opened.enter_context(started(case, checkout))
            compile_s[name] = answer(workers[name])["compile_s"]
        for number in range(1 + rounds):
            # What runs first after another finds its caches: no one is always that one.
            order = list(workers) if number % 2 else list(workers)[::-1]
            for name in order:
                times[name].append(answer(workers[name], "round"))
        for worker in workers.values():
            worker.stdin.close()
    found = {}
    for name, (_, case) in subjects.items():
        # Within a round: a machine that slows down slows both.
        pairs = zip(times[name][1:], times["step"][1:])
        found[name] = speed(case, times[name][1:]) | {
            "step_is_quicker": statistics.median(
                a["step"] / b["step"] for a, b in pairs
            ),
            "compile_s": compile_s[name],
        }
    return found


def started(case: dict, checkout: Path) -> subprocess.Popen:
    """A worker of that checkout's library."""
    return subprocess.Popen(
        [sys.executable, str(WORKER), json.dumps(case)],
        env=os.environ | {"PYTHONPATH": str(checkout)},
        cwd=checkout, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def answer(worker: subprocess.Popen, question: str = "") -> dict:
    assert worker.stdin is not None and worker.stdout is not None
    if question:
        worker.stdin.write(question + "\n")
        worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise UsageError("a timed process ended early: its error stands above")
    return json.loads(line)


def speed(case: dict, times: list[dict]) -> dict[str, Any]:
    """Medians over rounds."""
    middle = {name: statistics.median(t[name] for t in times) for name in times[0]}
    found: dict[str, Any] = {"images_per_cpu_s": case["batch"] / middle["step"]}
    found["ms_an_image"] = 1e3 * middle["step"] / case["batch"]
    if "gradient" in middle:
        found["parts_ms_an_image"] = {
            part: 1e3
            * sum(sign * middle[n] for n, sign in signs.items())
            / case["batch"]
            for part, signs in PARTS.items()
        }
    return found


def table(report: dict) -> str:
    lines = [
        f"{report['machine']}; load {report['load'][0]:.1f} to {report['load'][1]:.1f}",
        f"{'window':>6} {'batch':>5} {'channels':>8} {'subject':>10} "
        f"{'ms an image':>12} {'images/CPU-s':>13} {'step is quicker':>16} "
        f"{'compile s':>10}",
    ]
    for row in report["cases"]:
        case = row["case"]
        for name, own in row["subjects"].items():
            lines.append(
                f"{case['window']:6d} {case['batch']:5d} {case['channels']:8d} "
                f"{name:>10} {own['ms_an_image']:12.2f} "
                f"{own['images_per_cpu_s']:13.1f} {own['step_is_quicker']:15.2f}x "
                f"{own['compile_s']:10.1f}"
            )
    parts = in_parts(report)
    lines.append(f"{'ms an image':>20}" + "".join(f"{n:>10}" for n in parts))
    for part in PARTS:
        cells = "".join(f"{own[part]:10.2f}" for own in parts.values())
        lines.append(f"{part:>20}{cells}")
    return "\n".join(lines)


def in_parts(report: dict) -> dict[str, dict[str, float]]:
    """Of the main case, by subject: milliseconds an image of each part."""
    subjects = report["cases"][0]["subjects"]
    key = "parts_ms_an_image"
    return {name: own[key] for name, own in subjects.items() if key in own}
