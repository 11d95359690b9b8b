"""Solvers: a policy in numbers, or the knobs from which it is found on a trace.

Each takes a trace and the knobs of its signature, most with defaults. A `budget` is in
the unit of trace.cost. Where a policy has several settings and none is named, the one
that is most accurate within the budget is found, or, without a budget, the cheapest
that loses at most `lost` (0.01) of the whole network's accuracy on the trace. The usual
threshold search, "geometric", spends the budget, as MSDNet does: where early exits are
the better ones, "shared" or a smaller budget may be more accurate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from sc_jax.errors import UsageError, unknown
from sc_jax.exits.policies import (
    POLICIES,
    Anytime,
    PerClass,
    Threshold,
    TopFraction,
)
from sc_jax.exits.scores import Scoring, find
from sc_jax.exits.solve import eenet as scheduler
from sc_jax.exits.solve import failure_prediction as mistakes
from sc_jax.exits.solve import risk
from sc_jax.exits.solve.by_candidates import by_candidates
from sc_jax.exits.solve.calibration import temperatures
from sc_jax.exits.solve.knobs import (
    Accuracy,
    Budget,
    Calibrated,
    Lost,
    Points,
    Recall,
    ScoreName,
    Search,
    Seed,
    Shares,
)
from sc_jax.exits.solve.risk_losses import LOSSES
from sc_jax.exits.solve.targets import alone, best, solve_for
from sc_jax.exits.solve.threshold_search import geometric_shares
from sc_jax.exits.solve.thresholds import (
    Solved,
    class_quantiles,
    evaluate,
    minimum_recall,
)
from sc_jax.spec import Knob
from sc_jax.traces.trace import Trace, for_fitting, subset

USUAL = "max_probability"


def threshold(
    trace: Trace,
    *,
    score: ScoreName = USUAL,
    calibrated: Calibrated = False,
    thresholds: Annotated[
        tuple[float, ...] | float | None,
        Knob("of the score, for each exit before the last, or one for all"),
    ] = None,
    budget: Budget = None,
    accuracy: Accuracy = None,
    recall: Recall = None,
    shares: Shares = None,
    lost: Lost = None,
    search: Search = "geometric",
    points: Points = 40,
) -> Solved:
    """Thresholds in numbers (one: for all exits), or solved for one target."""
    targets: dict[str, Any] = {"budget": budget, "accuracy": accuracy, "recall": recall}
    targets |= {"shares": shares, "lost": lost}
    scoring = scoring_of(trace, score, calibrated)
    if thresholds is not None:
        alone("thresholds", targets)
        # The last exit answers whoever is left: it has no threshold.
        each = each_exit(thresholds, len(trace.exits) - 1)
        return evaluate(trace, _reachable(Threshold(each, scoring), trace))
    return solve_for(trace, scoring, targets, search=search, points=points)


def _reachable(policy: Threshold, trace: Trace) -> Threshold:
    """The policy; UsageError where all thresholds are above the score's range."""
    name, thresholds = policy.scoring.score, policy.thresholds
    low, high = find(name).bounds(len(trace.exits), trace.answers.shape[2])
    # Most likely a threshold for entropy, which is negated here to be "higher is
    # surer".
    if thresholds and min(thresholds) > high:
        raise UsageError(
            f"score {name!r} goes from {low:.4g} to {high:.4g}, higher is surer: at "
            f"thresholds {thresholds} nobody would leave early"
        )
    return policy


