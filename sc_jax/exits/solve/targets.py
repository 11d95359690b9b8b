"""Targets of a solver: a budget of cost, or a floor of accuracy at the lowest cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.scores import Scoring
from sc_jax.exits.solve.threshold_search import within
from sc_jax.exits.solve.thresholds import Solved, solve
from sc_jax.traces.trace import Trace, for_fitting

LOST = 0.01  # of accuracy, where neither a budget nor a floor is named


def solve_for(trace: Trace, scoring: Scoring, targets: dict, **more: Any) -> Solved:
    """`thresholds.solve` for one target; `lost`, of the accuracy, is one too."""
    target = {name: value for name, value in targets.items() if value is not None}
    if len(target) > 1:
        raise UsageError(
            f"one target of {', '.join(targets)}, not {' and '.join(target)}"
        )
    # A floor of accuracy that is counted from the whole network's.
    lost = target.pop("lost", None)
    if not target:
        target = {"accuracy": whole_accuracy(trace) - (LOST if lost is None else lost)}
    return solve(trace, scoring, **target, **more)


def best(
    trace: Trace, each: Sequence[Solved], budget: float | None, lost: float | None
) -> Solved:
    """The most accurate within a budget, or the cheapest that loses at most `lost`."""
    if budget is not None and lost is not None:
        raise UsageError("one target of budget, lost, not both")
    if budget is not None:
        within(budget, trace.cost)
        # The margin: a mean of equal costs may round above them.
        fits = [s for s in each if s.expected.mean_cost <= budget * (1 + 1e-9)]
        if not fits:
            costs = [s.expected.mean_cost for s in each]
            raise UsageError(
                f"no setting meets a mean cost of {budget:.6g} on split "
                f"{trace.split!r}: they take {min(costs):.6g} to {max(costs):.6g}"
            )
        # Of equals the cheaper one.
        return max(fits, key=lambda s: (s.expected.accuracy, -s.expected.mean_cost))
    floor = whole_accuracy(trace) - (LOST if lost is None else lost)
    fits = [s for s in each if s.expected.accuracy >= floor - 1e-9]
    if not fits:
        found = [s.expected.accuracy for s in each]
        raise UsageError(
            f"no setting reaches accuracy {floor:.6g} on split {trace.split!r}: they "
            f"have {min(found):.6g} to {max(found):.6g}"
        )
    return min(fits, key=lambda s: (s.expected.mean_cost, -s.expected.accuracy))


def alone(what: str, others: dict[str, Any]) -> None:
    """UsageError where others stand beside a number that leaves no choice."""
    found = [name for name, value in others.items() if value is not None]
    if found:
        raise UsageError(f"{what} leaves nothing to solve: no {' and no '.join(found)}")


def whole_accuracy(trace: Trace) -> float:
    """The last exit's; UsageError on the test split, which nothing is fitted on."""
    return float(for_fitting(trace).quality[-1].mean(dtype=np.float64))
