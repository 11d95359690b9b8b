"""Two servers are killed, drained and started again under load: is anything lost?

    python -m benchmarks.serving.restarts --seconds=600 --clients=64 --out=restarts.json

Again and again one server is ended by SIGKILL and started anew, and while it compiles
the other is drained by SIGTERM and started anew too. So for some seconds no server
serves: the clients wait for one, each as long as --timeout_s. Every answer is compared
with that of the tail itself. Exit code 1 if a request is lost or answered wrong.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks.serving.server import free_ports
from benchmarks.untrained import frames, untrained
from launch import cli
from sc_jax.deploy.server import models, tails
from sc_jax.deploy.wire import frame
from sc_jax.deploy.wire.client import Client, EdgeError
from sc_jax.evaluate.reports.report import machine
from sc_jax.runs import run_folder
from sc_jax.train import devices

_SECONDS = flags.DEFINE_float("seconds", 600.0, "of load, at least one round", 1)
_CLIENTS = flags.DEFINE_integer("clients", 64, "threads, on eight channels", 1)
_TIMEOUT = flags.DEFINE_float("timeout_s", 120.0, "of a request, waiting included", 1)
_OUT = flags.DEFINE_string("out", None, "path of the JSON report")

MODEL, IMAGES, CHANNELS = "first", 40, 8
ALONE_S = 2.0  # between two blows


class Load:
    """Clients that ask until `end`; what they got is in `counts` and `taken_s`."""

    def __init__(self, address: str, sent: Sequence[bytes], expected: Sequence[int]):
        self.counts: Counter[str] = Counter()
        self.taken_s: list[float] = []
        self._sent, self._expected = sent, expected
        self._stop, self._lock = threading.Event(), threading.Lock()
        limit_s = _TIMEOUT.value
        channels = [
            Client(address, timeout_s=limit_s, wait=True) for _ in range(CHANNELS)
        ]
        self._threads = [
            threading.Thread(target=self._ask, args=(channels[n % CHANNELS], n))
            for n in range(_CLIENTS.value)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, client: Client, number: int) -> None:
        while not self._stop.is_set():
            number = (number + 1) % len(self._sent)
            begun = time.monotonic()
            try:
                reply = client.infer(MODEL, self._sent[number])
                right = reply.prediction == self._expected[number]
                outcome = "right" if right else "wrong"
            except EdgeError as error:
                outcome = f"lost: {error}"
            with self._lock:
                self.counts[outcome] += 1
                self.taken_s.append(time.monotonic() - begun)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def begin(tail: Path, port: int) -> subprocess.Popen:
    """A launch.serve on a port of its own; it still compiles."""
    command = [sys.executable, "-m", "launch.serve", f"--workdir={MODEL}={tail}"]
    return subprocess.Popen(
        [*command, f"--port={port}", "--max_batch=16"],
        stdout=subprocess.PIPE,
        text=True,
    )


def serves(server: subprocess.Popen) -> None:
    """Returns when the server says that it serves."""
    assert server.stdout is not None
    if " at " not in server.stdout.readline():
        raise RuntimeError("a server did not start")


def listens(port: int) -> None:
    """Returns when something accepts connections there: it may yet compile."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)


def rounds(tail: Path, ports: list[int], servers: list[subprocess.Popen]) -> int:
    """Kills one and drains the other until the time is over; how often."""
    end, count = time.monotonic() + _SECONDS.value, 0
    while count == 0 or time.monotonic() < end:
        first, other = (0, 1) if count % 2 else (1, 0)
        servers[first].kill()
        servers[first].wait()
        time.sleep(ALONE_S)
        servers[first] = begin(tail, ports[first])
        listens(ports[first])
        servers[other].send_signal(signal.SIGTERM)
        if code := servers[other].wait(60):
            raise RuntimeError(f"a drained server ended with exit code {code}")
        servers[other] = begin(tail, ports[other])
        for server in (servers[first], servers[other]):
            serves(server)
        time.sleep(ALONE_S)
        count += 1
    return count


def measure(workdir: Path) -> dict[str, Any]:
    recipe = run_folder.recipe_of(workdir)
    test = run_folder.dataset_of(recipe, "test").take(np.arange(IMAGES), "test")
    images = np.asarray(test.images)
    sent = frames(recipe.net, *run_folder.restore(recipe, workdir), images)
    tail = workdir.parent / "model.tail"
    tails.pack(workdir, tail)
    (own,) = models.load(tail, MODEL)[MODEL]
    z = np.stack([own.codec.decode(frame.unpack(data).payload) for data in sent])
    expected = own.reply(z)["prediction"].tolist()
    ports = free_ports(2)
    servers = [begin(tail, port) for port in ports]
    try:
        for server in servers:
            serves(server)
        load = Load(",".join(f"127.0.0.1:{port}" for port in ports), sent, expected)
        begun = time.monotonic()
        try:
            count = rounds(tail, ports, servers)
        finally:
            load.end()
        took_s = time.monotonic() - begun
    finally:
        for server in servers:
            server.kill()
            server.wait()
    p50, p99 = np.percentile(load.taken_s, (50, 99))
    return {
        "seconds": took_s,
        "clients": _CLIENTS.value,
        "rounds": count,
        "outcomes": dict(load.counts),
        "p50_s": float(p50),
        "p99_s": float(p99),
        "longest_s": max(load.taken_s),
    }


def main(_):
    devices.start(multihost=False)
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(untrained(Path(scratch) / MODEL))
    report |= {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.serving.restarts " + " ".join(sys.argv[1:]),
        "machine": machine(),
        "load_average": os.getloadavg(),
    }
    print(json.dumps(report, indent=1))
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(report, indent=1) + "\n")
    if bad := [each for each in report["outcomes"] if each != "right"]:
        cli.fail("; ".join(bad[:5]), 1)


if __name__ == "__main__":
    cli.start(main)
