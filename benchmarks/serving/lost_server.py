"""What an image costs a device whose server was killed, with and without its breaker.

    python -m benchmarks.serving.lost_server --seconds=60 --out=lost_server.json

An untrained net with an exit on the device answers one image after another, a
launch.serve the rest; it is killed, and started again on its port. Prints a line a
phase: images, milliseconds, who answered, bytes that left; and how long after the start
of a new server it answered. Without the breaker: one that opens after a billion losses.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks.serving.server import free_ports, serving
from benchmarks.untrained import untrained
from launch import cli
from sc_jax.deploy import bundle
from sc_jax.deploy.device.device import Device, connect
from sc_jax.deploy.export import package
from sc_jax.deploy.wire.breaker import Breaker
from sc_jax.evaluate.reports.report import machine
from sc_jax.runs import run_folder
from sc_jax.train import devices

_SECONDS = flags.DEFINE_float("seconds", 60.0, "the server stays lost, each time", 1)
_UP = flags.DEFINE_float("up_s", 5.0, "of answers of the server and of the exit", 0.1)
_OUT = flags.DEFINE_string("out", None, "path of the JSON report")


def phase(device: Device, images: np.ndarray, limit_s: float, until: str = "") -> dict:
    """What images got for limit_s, or until one was answered at an exit."""
    taken_s, exits, sent = [], Counter(), 0
    begun = time.monotonic()
    for image in cycle(images):
        at = time.perf_counter()
        answer = device.infer(image)
        taken_s.append(time.perf_counter() - at)
        exits[answer.exit] += 1
        sent += answer.sent_bytes
        if time.monotonic() - begun >= limit_s or answer.exit == until:
            break
    return {
        "seconds": time.monotonic() - begun,
        "images": len(taken_s),
        "mean_ms": float(1e3 * np.mean(taken_s)),
        "median_ms": float(1e3 * np.median(taken_s)),
        "longest_ms": float(1e3 * np.max(taken_s)),
        "exits": dict(exits),
        "sent_bytes": sent,
    }


def measure(folder: Path) -> dict[str, Any]:
    """Phases by name, and the seconds until a server that is back was used."""
    workdir = untrained(folder / "model", "entropic_exits")
    # Nobody trained it: how far its answers or bytes are off says nothing.
    package.package(
        workdir, folder / "bundle", max_drop_points=100.0, max_more_bytes=9.0
    )
    made, (port,) = bundle.read(folder / "bundle"), free_ports(1)
    test = run_folder.dataset_of(run_folder.recipe_of(workdir), "test")
    images = np.asarray(test.take(np.arange(200)).images)
    found: dict[str, Any] = {}
    found["exit alone"] = phase(Device(made), images, _UP.value)
    start = partial(serving, workdir, f"--port={port}")
    for name, breaker in (("without", Breaker(losses=10**9)), ("with", Breaker())):
        with ExitStack() as stack:
            address, process = stack.enter_context(start())
            device = Device(made, connect(address), breaker=breaker)
            found[f"server, {name} breaker"] = phase(device, images, _UP.value)
            os.kill(process, signal.SIGKILL)
            lost = phase(device, images, _SECONDS.value)
            found[f"lost, {name} breaker"] = lost
            if "edge" in lost["exits"]:
                raise RuntimeError("a server that was killed answered")
        found[f"used again, {name} breaker, s"] = used_again_s(device, images, start)
    return found


def used_again_s(
    device: Device, images: np.ndarray, start: Callable[[], AbstractContextManager]
) -> float:
    """Seconds from the first word of a server that is back to its first answer."""
    # The device goes on meanwhile: its probes in vain decide when the next one comes.
    meanwhile = threading.Thread(target=phase, args=(device, images, 300.0, "edge"))
    meanwhile.start()
    with start():
        begun = time.monotonic()
        meanwhile.join()
        return time.monotonic() - begun


def main(_):
    devices.start(multihost=False)
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(Path(scratch))
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.serving.lost_server " + " ".join(sys.argv[1:]),
        "machine": machine(),
        "load_average": os.getloadavg(),
        "phases": found,
    }
    for name, each in found.items():
        print(f"{name}: {json.dumps(each)}")
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    cli.start(main)