def per_class(
    trace: Trace,
    *,
    score: ScoreName = USUAL,
    calibrated: Calibrated = False,
    thresholds: Annotated[
        tuple[tuple[float, ...], ...] | None,
        Knob("for each exit before the last, one for each class"),
    ] = None,
    quantile: Annotated[
        float | None,
        Knob("of wrong answers' scores, a class's threshold", at_least=0, at_most=1),
    ] = None,
    budget: Budget = None,
    lost: Lost = None,
) -> Solved:
    """Thresholds by class, in numbers or over a quantile of each class's mistakes."""
    scoring = scoring_of(trace, score, calibrated)
    if thresholds is not None:
        targets = {"quantile": quantile, "budget": budget, "lost": lost}
        alone("thresholds", targets)
        return evaluate(trace, PerClass(thresholds, scoring))
    if quantile is not None:
        alone("quantile", {"budget": budget, "lost": lost})
        return class_quantiles(trace, scoring, quantile=quantile)
    # From the strictest quantile down, in steps of 5 %.
    steps = np.linspace(1, 0, 21).tolist()
    each = [class_quantiles(trace, scoring, quantile=q) for q in steps]
    return best(trace, each, budget, lost)


def top_fraction(
    trace: Trace,
    *,
    score: ScoreName = USUAL,
    calibrated: Calibrated = False,
    shares: Shares = None,
    budget: Budget = None,
    lost: Lost = None,
) -> Solved:
    """The surest shares of a batch leave at each exit: in numbers, or geometric."""
    scoring, cost = scoring_of(trace, score, calibrated), trace.cost
    if shares is not None:
        alone("shares", {"budget": budget, "lost": lost})
        return evaluate(trace, TopFraction(shares, scoring))
    # Shares ask no label, yet their choice on the test split would fit to it.
    for_fitting(trace)
    # Geometric shares have one free number, the budget: a line search finds the best.
    budgets = np.linspace(cost[-1], cost[0], 40) if budget is None else [budget]
    paths = [geometric_shares(cost, b).tolist() for b in budgets]
    each = [evaluate(trace, TopFraction(tuple(path), scoring)) for path in paths]
    return each[0] if budget is not None else best(trace, each, budget, lost)


def anytime(
    trace: Trace,
    *,
    deadline_macs: Annotated[
        float | None, Knob("cost that no answer exceeds", at_least=0)
    ] = None,
    budget: Budget = None,
) -> Solved:
    """The deepest exit within a deadline, for every example."""
    # A deadline bounds each answer, so as a mean it is a budget as well.
    if (deadline_macs is None) == (budget is None):
        raise UsageError("anytime takes deadline_macs or a budget, one of them")
    deadline = budget if deadline_macs is None else deadline_macs
    return evaluate(trace, Anytime(float(deadline or 0)))


def fixed(
    trace: Trace,
    *,
    exit: Annotated[str, Knob("its name, or that of its stage")] = "final",
) -> Solved:
    """One exit for every example, by its name or that of its stage."""
    names = [name.removeprefix("exit@") for name in trace.exits]
    found = exit.removeprefix("exit@")
    if found not in names:
        raise unknown("exit", found, names)
    place, early = names.index(found), len(names) - 1
    # Of the largest probability 0 is always reached, 2 never.
    always, never = (0.0,) * (early - place), (2.0,) * place  # of a probability
    return evaluate(trace, Threshold(never + always))


def neural_filter(
    trace: Trace,
    *,
    score: ScoreName = USUAL,
    calibrated: Calibrated = False,
    recall: Annotated[
        float, Knob("share of all other classes to pass on", at_least=0, at_most=1)
    ] = 0.9,
    negative: Annotated[int, Knob("class of no interest", at_least=0)] = 0,
) -> Solved:
    """A filter: stop what is called `negative`, pass `recall` of all else."""
    scoring = scoring_of(trace, score, calibrated)
    return minimum_recall(trace, scoring, recall=recall, negative=negative)


def failure_prediction(
    trace: Trace,
    *,
    budget: Budget = None,
    accuracy: Accuracy = None,
    recall: Recall = None,
    lost: Lost = None,
    ridge: Annotated[
        float, Knob("penalty on squared weights, in examples", above=0)
    ] = 1.0,
    search: Search = "geometric",
    points: Points = 40,
) -> Solved:
    """Thresholds of the score that is fitted to mistakes, both on the same trace."""
    targets = {"budget": budget, "accuracy": accuracy, "recall": recall, "lost": lost}
    scoring = mistakes.fit(trace, ridge)
    return solve_for(trace, scoring, targets, search=search, points=points)


