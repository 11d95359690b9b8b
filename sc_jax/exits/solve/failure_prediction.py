"""Fits the score that predicts whether stopping is a mistake."""

from __future__ import annotations

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.scores import Scoring, features
from sc_jax.exits.scores.fitted import FEATURES
from sc_jax.traces.trace import Trace, for_fitting


def fit(trace: Trace, ridge: float = 1.0) -> Scoring:
    """The "failure_prediction" score, one logistic regression for each exit.

    Target: 0 where the exit is worse than the last (wrong, it right): stopping is a
    mistake that going on would mend; else 1 (after EEFP, 2026). ridge: penalty on the
    squared weights of standardised features, in examples; the bias goes free.
    """
    if not 0 < ridge < np.inf:
        raise UsageError(f"ridge is above 0, not {ridge}")
    quality = for_fitting(trace).quality
    x = features(trace.answers)
    # Wrong at both is no mistake: going on would not mend it.
    fine = (quality >= quality[-1]).astype(np.float64)
    rows = [_logistic(a, b, ridge) for a, b in zip(x, fine)]
    return Scoring("failure_prediction", weights=tuple(rows))


def _logistic(x: np.ndarray, target: np.ndarray, ridge: float) -> tuple[float, ...]:
    """Weights [1 + FEATURES], bias first, by Newton's method with halved steps."""
    middle, scale = x.mean(0), x.std(0) + 1e-6
    design = np.concatenate([np.ones((len(x), 1)), (x - middle) / scale], 1)
    # A little pull on the bias too: a target that is always 1 stays finite.
    penalty = np.array([1e-3] + [ridge] * FEATURES)
    w = np.zeros(1 + FEATURES)

    def value(w: np.ndarray) -> float:
        z = design @ w
        return float((np.logaddexp(0, z) - target * z).sum() + penalty @ w**2 / 2)

    for _ in range(50):
        # The sigmoid, without overflow.
        p = 0.5 * (1 + np.tanh(0.5 * (design @ w)))
        slope = design.T @ (p - target) + penalty * w
        curve = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        size = 1.0
        # Newton overshoots where classes are separable: halve until it descends.
        while size > 1e-6 and value(w - size * step) > value(w):
            size /= 2
        w = w - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    # Weights of the features as they are: a device standardises nothing.
    own = w[1:] / scale
    return (float(w[0] - own @ middle), *own.tolist())
