"""Bad clients against a real edge server: memory, and what good clients get meanwhile.

    python -m benchmarks.serving.hostile --requests=1000000 --out=hostile.json

For each kind of benchmarks.serving.attacks, after a warm-up of all of them: resident
memory of the server, answers of --good clients that ask again --pause_ms after each
answer, and their latency, against the same clients alone, in turns. Bad clients wait
for answers, --window calls on each of --connections, which are ten at least where calls
are left open and eight where HTTP/2 is broken. The bars: memory within 5 % of its value
after the warm-up; every good answer right; 99 % of good requests answered where calls
are left open, else all; p99 at most three times its own before, where calls are whole.
Exit code 1 where one is missed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks.memory import resident_bytes
from benchmarks.serving import attacks
from benchmarks.serving.server import free_ports, serving
from benchmarks.untrained import frames, untrained
from launch import cli
from sc_jax.deploy.server import models
from sc_jax.deploy.wire import frame
from sc_jax.deploy.wire.client import Client, EdgeError
from sc_jax.evaluate.reports.report import machine
from sc_jax.runs import run_folder
from sc_jax.train import devices

_REQUESTS = flags.DEFINE_integer("requests", 20_000, "of each kind", 1)
_WARM_UP = flags.DEFINE_integer("warm_up", 3000, "requests of each kind before", 1)
_KINDS = flags.DEFINE_list("kinds", list(attacks.KINDS), "which")
_CONNECTIONS = flags.DEFINE_integer("connections", 2, "of bad clients", 1)
_WINDOW = flags.DEFINE_integer("window", 2, "calls at once on each", 1)
_GOOD = flags.DEFINE_integer("good", 4, "good clients", 1)
_PAUSE_MS = flags.DEFINE_float("pause_ms", 10.0, "of a good client", 0)
_ALONE_S = flags.DEFINE_float("alone_s", 5.0, "of good clients, each round", 0.1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "of good clients alone, then attacked", 1)
_SEED = flags.DEFINE_integer("seed", 0, "of all that is sent")
_OUT = flags.DEFINE_string("out", None, "path of the JSON report")

OPEN = ("half-open", "slow")
MANY = {"half-open": 10, "slow": 10, "framing": 8}  # connections, at least
OPEN_WARM_UP = 40_000  # until as many threads as ever have been in such a call
WIDER = {"metadata": 8}  # windows: gRPC delays its answers to those who break its rules
IMAGES = 40
GROWTH, TIMES, SHARE = 0.05, 3.0, 0.99  # the bars


class GoodClients:
    """Threads that ask for known answers; each goes to the figures named last."""

    def __init__(self, address: str, sent: Sequence[bytes], expected: Sequence[int]):
        self._sent, self._expected = sent, expected
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._found: dict[str, tuple[Counter[str], list[float]]] = {}
        self.name("")
        self._threads = [
            threading.Thread(target=self._ask, args=(address, n))
            for n in range(_GOOD.value)
        ]
        for thread in self._threads:
            thread.start()

    def name(self, name: str) -> None:
        """What comes now is put together under this name."""
        with self._lock:
            self._now = self._found.setdefault(name, (Counter(), []))

    def figures(self, name: str) -> dict[str, Any]:
        with self._lock:
            counts, taken_s = self._found[name]
            p50, p99 = np.percentile(taken_s or [np.nan], (50, 99))
            return {"counts": dict(counts), "p50_s": p50, "p99_s": p99}

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, address: str, number: int) -> None:
        with Client(address, timeout_s=10) as client:
            while not self._stop.wait(_PAUSE_MS.value / 1e3):
                number = (number + 1) % len(self._sent)
                begun = time.perf_counter()
                try:
                    reply = client.infer(attacks.MODEL, self._sent[number])
                    right = reply.prediction == self._expected[number]
                    outcome = "right" if right else "wrong"
                except EdgeError as error:
                    outcome = error.code
                with self._lock:
                    counts, taken_s = self._now
                    counts[outcome] += 1
                    taken_s.append(time.perf_counter() - begun)


@contextmanager
def attacker(file: Path, address: str):
    """Calls `attacks` in a process of its own: (kind, count, seed) -> outcomes."""
    command = [sys.executable, "-m", attacks.__name__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:

        def attack(kind: str, count: int, seed: int) -> dict[str, int]:
            many = max(MANY.get(kind, 1), _CONNECTIONS.value)
            order = {
                "kind": kind,
                "count": count,
                "address": address,
                "frames": str(file),
                "seed": seed,
                "connections": many,
                "window": _WINDOW.value * WIDER.get(kind, 1),
            }
            print(json.dumps(order), file=process.stdin, flush=True)
            assert process.stdout is not None
            return json.loads(process.stdout.readline())

        try:
            yield attack
        finally:
            process.kill()


def rejects(port: int) -> dict[str, int]:
    """The server's own count of refusals, by reason."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    name = 'sc_jax_edge_rejects_total{reason="'
    found = (line.removeprefix(name) for line in lines if line.startswith(name))
    return {r: int(float(n)) for r, n in (each.split('"} ') for each in found)}


def measured(attack, good: GoodClients, pid: int, warm: int, kind: str) -> dict:
    """A row of the table: one kind of bad clients."""
    outcomes, took_s = Counter(), 0.0
    for number in range(_ROUNDS.value):
        good.name("before " + kind)
        time.sleep(_ALONE_S.value)
        good.name(kind)
        begun, seed = time.perf_counter(), _SEED.value + 1 + number
        outcomes.update(attack(kind, -(-_REQUESTS.value // _ROUNDS.value), seed))
        took_s += time.perf_counter() - begun
    good.name("")
    before, during = good.figures("before " + kind), good.figures(kind)
    time.sleep(0.5)
    memory = resident_bytes(pid)
    return {
        "kind": kind,
        "requests": outcomes.total(),
        "seconds": took_s,
        "outcomes": dict(outcomes),
        "memory_bytes": memory,
        "memory_growth": memory / warm - 1,
        "before": before,
        "during": during,
        "p99_ratio": during["p99_s"] / before["p99_s"],
        "load_average": os.getloadavg()[0],
    }


def verdict(row: dict[str, Any]) -> list[str]:
    """Which bars a row misses, one line each."""
    kind, counts = row["kind"], row["during"]["counts"]
    right, total = counts.get("right", 0), sum(counts.values())
    wrong = []
    if not row["memory_bytes"]:
        wrong.append(f"{kind}: the server ended")
    if row["memory_growth"] > GROWTH:
        wrong.append(f"{kind}: memory grew by {100 * row['memory_growth']:.1f} %")
    if counts.get("wrong"):
        wrong.append(f"{kind}: {counts['wrong']} good answers were wrong")
    if right < total * (SHARE if kind in OPEN else 1):
        wrong.append(f"{kind}: {right} of {total} good requests were answered")
    if row["p99_ratio"] > TIMES and kind not in OPEN:
        wrong.append(f"{kind}: p99 is {row['p99_ratio']:.1f} times its own before")
    return wrong


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["kind        requests    a second  memory MiB  growth  good right  p99 ms"]
    for row in rows:
        counts = row["during"]["counts"]
        share = f"{counts.get('right', 0)}/{sum(counts.values())}"
        p99 = [1e3 * row[when]["p99_s"] for when in ("before", "during")]
        rate, mib = row["requests"] / row["seconds"], row["memory_bytes"] / 2**20
        lines.append(
            f"{row['kind']:11}{row['requests']:9} {rate:11.0f} {mib:11.1f}"
            f" {100 * row['memory_growth']:6.2f}% {share:>11}"
            f"  {p99[0]:.0f} -> {p99[1]:.0f}"
        )
    return "\n".join(lines)


def measure(workdir: Path) -> dict[str, Any]:
    recipe = run_folder.recipe_of(workdir)
    test = run_folder.dataset_of(recipe, "test").take(np.arange(IMAGES), "test")
    images = np.asarray(test.images)
    sent = frames(recipe.net, *run_folder.restore(recipe, workdir), images)
    (own,) = models.load(workdir, attacks.MODEL)[attacks.MODEL]
    z = np.stack([own.codec.decode(frame.unpack(data).payload) for data in sent])
    expected = own.reply(z)["prediction"].tolist()
    file = workdir.parent / "frames.npz"
    np.savez(file, *(np.frombuffer(data, np.uint8) for data in sent))
    (port,) = free_ports(1)
    rows: list[dict[str, Any]] = []
    with (
        serving(workdir, f"--metrics_port={port}", "--max_batch=16") as (address, pid),
        attacker(file, address) as attack,
    ):
        good = GoodClients(address, sent, expected)
        try:
            for kind in _KINDS.value:
                count = OPEN_WARM_UP if kind in OPEN else _WARM_UP.value
                attack(kind, count, _SEED.value)
            time.sleep(1)
            warm = resident_bytes(pid)
            for kind in _KINDS.value:
                rows.append(measured(attack, good, pid, warm, kind))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
                if not resident_bytes(pid):
                    break
            counted = rejects(port) if resident_bytes(pid) else {}
        finally:
            good.end()
    return {"memory_after_warm_up_bytes": warm, "rows": rows, "rejects": counted}


def main(_):
    if unknown := set(_KINDS.value) - set(attacks.KINDS):
        raise cli.UsageError(f"no kinds {sorted(unknown)}: {', '.join(attacks.KINDS)}")
    devices.start(multihost=False)
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(untrained(Path(scratch) / attacks.MODEL))
    report |= {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.serving.hostile " + " ".join(sys.argv[1:]),
        "machine": machine(),
        "seed": _SEED.value,
        "good_clients": _GOOD.value,
        "connections": _CONNECTIONS.value,
        "window": _WINDOW.value,
        "warm_up": _WARM_UP.value,
    }
    print(table(report["rows"]))
    print(f"refused by the server's own count: {report['rejects']}")
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(report, indent=1) + "\n")
    if missed := [line for row in report["rows"] for line in verdict(row)]:
        cli.fail("; ".join(missed), 1)


if __name__ == "__main__":
    cli.start(main)
