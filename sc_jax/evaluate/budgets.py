"""Ways to leave at exits: solved on one split, judged on another, both named."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.policies import Policy
from sc_jax.exits.scores import MAX_PROBABILITY, Scoring
from sc_jax.exits.solve import policy_spec, risk, thresholds
from sc_jax.exits.solve.thresholds import Solved
from sc_jax.traces.record import Recorded, sent_bytes
from sc_jax.traces.trace import Outcome, Trace, for_fitting, of_net, outcome

QUARTERS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Judged:
    """One way to leave, and what it gives on the split that `outcome` names."""

    name: str
    outcome: Outcome
    sent_bytes: float | None = None  # mean payload; None where nothing is ever sent
    budget: float | None = None  # mean cost allowed, share of the whole network's
    solved: Solved | None = None  # None: a fixed exit, nothing was solved

    @property
    def solved_on(self) -> str:
        return self.solved.split if self.solved else ""


@dataclass(frozen=True)
class Exits:
    """All that a report says of a net with exits; shares are of the whole cost.

    `quarters` may hold None: the first exit costs more. `oracle` is the accuracy of who
    knows the labels (see `oracle_accuracy`) at the budgets of `curve`.
    """

    exits: tuple[str, ...]
    cost: tuple[float, ...]  # MACs, heads asked on the way included
    head_cost: tuple[float, ...]  # of that, what early exits' heads take
    score: str
    anytime: tuple[Judged, ...]
    curve: tuple[Judged, ...]
    oracle: tuple[float, ...]
    quarters: tuple[Judged | None, ...]
    chosen: Judged  # at the budget of the histogram
    cheapest: Judged  # that loses at most `lost` where it was solved
    lost: float
    safe: Judged  # surely at most `epsilon` worse than the last exit
    epsilon: float
    delta: float
    own: Judged | None  # the policy of the method itself
    problem: str = ""  # why that could not be solved
    executed: float | None = None  # mean share of gated blocks that run; cost has all

    @property
    def split(self) -> str:
        return self.anytime[-1].outcome.split

    @property
    def without_exits(self) -> float:
        """Share of the whole cost that the network takes without early exits."""
        return 1 - self.head_cost[-1] / self.cost[-1]


def judge(
    fitted: Recorded,
    test: Recorded,
    *,
    policy: str = "",
    budgets: int = 15,
    chosen: float = 0.5,
    lost: float = 0.01,
    epsilon: float = 0.01,
    delta: float = 0.1,
) -> Exits:
    """Solves on `fitted` (never the test split) and judges on `test`.

    policy: as text (exits.solve.policy_spec), the method's own; its score serves all
    curves. budgets: points of the curve, from the first exit's cost to the last.
    chosen: share of the whole cost, or the first exit's where that is more. lost: in
    accuracy.
    """
    base = for_fitting(fitted.trace)
    of_net(test.trace, base.net, base.exits)
    own, problem = None, ""
    if policy:
        classes, told = base.predictions.shape[2], base.confidence is not None
        policy_spec.usable(policy, base.exits, classes, base.cost, told)
    try:
        own = policy_spec.policy_from_text(policy, base) if policy else None
    except UsageError as error:  # no reason to lose the rest of the report
        problem = f"{policy}: {error}"
    scoring = (
        getattr(own.policy, "scoring", MAX_PROBABILITY) if own else MAX_PROBABILITY
    )
    # The guarantee holds for scores that were not fitted on the examples of the test.
    clean = MAX_PROBABILITY if scoring.weights or scoring.temperatures else scoring
    safe = risk.control(base, clean, epsilon=epsilon, delta=delta)
    floor = float(accuracies(base)[-1]) - lost
    cheapest = thresholds.solve(base, scoring, accuracy=floor)
    again = policy if own and policy_spec.refitted(policy) else ""
    within = partial(_within, base, test, scoring, again)
    first, whole = float(base.cost[0]), float(base.cost[-1])
    steps = np.linspace(first, whole, budgets).tolist()
    quarters = [within(q * whole) if q * whole >= first else None for q in QUARTERS]
    return Exits(
        exits=base.exits,
        cost=tuple(base.cost.tolist()),
        head_cost=tuple(fitted.head_cost.tolist()),
        score=scoring.score,
        anytime=_anytime(test),
        curve=tuple(map(within, steps)),
        oracle=tuple(oracle_accuracy(test.trace, budget) for budget in steps),
        quarters=tuple(quarters),
        chosen=within(max(chosen * whole, first)),
        cheapest=judge_solved(f"at most {points(lost)} lost", test, cheapest),
        lost=lost,
        safe=judge_solved(f"risk {epsilon:g}, delta {delta:g}", test, safe),
        epsilon=epsilon,
        delta=delta,
        own=judge_solved(policy, test, own) if own else None,
        problem=problem,
        executed=None if test.executed is None else float(test.executed.mean()),
    )


def _anytime(test: Recorded) -> tuple[Judged, ...]:
    """Each exit, answering for all examples."""
    first = np.zeros(len(test.trace.labels), np.int32)
    each = enumerate(test.trace.exits)
    return tuple(judge_one(name, test, first + e) for e, name in each)


def _within(
    base: Trace, test: Recorded, scoring: Scoring, again: str, budget: float
) -> Judged:
    """Thresholds of the geometric family that spend `budget`, a mean cost.

    `again` is a policy's text where its score is fitted anew for each budget.
    """
    share = budget / float(base.cost[-1])
    if again:
        solved = policy_spec.policy_from_text(again, base, share)
    else:
        solved = thresholds.solve(base, scoring, budget=budget)
    return judge_solved(f"{100 * share:.0f} % of the cost", test, solved, share)


def judge_solved(
    name: str, test: Recorded, solved: Solved, budget: float | None = None
) -> Judged:
    return judge_one(name, test, taken(solved.policy, test.trace), solved, budget)


def judge_one(
    name: str,
    test: Recorded,
    taken: np.ndarray,
    solved: Solved | None = None,
    budget: float | None = None,
) -> Judged:
    """What the exits taken, i32[N], give on `test`, with the bytes sent."""
    sent = sent_bytes(test, taken)
    mean = None if sent is None else float(sent.mean())
    return Judged(name, outcome(test.trace, taken), mean, budget, solved)


def taken(policy: Policy, trace: Trace) -> np.ndarray:
    """i32[N], the exits at which a policy leaves."""
    return policy(trace.predictions, trace.cost, trace.confidence)


def accuracies(trace: Trace) -> np.ndarray:
    """f64[E], when all examples leave at one exit."""
    return (trace.predictions.argmax(-1) == trace.labels).mean(-1)


def points(share: float) -> str:
    """A difference of accuracies in words."""
    number = f"{100 * share:.3g}"
    return f"{number} point{'s' * (number != '1')}"


def oracle_accuracy(trace: Trace, budget: float) -> float:
    """The most accurate choice of exits at a mean cost within `budget`; reads labels.

    Everybody pays for the first exit; those it has wrong are mended one by one, the
    cheapest first, at their first right exit. Each mends as much, so this is the best.
    """
    right = trace.predictions.argmax(-1) == trace.labels
    mended = right.any(0) & ~right[0]
    prices = np.sort(trace.cost[right.argmax(0)[mended]] - trace.cost[0])
    left = (budget - trace.cost[0]) * len(trace.labels)
    bought = np.searchsorted(np.cumsum(prices), left * (1 + 1e-9), side="right")
    return float((right[0].sum() + bought) / len(trace.labels))
