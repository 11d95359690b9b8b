"""Clients that load one edge server, each sending the next frame after an answer.

As a program it takes its orders as JSON lines, so that a benchmark can load servers of
several checkouts, each with the client of its own checkout on PYTHONPATH:

    {"address": "127.0.0.1:50051", "frames": "frames.npz", "clients": 8, "seconds": 2}
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np

try:
    from sc_jax.deploy.wire.client import Client, EdgeError
except ImportError:  # a checkout of before the Open Inference Protocol
    from sc_jax.deploy.wire.protocol import Client, EdgeError  # type: ignore

MODEL = "model"  # the id that benchmarks serve under


def load(address: str, sent: Sequence[bytes], clients: int, seconds: float) -> dict:
    """One row: answers a second and quantiles of latency over `clients` threads."""
    taken_s: list[float] = []
    grouped: list[int] = []
    errors: list[str] = []
    connected = threading.Barrier(clients)

    def client(number: int) -> None:
        # A connection each: devices do not share one.
        with Client(address) as connection:
            try:
                connection.infer(MODEL, sent[number % len(sent)])
            except EdgeError as error:
                errors.append(error.code)
            # Connecting costs many calls' time; only calls are measured.
            connected.wait()
            i, end = number, time.perf_counter() + seconds
            while (start := time.perf_counter()) < end:
                try:
                    reply = connection.infer(MODEL, sent[i % len(sent)])
                except EdgeError as error:
                    errors.append(error.code)
                    continue
                taken_s.append(time.perf_counter() - start)
                grouped.append(reply.batch_size)
                i += 1

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p50, p95, p99 = np.percentile(taken_s, (50, 95, 99)) if taken_s else [np.nan] * 3
    return {
        "clients": clients,
        "answers": len(taken_s),
        "answers_per_s": len(taken_s) / seconds,
        "p50_s": p50,
        "p95_s": p95,
        "p99_s": p99,
        "mean_batch": float(np.mean(grouped)) if grouped else 0.0,
        "errors": len(errors),
    }


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        with np.load(order["frames"]) as arrays:
            sent = [arrays[name].tobytes() for name in arrays.files]
        row = load(order["address"], sent, order["clients"], order["seconds"])
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
