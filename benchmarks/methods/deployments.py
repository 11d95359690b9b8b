"""Ways of computing an answer, timed in turn; and the arithmetic over their times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sc_jax.evaluate.reports import plots
from sc_jax.evaluate.reports.report import Row
from sc_jax.plan.link import LINKS, Link, latency_s

SERVER = "server"  # the step that another machine would run
AGAINST, PEER = "JPEG q=75", "peer's encode()"  # ways that others are compared with


@dataclass(frozen=True)
class Way:
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


def measure(ways: Sequence[Way], rounds: int, warm_up: int = 3) -> list[dict[str, Any]]:
    """A row a way: medians over rounds in which every way had one turn.

    A turn is the image twice, and the second counts: none pays for its neighbour's
    traces in the caches.
    """
    taken: list[list[dict[str, float]]] = [[] for _ in ways]
    for number in range(warm_up + rounds):
        for way, times in zip(ways, taken):
            way.once(number)
            times.append(way.once(number))
    return [_row(way, times[warm_up:]) for way, times in zip(ways, taken)]


def _row(way: Way, times: list[dict[str, float]]) -> dict[str, Any]:
    device = [sum(s for step, s in t.items() if step != SERVER) for t in times]
    return {
        "group": way.group,
        "way": way.name,
        "dtype": way.dtype,
        "top1": way.top1,
        "framed_bytes": way.framed_bytes,
        "seconds": {step: _median(t[step] for t in times) for step in times[0]},
        "device_s": _median(device),
        "device_p95_s": float(np.percentile(device, 95)),
    }


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def total_s(row: Mapping[str, Any], link: Link) -> float | None:
    """Image to answer over a link; local ways send nothing and wait for nobody."""
    sent = row["framed_bytes"]
    if sent is None:
        return None
    if not sent:
        return row["device_s"]
    return row["device_s"] + latency_s(link, sent) + row["seconds"].get(SERVER, 0.0)


def break_even_bytes(link: Link, slow_s: float, fast_s: float) -> float:
    """Bytes that the slower way must save on this link to be as early; 0: none.

    The server's seconds and the round trip count as equal for both.
    """
    more_s = max(0.0, slow_s - fast_s)
    return more_s * link.up_bits_per_s * (1 - link.loss) / 8


def concluded(rows: list[dict[str, Any]]) -> None:
    """Adds to each row its latency over each link or, untrained, the bytes to save.

    Ways that claim no bytes also get how many times as long their group's peer takes.
    """
    for row in rows:
        if row["top1"] is not None:
            row["latency_s"] = {k: total_s(row, link) for k, link in LINKS.items()}
            continue
        beside = {r["way"]: r["device_s"] for r in rows if r["group"] == row["group"]}
        if row["framed_bytes"] is None:
            row["break_even_bytes"] = {
                k: break_even_bytes(link, row["device_s"], beside[AGAINST])
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
