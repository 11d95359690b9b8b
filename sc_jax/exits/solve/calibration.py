"""Fits the temperatures at which a softmax says how often its exit is right."""

from __future__ import annotations

import numpy as np

from sc_jax.traces.trace import Trace, class_labels, for_fitting


def temperatures(
    trace: Trace, low: float = 0.01, high: float = 100.0
) -> tuple[float, ...]:
    """The temperature of each exit that is likeliest on the trace, within low..high.

    Guo et al. (2017): minimises mean log(sum_k exp(z_k / T)) - z_y / T. Convex in
    1 / T: Newton, by bisection where a step leaves the bracket. An exit that is always
    right goes to `low`, one that is no better than chance to `high`.
    """
    labels = class_labels(for_fitting(trace))
    return tuple(_temperature(z, labels, low, high) for z in trace.answers)


def _temperature(z: np.ndarray, labels: np.ndarray, low: float, high: float) -> float:
    z = z.astype(np.float64)
    # All 0 or less: exp(beta z) cannot overflow at any temperature.
    z -= z.max(-1, keepdims=True)
    own = z[np.arange(len(z)), labels]

    def slopes(beta: float) -> tuple[float, float]:
        p = np.exp(beta * z)
        p /= p.sum(-1, keepdims=True)
        mean = (p * z).sum(-1)
        curves = (p * z * z).sum(-1) - mean**2
        return float((mean - own).mean()), float(curves.mean())

    left, right = 1 / high, 1 / low
    # Convex, so a slope that rises at the end has its minimum there.
    if slopes(left)[0] >= 0:
        return high
    if slopes(right)[0] <= 0:
        return low
    # A geometric middle: temperatures are a scale, not a line.
    beta = (left * right) ** 0.5
    for _ in range(60):
        slope, curve = slopes(beta)
        left, right = (beta, right) if slope < 0 else (left, beta)
        step = beta - slope / curve if curve > 0 else left
        # Newton's step is taken only where the bracket proves it.
        new = step if left < step < right else (left * right) ** 0.5
        if abs(new - beta) <= 1e-10 * beta:
            break
        beta = new
    return 1 / beta
