"""Solvers that fit a score too, or that promise something."""

from __future__ import annotations

from typing import Any

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.solve import eenet, risk
from sc_jax.exits.solve.failure_prediction import fit as fit_failure_prediction
from sc_jax.exits.solve.objectives import alone, best, scoring_of, solve_for
from sc_jax.exits.solve.thresholds import Solved
from sc_jax.traces.trace import Trace, for_fitting, subset


def failure_prediction(
    trace: Trace,
    *,
    budget: float | None = None,
    accuracy: float | None = None,
    recall: float | None = None,
    lost: float | None = None,
    ridge: float = 1.0,
    family: str = "geometric",
    points: int = 40,
) -> Solved:
    """Thresholds of the score that is fitted to mistakes, both on the same trace."""
    goals = {"budget": budget, "accuracy": accuracy, "recall": recall, "lost": lost}
    scoring = fit_failure_prediction(trace, ridge)
    return solve_for(trace, scoring, goals, family=family, points=points)


def controlled(
    trace: Trace,
    *,
    epsilon: float = 0.01,
    delta: float = 0.1,
    loss: str = "error_gap",
    method: str = "upper_confidence",
    score: str = "max_probability",
    calibrated: bool = False,
    points: int = 40,
    seed: int = 0,
) -> Solved:
    """Surely at most epsilon worse than the last exit (exits.solve.risk).

    A score that is fitted takes half of the trace, which the tests then leave out.
    """
    tested = for_fitting(trace)
    if calibrated or score == "failure_prediction":
        order = np.random.default_rng(seed + 1).permutation(len(trace.labels))
        half = len(order) // 2
        if half < 2:
            raise UsageError(f"{len(order)} examples cannot be halved for a fit")
        tested = subset(trace, order[half:])
        trace = subset(trace, order[:half])
    more: dict[str, Any] = {"loss": loss, "method": method, "points": points}
    scoring = scoring_of(trace, score, calibrated)
    return risk.control(
        tested, scoring, epsilon=epsilon, delta=delta, seed=seed, **more
    )


def scheduled(
    trace: Trace,
    *,
    budget: float | None = None,
    lost: float | None = None,
    pull: float = 1.0,
    price: float = 10.0,
    ridge: float = 10.0,
    width: int = 16,
    steps: int = 400,
    seed: int = 0,
) -> Solved:
    """EENet's scheduler, fitted to the budget, or to eight for the best of them."""
    more: dict[str, Any] = {"pull": pull, "price": price, "ridge": ridge}
    more |= {"width": width, "steps": steps, "seed": seed}
    if budget is not None:
        alone("budget", {"lost": lost})
        return eenet.fit(trace, budget=budget, **more)
    budgets = np.linspace(trace.cost[-1], trace.cost[0], 8, endpoint=False).tolist()
    return best(
        trace, [eenet.fit(trace, budget=b, **more) for b in budgets], None, lost
    )
