"""What a network is for: its quality, its reply, what an exit's score reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A kind of answer, as plain functions of it; B, or N of a whole set, leads.

    An answer is what an exit gives (`Outputs.predictions`): an array or a pytree. The
    functions use array methods only, so that they serve NumPy and, under jit, JAX.

    metrics(answer, batch) -> {name: f32[B]}, per example; batch holds the targets.
    quality: the metric that traces keep and budgets are about, higher is better.
    summary({name: f[N]}) -> {name: float}: of a set, from the metrics of its examples.
    reply(answer) -> named arrays [B, ...]: what a server sends and a device returns.
    logits(answer) -> f32[B, K]: what confidence scores read.
    """

    name: str
    metrics: Callable[[Any, Mapping[str, Any]], dict[str, Any]]
    quality: str
    summary: Callable[[Mapping[str, np.ndarray]], dict[str, float]]
    reply: Callable[[Any], dict[str, Any]]
    logits: Callable[[Any], Any]


def means(metrics: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The summary of metrics that are averages over examples."""
    return {name: float(np.mean(values)) for name, values in metrics.items()}
