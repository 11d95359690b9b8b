"""Ways to leave: policies as they are asked for, given in numbers or solved on a trace.

Each takes a trace and the knobs of its signature, most with defaults. A `budget` is in
the unit of trace.cost. Where a policy has several settings and none is given, the one
that is most accurate within the budget is found, or, without a budget, the cheapest
that loses at most `lost` (0.01) of the whole network's accuracy on the trace. The usual
family of thresholds, "geometric", spends the budget given, as MSDNet does: where early
exits are the better ones, "shared" or a smaller budget may be more accurate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sc_jax.errors import UsageError, unknown
from sc_jax.exits.policies import Anytime, Patience, PerClass, Threshold, TopFraction
from sc_jax.exits.scores import SCORES
from sc_jax.exits.solve.objectives import alone, best, each_exit, scoring_of, solve_for
from sc_jax.exits.solve.threshold_search import geometric_shares
from sc_jax.exits.solve.thresholds import Solved, class_quantiles, judge, minimum_recall
from sc_jax.traces.trace import Trace, for_fitting

USUAL = "max_probability"


def threshold(
    trace: Trace,
    *,
    score: str = USUAL,
    calibrated: bool = False,
    thresholds: tuple | None = None,
    budget: float | None = None,
    accuracy: float | None = None,
    recall: float | None = None,
    shares: tuple | None = None,
    lost: float | None = None,
    family: str = "geometric",
    points: int = 40,
) -> Solved:
    """Thresholds as given (one number: for all exits), or solved for one goal."""
    goals: dict[str, Any] = {"budget": budget, "accuracy": accuracy, "recall": recall}
    goals |= {"shares": shares, "lost": lost}
    scoring = scoring_of(trace, score, calibrated)
    if thresholds is not None:
        alone("thresholds", goals)
        each = each_exit(thresholds, len(trace.exits) - 1)
        return judge(trace, _reachable(Threshold(each, scoring), trace))
    return solve_for(trace, scoring, goals, family=family, points=points)


def _reachable(policy: Threshold, trace: Trace) -> Threshold:
    """The policy; UsageError where all thresholds are above the score's range."""
    name, marks = policy.scoring.score, policy.thresholds
    low, high = SCORES[name].bounds(len(trace.exits), trace.predictions.shape[2])
    if marks and min(marks) > high:
        raise UsageError(
            f"score {name!r} goes from {low:.4g} to {high:.4g}, higher is surer: at "
            f"thresholds {marks} nobody would leave early"
        )
    return policy


def per_class(
    trace: Trace,
    *,
    score: str = USUAL,
    calibrated: bool = False,
    thresholds: tuple | None = None,
    quantile: float | None = None,
    budget: float | None = None,
    lost: float | None = None,
) -> Solved:
    """Thresholds by class, as given or over a quantile of each class's mistakes."""
    scoring = scoring_of(trace, score, calibrated)
    if thresholds is not None:
        goals = {"quantile": quantile, "budget": budget, "lost": lost}
        alone("thresholds", goals)
        return judge(trace, PerClass(thresholds, scoring))
    if quantile is not None:
        alone("quantile", {"budget": budget, "lost": lost})
        return class_quantiles(trace, scoring, quantile=quantile)
    steps = np.linspace(1, 0, 21).tolist()
    each = [class_quantiles(trace, scoring, quantile=q) for q in steps]
    return best(trace, each, budget, lost)


def top_fraction(
    trace: Trace,
    *,
    score: str = USUAL,
    calibrated: bool = False,
    shares: tuple | None = None,
    budget: float | None = None,
    lost: float | None = None,
) -> Solved:
    """The surest shares of a batch leave at each exit: as given, or geometric."""
    scoring, cost = scoring_of(trace, score, calibrated), trace.cost
    if shares is not None:
        alone("shares", {"budget": budget, "lost": lost})
        return judge(trace, TopFraction(each_exit(shares, 1), scoring))
    for_fitting(trace)
    budgets = np.linspace(cost[-1], cost[0], 40) if budget is None else [budget]
    paths = [geometric_shares(cost, b).tolist() for b in budgets]
    each = [judge(trace, TopFraction(tuple(path), scoring)) for path in paths]
    return each[0] if budget is not None else best(trace, each, budget, lost)


def patience(
    trace: Trace,
    *,
    patience: int | None = None,
    budget: float | None = None,
    lost: float | None = None,
) -> Solved:
    """Leave when so many exits in a row repeated the answer."""
    if patience is not None:
        alone("patience", {"budget": budget, "lost": lost})
        return judge(trace, Patience(patience))
    most = max(len(trace.exits) - 1, 2)  # of two the policy itself says what is wrong
    each = [judge(for_fitting(trace), Patience(p)) for p in range(most - 1, 0, -1)]
    return best(trace, each, budget, lost)


def anytime(
    trace: Trace, *, deadline_macs: float | None = None, budget: float | None = None
) -> Solved:
    """The deepest exit within a deadline, for every example."""
    if (deadline_macs is None) == (budget is None):
        raise UsageError("anytime takes deadline_macs or a budget, one of them")
    deadline = budget if deadline_macs is None else deadline_macs
    return judge(trace, Anytime(float(deadline or 0)))


def fixed(trace: Trace, *, exit: str = "final") -> Solved:
    """One exit for every example, by its name or that of its stage."""
    names = [name.removeprefix("exit@") for name in trace.exits]
    found = exit.removeprefix("exit@")
    if found not in names:
        raise unknown("exit", found, names)
    place, early = names.index(found), len(names) - 1
    always, never = (0.0,) * (early - place), (2.0,) * place  # of a probability
    return judge(trace, Threshold(never + always))


def filtered(
    trace: Trace,
    *,
    score: str = USUAL,
    calibrated: bool = False,
    recall: float = 0.9,
    negative: int = 0,
) -> Solved:
    """A filter: stop what is called `negative`, pass `recall` of all else."""
    scoring = scoring_of(trace, score, calibrated)
    return minimum_recall(trace, scoring, recall=recall, negative=negative)
