"""How much worse an early answer is than the whole network's, on a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sc_jax.exits.scores.score import log_softmax
from sc_jax.traces.trace import Trace, class_labels


class Loss(NamedTuple):
    """What leaving at an exit costs in quality: f64[E, N] of a trace, 0 at the last."""

    function: Callable[[Trace], np.ndarray]
    low: float
    high: float


def error_gap(trace: Trace) -> np.ndarray:
    """Quality of the last minus that of e: -1 to 1; its mean is accuracy lost."""
    quality = trace.quality.astype(np.float64)
    return quality[-1] - quality


def harm(trace: Trace) -> np.ndarray:
    """The same where e is worse, else 0: gains count for nothing."""
    return np.maximum(error_gap(trace), 0.0)


def disagreement(trace: Trace) -> np.ndarray:
    """1 where e answers otherwise than the last, else 0; reads no labels."""
    answers = trace.answers.argmax(-1)
    # So it holds on unlabelled data of the place where it runs.
    return (answers != answers[-1]).astype(np.float64)


def brier_gap(trace: Trace) -> np.ndarray:
    """Half the Brier score of e minus the last's: -1 to 1 (Jazbec et al. 2024)."""
    labels = class_labels(trace)
    rows, own = [], np.arange(len(labels))
    for z in trace.answers:
        p = np.exp(log_softmax(z.astype(np.float64), np))
        # The squared distance to the one-hot label; halved it lies in 0..1.
        p[own, labels] -= 1
        rows.append((p**2).sum(-1) / 2)
    return np.stack(rows) - rows[-1]


LOSSES = {
    "error_gap": Loss(error_gap, -1.0, 1.0),
    "harm": Loss(harm, 0.0, 1.0),
    "disagreement": Loss(disagreement, 0.0, 1.0),
    "brier_gap": Loss(brier_gap, -1.0, 1.0),
}
