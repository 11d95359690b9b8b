"""Softmax of all exits' logits in float64, checked: what scores and losses read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from sc_jax.errors import UsageError


def log_probabilities(logits: np.ndarray) -> Iterator[np.ndarray]:
    """Log-softmax f64[N, K] of each exit, one in memory at a time."""
    logits = np.asarray(logits)
    if logits.ndim != 3 or 0 in logits.shape or logits.shape[2] < 2:
        shape = list(logits.shape)
        raise UsageError(
            f"logits are [exits, examples, 2 or more classes], not {shape}"
        )
    for e, z in enumerate(logits):
        bad = np.flatnonzero(~np.isfinite(z).all(-1))
        if bad.size:
            raise UsageError(f"logits of exit {e}, example {bad[0]}: NaN or infinite")
        yield normalise(z.astype(np.float64))


def by_exit(logits: np.ndarray, function: Callable) -> np.ndarray:
    """f32[E, N], the function of the log-softmax of each exit."""
    rows = [function(log_p) for log_p in log_probabilities(logits)]
    return np.stack(rows).astype(np.float32)


def normalise(z: np.ndarray) -> np.ndarray:
    """Log-softmax over the last axis."""
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def entropy_of(log_p: np.ndarray) -> np.ndarray:
    """Nats, 0 to ln K."""
    nats = -(np.exp(log_p) * log_p).sum(-1)
    return np.clip(nats, 0.0, math.log(log_p.shape[-1]))


def margin_of(log_p: np.ndarray) -> np.ndarray:
    """Largest minus second largest probability of log-softmax [N, K]."""
    top = np.exp(np.partition(log_p, -2, axis=-1)[:, -2:])
    return top[:, 1] - top[:, 0]
