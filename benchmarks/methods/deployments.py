"""Deployments of one task side by side: timed in turn, and what their times add up to.

A deployment is what stands where: a head and a coder on the device, the whole network
there, or an image file that goes to the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sc_jax.evaluate.reports import plots
from sc_jax.evaluate.reports.report import Row
from sc_jax.plan import LINKS, Link, answer_s, break_even_bytes

SERVER = "server"  # the step that another machine would run
REFERENCE = "JPEG q=75"  # the file that heads must beat
PEER = "peer's encode()"  # the published encoder, in others' code


@dataclass(frozen=True)
class Deployment:
    """once(n): one image, the n-th in turn; seconds by step, SERVER among them.

    top1: None where nothing was trained. framed_bytes: mean an image; 0: answers
    locally; None: not claimed. group: the run, or the size, that it belongs to.
    """

    group: str
    name: str
    dtype: str
    once: Callable[[int], dict[str, float]]
    top1: float | None = None
    framed_bytes: float | None = None


def chain(
    images: Sequence[Any] | np.ndarray, steps: Mapping[str, Callable[[Any], Any]]
) -> Callable[[int], dict[str, float]]:
    """`once` of steps that hand their results on."""

    def once(number: int) -> dict[str, float]:
        value, seconds = images[number % len(images)], {}
        for name, step in steps.items():
            begun = time.perf_counter()
            value = step(value)
            seconds[name] = time.perf_counter() - begun
        return seconds

    return once


def measure(
    deployments: Sequence[Deployment], rounds: int, warm_up: int = 3
) -> list[dict[str, Any]]:
    """A row each: medians over rounds in which every deployment had one turn.

    A turn is the image twice, and the second counts: none pays for its neighbour's
    traces in the caches.
    """
    times: list[list[dict[str, float]]] = [[] for _ in deployments]
    for number in range(warm_up + rounds):
        for deployment, own in zip(deployments, times):
            deployment.once(number)
            own.append(deployment.once(number))
    return [
        _row(deployment, own[warm_up:]) for deployment, own in zip(deployments, times)
    ]


def _row(deployment: Deployment, times: list[dict[str, float]]) -> dict[str, Any]:
    device = [sum(s for step, s in t.items() if step != SERVER) for t in times]
    return {
        "group": deployment.group,
        "deployment": deployment.name,
        "dtype": deployment.dtype,
        "top1": deployment.top1,
        "framed_bytes": deployment.framed_bytes,
        "seconds": {step: _median(t[step] for t in times) for step in times[0]},
        "device_s": _median(device),
        "device_p95_s": float(np.percentile(device, 95)),
    }


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def latency_s(row: Mapping[str, Any], link: Link) -> float | None:
    """Image to answer over a link, in seconds; None where no bytes are claimed."""
    sent, edge_s = row["framed_bytes"], row["seconds"].get(SERVER, 0.0)
    return None if sent is None else answer_s(link, row["device_s"], sent, edge_s)


def add_latencies(rows: list[dict[str, Any]]) -> None:
    """Adds to each row its latency over each link or, untrained, the bytes to save.

    Those that claim no bytes also get how many times as long their group's peer takes.
    """
    for row in rows:
        if row["top1"] is not None:
            row["latency_s"] = {k: latency_s(row, link) for k, link in LINKS.items()}
            continue  # times of random weights have no accuracy to stand beside
        beside = {
            r["deployment"]: r["device_s"] for r in rows if r["group"] == row["group"]
        }
        if row["framed_bytes"] is None:
            row["break_even_bytes"] = {
                k: break_even_bytes(link, row["device_s"], beside[REFERENCE])
                for k, link in LINKS.items()
            }
            if PEER in beside:
                row["peer_ratio"] = beside[PEER] / row["device_s"]


def matched(rows: Sequence[Row], top1: float) -> dict[str, Row]:
    """Format -> the smallest image file at which accuracy is `top1` or more.

    A format that never gets there is missing.
    """
    best: dict[str, Row] = {}
    for row in sorted(rows, key=plots.mean_bytes, reverse=True):
        if row.family == "classical" and row.quality >= top1:
            best[row.method.removeprefix("edge-only ").split()[0]] = row
    return dict(sorted(best.items()))
