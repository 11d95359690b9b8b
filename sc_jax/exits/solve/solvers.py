"""Solvers: a policy in numbers, or the knobs from which it is found on a trace.

Each takes a trace and the knobs of its signature, most with defaults. A `budget` is in
the unit of trace.cost. Where a policy has several settings and none is given, the one
that is most accurate within the budget is found, or, without a budget, the cheapest
that loses at most `lost` (0.01) of the whole network's accuracy on the trace. The usual
family of thresholds, "geometric", spends the budget, as MSDNet does: where early exits
are the better ones, "shared" or a smaller budget may be more accurate.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np

from sc_jax.errors import UsageError, unknown
from sc_jax.exits.policies import (
    POLICIES,
    Anytime,
    PerClass,
    Policy,
    Threshold,
    TopFraction,
)
from sc_jax.exits.scores import SCORES, Scoring
from sc_jax.exits.solve import eenet as scheduler
from sc_jax.exits.solve import failure_prediction as mistakes
from sc_jax.exits.solve import risk
from sc_jax.exits.solve.calibration import temperatures
from sc_jax.exits.solve.knobs import (
    Accuracy,
    Budget,
    Calibrated,
    Family,
    Lost,
    Points,
    Recall,
    ScoreName,
    Seed,
    Shares,
)
from sc_jax.exits.solve.risk_losses import LOSSES
from sc_jax.exits.solve.threshold_search import geometric_shares, within
from sc_jax.exits.solve.thresholds import (
    Solved,
    class_quantiles,
    evaluate,
    minimum_recall,
    solve,
)
from sc_jax.spec import Knob, knobs_of
from sc_jax.traces.trace import Trace, for_fitting, subset

USUAL = "max_probability"
LOST = 0.01  # of accuracy, where neither a budget nor a floor is given


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
    family: Family = "geometric",
    points: Points = 40,
) -> Solved:
    """Thresholds in numbers (one: for all exits), or solved for one goal."""
    targets: dict[str, Any] = {"budget": budget, "accuracy": accuracy, "recall": recall}
    targets |= {"shares": shares, "lost": lost}
    scoring = scoring_of(trace, score, calibrated)
    if thresholds is not None:
        alone("thresholds", targets)
        each = each_exit(thresholds, len(trace.exits) - 1)
        return evaluate(trace, _reachable(Threshold(each, scoring), trace))
    return solve_for(trace, scoring, targets, family=family, points=points)


def _reachable(policy: Threshold, trace: Trace) -> Threshold:
    """The policy; UsageError where all thresholds are above the score's range."""
    name, thresholds = policy.scoring.score, policy.thresholds
    low, high = SCORES[name].bounds(len(trace.exits), trace.answers.shape[2])
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
    for_fitting(trace)
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
    family: Family = "geometric",
    points: Points = 40,
) -> Solved:
    """Thresholds of the score that is fitted to mistakes, both on the same trace."""
    targets = {"budget": budget, "accuracy": accuracy, "recall": recall, "lost": lost}
    scoring = mistakes.fit(trace, ridge)
    return solve_for(trace, scoring, targets, family=family, points=points)


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


def eenet(
    trace: Trace,
    *,
    budget: Budget = None,
    lost: Lost = None,
    pull: Annotated[float, Knob("towards geometric shares", at_least=0)] = 1.0,
    price: Annotated[float, Knob("of a cost beside the budget", at_least=0)] = 10.0,
    ridge: Annotated[
        float, Knob("penalty on squared weights, in examples", at_least=0)
    ] = 10.0,
    width: Annotated[int, Knob("of the scheduler's hidden layer", at_least=1)] = 16,
    steps: Annotated[int, Knob("of its descent", at_least=1)] = 400,
    seed: Seed = 0,
) -> Solved:
    """EENet's scheduler, fitted to the budget, or to eight for the best of them."""
    more: dict[str, Any] = {"pull": pull, "price": price, "ridge": ridge}
    more |= {"width": width, "steps": steps, "seed": seed}
    if budget is not None:
        alone("budget", {"lost": lost})
        return scheduler.fit(trace, budget=budget, **more)
    budgets = np.linspace(trace.cost[-1], trace.cost[0], 8, endpoint=False).tolist()
    return best(
        trace, [scheduler.fit(trace, budget=b, **more) for b in budgets], None, lost
    )


def by_candidates(kind: type[Policy]) -> Callable[..., Solved]:
    """The solver of a policy that names its `candidates`; its fields are knobs too.

    With every field that has no default there is nothing to solve; a field that has one
    alters the candidates.
    """
    fields = dataclasses.fields(kind)  # pyright: ignore
    needed = [f.name for f in fields if f.default is dataclasses.MISSING]

    def solver(trace, *, budget=None, lost=None, **settings):
        settings = {name: v for name, v in settings.items() if v is not None}
        given = [name for name in needed if name in settings]
        if given:
            missing = [name for name in needed if name not in settings]
            if missing:
                raise UsageError(f"{given[0]} goes with {', '.join(missing)}")
            alone(", ".join(settings), {"budget": budget, "lost": lost})
            return evaluate(trace, kind(**settings))
        each = kind.candidates(len(for_fitting(trace).exits))
        each = [dataclasses.replace(policy, **settings) for policy in each]  # pyright: ignore
        return best(trace, [evaluate(trace, policy) for policy in each], budget, lost)

    knobs = {
        name: Annotated[field.type | None, field.knob]
        for name, field in knobs_of(kind).items()
    }
    knobs |= {"budget": Budget, "lost": Lost}
    word = inspect.Parameter.KEYWORD_ONLY
    trace = inspect.Parameter("trace", inspect.Parameter.POSITIONAL_ONLY)
    each = [
        inspect.Parameter(name, word, default=None, annotation=annotation)
        for name, annotation in knobs.items()
    ]
    solver.__signature__ = inspect.Signature([trace, *each])  # pyright: ignore
    solver.__doc__ = kind.__doc__
    return solver


def scoring_of(trace: Trace, score: str, calibrated: bool) -> Scoring:
    """The score by name, with what must be fitted for it on the trace."""
    if score == "eenet":
        raise UsageError("score 'eenet' is fitted with its shares: policy 'eenet'")
    if score != "failure_prediction":
        return Scoring(score, temperatures(trace) if calibrated else ())
    if calibrated:
        raise UsageError("score 'failure_prediction' is fitted as it is: no calibrated")
    return mistakes.fit(trace)


def solve_for(trace: Trace, scoring: Scoring, targets: dict, **more: Any) -> Solved:
    """`thresholds.solve` for one goal; `lost`, of the accuracy, is one too."""
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) > 1:
        raise UsageError(f"one goal of {', '.join(targets)}, not {' and '.join(given)}")
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
    """A tuple as it is, or one number for each of the exits."""
    return values if isinstance(values, tuple) else (float(values),) * exits


def whole_accuracy(trace: Trace) -> float:
    """The last exit's; UsageError on the test split, which nothing is fitted on."""
    return float(for_fitting(trace).quality[-1].mean(dtype=np.float64))


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
