"""Thresholds from a recorded trace: for a budget, for shares, for accuracy or recall.

Solvers refuse the test split; what they return says on which split it was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc_jax.errors import UsageError, unknown
from sc_jax.exits.decision import decide
from sc_jax.exits.policies import PerClass, Policy, Threshold
from sc_jax.exits.scores import MAX_PROBABILITY, Scoring, find
from sc_jax.exits.solve.threshold_search import (
    SEARCHES,
    above,
    geometric_shares,
    shares_to_thresholds,
    within,
)
from sc_jax.traces.trace import Outcome, Trace, class_labels, for_fitting, outcome


@dataclass(frozen=True)
class Solved:
    """A policy, the split it was found on and what it gives there."""

    policy: Policy
    split: str
    expected: Outcome


def solve(
    trace: Trace,
    scoring: Scoring = MAX_PROBABILITY,
    *,
    budget: float | None = None,
    accuracy: float | None = None,
    recall: float | None = None,
    shares: Sequence[float] | None = None,
    search: str = "geometric",
    points: int = 40,
) -> Solved:
    """The thresholds of a search that reach exactly one target best on the trace.

    budget: mean cost at most this, most accurate; the geometric search spends it
    instead, as MSDNet does, and reads no label. accuracy: share of right answers at
    least this, cheapest. recall: of every class at least this, cheapest. shares: [E] of
    the examples leave at each exit, whatever the search.
    """
    targets = {
        "budget": budget,
        "accuracy": accuracy,
        "recall": recall,
        "shares": shares,
    }
    names = [name for name, value in targets.items() if value is not None]
    if len(names) != 1:
        found = " and ".join(names) or "none"
        raise UsageError(f"one target of {', '.join(targets)}, not {found}")
    if search not in SEARCHES:
        raise unknown("search", search, SEARCHES)
    if points < 2:
        raise UsageError(f"a search has 2 points or more, not {points}")
    # Refuses the test split before anything is read of it.
    score = scoring.of(for_fitting(trace))
    if budget is not None:
        within(budget, trace.cost)
        # No candidates to compare: its one free number is set by the budget itself.
        if search == "geometric":
            shares = geometric_shares(trace.cost, budget).tolist()
    if shares is not None:
        return solved(trace, scoring, shares_to_thresholds(score, shares))
    path = SEARCHES[search](score, trace.cost, points)
    best = _best(trace, score, path, names[0], float(targets[names[0]]))
    return solved(trace, scoring, path[best])


def _best(
    trace: Trace, score: np.ndarray, path: np.ndarray, target: str, floor: float
) -> int:
    """The row of the path that `solve` picks."""
    correct = trace.quality.astype(np.float64)
    # Each example's column, beside the row of the exit that it takes.
    own = np.arange(len(trace.labels))
    kinds = _class_means(trace) if target == "recall" else np.zeros((0, len(own)))
    costs, right, lowest = np.empty((3, len(path)))
    for i, row in enumerate(path):
        taken = decide(score, row)
        answers = correct[taken, own]
        costs[i], right[i] = trace.cost[taken].mean(), answers.mean()
        lowest[i] = (kinds @ answers).min() if target == "recall" else 0.0
    if target == "budget":
        fits, value = costs <= floor * (1 + 1e-9), costs
        # Most accurate first; of equals the cheaper (lexsort's last key leads).
        order = np.lexsort((costs, -right))
    else:
        value = right if target == "accuracy" else lowest
        # Cheapest first; of equals the more accurate.
        fits, order = value >= floor - 1e-9, np.lexsort((-right, costs))
    if not fits.any():
        raise UsageError(
            f"no thresholds reach {target} {floor:.6g} on split {trace.split!r}: from "
            f"{value.min():.6g} to {value.max():.6g} can be had"
        )
    return int(order[fits[order]][0])


def _class_means(trace: Trace) -> np.ndarray:
    """f64[K', N], the mean over the examples of each class that the trace has."""
    # One-hot rows divided by their counts: a product with answers gives recalls.
    kinds = np.eye(trace.answers.shape[2])[:, class_labels(trace)]
    return kinds[kinds.any(1)] / kinds[kinds.any(1)].sum(1, keepdims=True)


def minimum_recall(
    trace: Trace,
    scoring: Scoring = MAX_PROBABILITY,
    *,
    recall: float,
    negative: int = 0,
) -> Solved:
    """A filter's threshold: stop most, and pass at least `recall` of what matters.

    Of two exits, the filter and what stands behind it; only inputs called `negative`
    stop at the filter. recall: share of all other inputs that is passed on. The rule of
    the neural filter (Matsubara and Levorato 2020).
    """
    exits, _, classes = trace.answers.shape
    matters = class_labels(for_fitting(trace)) != negative
    if exits != 2 or not 0 <= negative < classes or not matters.any():
        raise UsageError(
            "a filter takes 2 exits, a class of the net as negative and examples of "
            f"another: {exits} exits, negative {negative} of {classes} classes"
        )
    if not 0 <= recall <= 1:
        raise UsageError(f"recall is a share in 0..1, not {recall}")
    score, stops = scoring.of(trace)[0], trace.answers[0].argmax(-1)
    # Surest first: those that a low threshold would stop by mistake.
    missed = np.sort(score[matters & (stops == negative)])[::-1]
    # How many may be lost; the margin keeps 10 % of ten at one.
    allowed = int(np.floor((1 - recall) * matters.sum() + 1e-9))
    # Inputs that matter never stop at the filter, however sure it is.
    thresholds = np.full((1, classes), never(scoring, trace))
    thresholds[0, negative] = (
        above(missed[allowed]) if allowed < len(missed) else min(score)
    )
    return _per_class(trace, scoring, thresholds)


def class_quantiles(
    trace: Trace, scoring: Scoring = MAX_PROBABILITY, *, quantile: float
) -> Solved:
    """Thresholds by class, above this share of the wrong answers of that class.

    Reconstruction of Lo et al. (2017), whose fit could not be read. Where a class is
    never wrongly predicted at an exit its lowest score serves; where it is never
    predicted at all, nobody of it may leave.
    """
    if not 0 <= quantile <= 1:
        raise UsageError(f"quantile is a share in 0..1, not {quantile}")
    score = scoring.of(for_fitting(trace))
    exits, _, classes = trace.answers.shape
    answers, labels = trace.answers.argmax(-1), class_labels(trace)
    thresholds = np.full((exits - 1, classes), never(scoring, trace))
    for e, k in np.ndindex(exits - 1, classes):
        mine = answers[e] == k
        wrong = score[e, mine & (labels != k)]
        if wrong.size:
            # A recorded score and no interpolation: what is reached is what was seen.
            thresholds[e, k] = above(np.quantile(wrong, quantile, method="higher"))
        elif mine.any():
            thresholds[e, k] = score[e, mine].min()
    return _per_class(trace, scoring, thresholds)


def never(scoring: Scoring, trace: Trace) -> float:
    """A finite threshold over all that the score can be: nobody leaves, ever."""
    exits, _, classes = trace.answers.shape
    return find(scoring.score).bounds(exits, classes)[1] + 1.0


def solved(trace: Trace, scoring: Scoring, thresholds: np.ndarray) -> Solved:
    """The policy of `thresholds` f32[E - 1], with what it gives on the trace."""
    return evaluate(trace, Threshold(tuple(thresholds.tolist()), scoring))


def _per_class(trace: Trace, scoring: Scoring, thresholds: np.ndarray) -> Solved:
    return evaluate(trace, PerClass(tuple(map(tuple, thresholds.tolist())), scoring))


def evaluate(trace: Trace, policy: Policy) -> Solved:
    """A policy with what it gives on the trace."""
    taken = policy(trace.answers, trace.cost, trace.confidence)
    return Solved(policy, trace.split, outcome(trace, taken))
