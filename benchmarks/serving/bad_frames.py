"""Sends damaged frames to a real edge server and counts what comes back.

    python -m benchmarks.serving.bad_frames --frames=100000 --out=bad_frames.json

Every frame must get an answer or a typed refusal in time, the server's memory must not
grow, and a whole frame must be answered right afterwards; else exit code 1. Without
--workdir an untrained net is served. A frame whose damage leaves it whole (a checksum
made to fit again, over a payload that still decodes) is rightly answered.
"""

import json
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks.memory import resident_bytes
from benchmarks.serving.damage import DAMAGE, damaged
from benchmarks.serving.server import serving
from benchmarks.untrained import frames, untrained
from launch import cli
from sc_jax.deploy.wire.client import Client, EdgeError
from sc_jax.evaluate.reports.report import machine
from sc_jax.runs import run_folder

_WORKDIR = flags.DEFINE_string("workdir", None, "a finished run of one split")
_FRAMES = flags.DEFINE_integer("frames", 100_000, "damaged frames", 1)
_CALLS = flags.DEFINE_integer("calls", 16, "frames under way at once", 1)
_OUT = flags.DEFINE_string("out", None, "path of the JSON report")

TYPED = {"answer", "INVALID_ARGUMENT", "FAILED_PRECONDITION"}
GROWTH_BYTES = 64 << 20


def send(client: Client, data: bytes) -> str:
    """ "answer", or the name of the status."""
    try:
        client.infer("model", data, timeout_s=30)
    except EdgeError as error:
        return error.code
    return "answer"


def attack(address: str, pid: int, good: list[bytes], count: int) -> dict:
    """Sends `count` damaged frames after a warm-up of as many as 2000."""
    rng = np.random.default_rng(11)
    found: dict[str, Counter[str]] = {kind: Counter() for kind in DAMAGE}
    lock = threading.Lock()

    def one(item: tuple[str, bytes]) -> None:
        code = send(client, item[1])
        with lock:
            found[item[0]][code] += 1

    def some(number: int) -> None:
        made = [damaged(good[i % len(good)], rng) for i in range(number)]
        list(pool.map(one, made))

    with Client(address) as client, ThreadPoolExecutor(_CALLS.value) as pool:
        expected = [client.infer("model", data).prediction for data in good]
        some(min(count, 2000))
        for counts in found.values():
            counts.clear()
        before, begun = resident_bytes(pid), time.perf_counter()
        for number in (*repeat(5000, count // 5000), count % 5000):
            some(number)
        took = time.perf_counter() - begun
        after = resident_bytes(pid)
        again = [client.infer("model", data).prediction for data in good]
    totals = sum(found.values(), Counter())
    return {
        "frames": sum(totals.values()),
        "seconds": took,
        "outcomes": dict(totals),
        "by_damage": {kind: dict(counts) for kind, counts in found.items()},
        "memory_before_bytes": before,
        "memory_growth_bytes": after - before,
        "same_answers_after": again == expected,
    }


def verdict(report: dict) -> list[str]:
    """What is wrong, one line each."""
    wrong = []
    if strange := set(report["outcomes"]) - TYPED:
        wrong.append(f"outcomes beside {sorted(TYPED)}: {sorted(strange)}")
    if report["memory_growth_bytes"] > GROWTH_BYTES:
        wrong.append(f"the server grew by {report['memory_growth_bytes']} bytes")
    if not report["same_answers_after"]:
        wrong.append("whole frames got other answers afterwards")
    return wrong


def main(_):
    with tempfile.TemporaryDirectory() as scratch:
        workdir = Path(_WORKDIR.value or untrained(Path(scratch)))
        recipe = run_folder.recipe_of(workdir)
        test = run_folder.dataset_of(recipe, "test").take(np.arange(40), "test")
        images = np.asarray(test.images)
        good = frames(recipe.net, *run_folder.restore(recipe, workdir), images)
        with serving(workdir) as (address, pid):
            report = attack(address, pid, good, _FRAMES.value)
    report |= {
        "command": "python -m benchmarks.serving.bad_frames " + " ".join(sys.argv[1:]),
        "machine": machine(),
    }
    for kind, counts in report["by_damage"].items():
        print(f"{kind:10}", ", ".join(f"{n} {code}" for code, n in counts.items()))
    grown = report["memory_growth_bytes"] / 2**20
    print(f"{report['frames']} frames in {report['seconds']:.1f} s: "
          f"{report['outcomes']}; memory {grown:+.1f} MiB")  # fmt: skip
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(report, indent=1) + "\n")
    if wrong := verdict(report):
        cli.fail("; ".join(wrong), 1)


if __name__ == "__main__":
    cli.start(main)
