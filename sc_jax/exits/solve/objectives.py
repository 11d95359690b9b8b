"""What ways to leave share: one goal, the best of several settings, a score by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sc_jax.errors import UsageError
from sc_jax.exits.scores import Scoring
from sc_jax.exits.solve import failure_prediction
from sc_jax.exits.solve.calibration import temperatures
from sc_jax.exits.solve.threshold_search import within
from sc_jax.exits.solve.thresholds import Solved, solve
from sc_jax.traces.trace import Trace, for_fitting

LOST = 0.01  # of accuracy, where no goal is given


def scoring_of(trace: Trace, score: str, calibrated: bool) -> Scoring:
    """The score by name, with what must be fitted for it on the trace."""
    if score == "eenet":
        raise UsageError("score 'eenet' is fitted with its shares: policy 'eenet'")
    if score != "failure_prediction":
        return Scoring(score, temperatures(trace) if calibrated else ())
    if calibrated:
        raise UsageError("score 'failure_prediction' is fitted as it is: no calibrated")
    return failure_prediction.fit(trace)


def solve_for(trace: Trace, scoring: Scoring, goals: dict, **more: Any) -> Solved:
    """`thresholds.solve` for one goal; `lost`, of the accuracy, is one too."""
    given = {name: value for name, value in goals.items() if value is not None}
    if len(given) > 1:
        raise UsageError(f"one goal of {', '.join(goals)}, not {' and '.join(given)}")
    lost = given.pop("lost", None)
    if not given:
        given = {"accuracy": whole_accuracy(trace) - (LOST if lost is None else lost)}
    return solve(trace, scoring, **given, **more)


def best(
    trace: Trace, each: Sequence[Solved], budget: float | None, lost: float | None
) -> Solved:
    """The most accurate within a budget, or the cheapest that loses at most `lost`."""
    if budget is not None and lost is not None:
        raise UsageError("one goal of budget, lost, not both")
    if budget is not None:
        within(budget, trace.cost)
        fits = [s for s in each if s.expected.mean_cost <= budget * (1 + 1e-9)]
        if not fits:
            costs = [s.expected.mean_cost for s in each]
            raise UsageError(
                f"no setting meets a mean cost of {budget:.6g} on split "
                f"{trace.split!r}: they take {min(costs):.6g} to {max(costs):.6g}"
            )
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
    """UsageError where others are given beside a number that leaves no choice."""
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise UsageError(f"{what} leaves nothing to solve: no {' and no '.join(given)}")


def each_exit(values: tuple | float, exits: int) -> tuple[float, ...]:
    """A tuple as given, or one number for each of the exits."""
    return values if isinstance(values, tuple) else (float(values),) * exits


def whole_accuracy(trace: Trace) -> float:
    """The last exit's; UsageError on the test split, which nothing is fitted on."""
    answers = for_fitting(trace).predictions[-1].argmax(-1)
    return float((answers == trace.labels).mean())