def risk_controlled(
    trace: Trace,
    *,
    epsilon: Annotated[float, Knob("mean loss that is allowed", above=0)] = 0.01,
    delta: Annotated[
        float, Knob("probability that the loss is larger", above=0, below=1)
    ] = 0.1,
    loss: Annotated[
        str, Knob("of leaving before the last exit", choices=LOSSES)
    ] = "error_gap",
    method: Annotated[
        str, Knob("of the test", choices=risk.METHODS)
    ] = "upper_confidence",
    score: ScoreName = USUAL,
    calibrated: Calibrated = False,
    points: Points = 40,
    seed: Seed = 0,
) -> Solved:
    """Risk-controlled: surely at most epsilon worse than the last exit.

    A score that is fitted takes half of the trace, which the tests then leave out.
    """
    tested = for_fitting(trace)
    # A guarantee holds on examples that chose nothing, not even a temperature.
    if calibrated or score == "failure_prediction":
        # Another seed than control's own halves, or the two would be the same.
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


def eenet(
    trace: Trace,
    *,
    budget: Budget = None,
    lost: Lost = None,
    pull: Annotated[
        float, Knob("towards leaving where the score is high", at_least=0)
    ] = 1.0,
    sharpness: Annotated[float, Knob("power of that score", at_least=0)] = 1.0,
    price: Annotated[float, Knob("of a cost beside the budget", at_least=0)] = 10.0,
    ridge: Annotated[
        float, Knob("penalty on squared weights, in examples", at_least=0)
    ] = 10.0,
    width: Annotated[int, Knob("of the scheduler's hidden layer", at_least=1)] = 16,
    steps: Annotated[int, Knob("of its descent", at_least=1)] = 400,
    seed: Seed = 0,
) -> Solved:
    """EENet's scheduler, fitted to the budget, or to eight for the best of them."""
    more: dict[str, Any] = {"pull": pull, "sharpness": sharpness, "price": price}
    more |= {"ridge": ridge, "width": width, "steps": steps, "seed": seed}
    if budget is not None:
        alone("budget", {"lost": lost})
        return scheduler.fit(trace, budget=budget, **more)
    # Without the first exit's cost: there nobody goes on, and nothing is learned.
    budgets = np.linspace(trace.cost[-1], trace.cost[0], 8, endpoint=False).tolist()
    return best(
        trace, [scheduler.fit(trace, budget=b, **more) for b in budgets], None, lost
    )


def scoring_of(trace: Trace, score: str, calibrated: bool) -> Scoring:
    """The score by name, with what must be fitted for it on the trace."""
    if score == "eenet":
        raise UsageError("score 'eenet' is fitted with its shares: policy 'eenet'")
    if score != "failure_prediction":
        return Scoring(score, temperatures(trace) if calibrated else ())
    if calibrated:
        raise UsageError("score 'failure_prediction' is fitted as it is: no calibrated")
    return mistakes.fit(trace)


def each_exit(values: tuple | float, exits: int) -> tuple[float, ...]:
    """A tuple as it is, or one number for each of the exits."""
    return values if isinstance(values, tuple) else (float(values),) * exits


SOLVERS: dict[str, Callable[..., Solved]] = {
    "threshold": threshold,
    "per_class": per_class,
    "top_fraction": top_fraction,
    "anytime": anytime,
    "fixed": fixed,
    "filter": neural_filter,
    "failure_prediction": failure_prediction,
    "eenet": eenet,
    "risk": risk_controlled,
    **{
        name: by_candidates(kind)
        for name, kind in POLICIES.items()
        if kind.candidates(4)
    },
}
# Whose score belongs to the one budget it was fitted to.
REFITTED = frozenset({"eenet"})
