"""The budget report: policies solved on one split, evaluated on another."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.policies import Policy
from sc_jax.exits.scores import MAX_PROBABILITY, Scoring
from sc_jax.exits.solve import policy_spec, risk, thresholds
from sc_jax.exits.solve.thresholds import Solved
from sc_jax.traces import record
from sc_jax.traces.record import Recorded
from sc_jax.traces.trace import Outcome, Trace, for_fitting, of_net, outcome

QUARTERS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Evaluated:
    """One policy, and its outcome on the split that `outcome` names."""

    name: str
    outcome: Outcome
    sent_bytes: float | None = None  # mean payload; None where nothing is ever sent
    budget: float | None = None  # mean cost allowed, share of the whole network's
    solved: Solved | None = None  # None: a fixed exit, nothing was solved
    forwarded_bytes: float | None = None  # mean payload from edge to cloud
    tiers: dict[str, float] = field(default_factory=dict)  # shares of the answers

    @property
    def solved_on(self) -> str:
        return self.solved.split if self.solved else ""


@dataclass(frozen=True)
class BudgetReport:
    """All that a report says of a net with exits; shares are of the whole cost.

    `quarters` may hold None: the first exit costs more. `oracle` is the accuracy of who
    knows the labels (see `oracle_accuracy`) at the budgets of `curve`.
    """

    exits: tuple[str, ...]
    cost: tuple[float, ...]  # MACs, exit classifiers on the way included
    head_cost: tuple[float, ...]  # of that, what early exit classifiers take
    score: str
    anytime: tuple[Evaluated, ...]
    curve: tuple[Evaluated, ...]
    oracle: tuple[float, ...]
    quarters: tuple[Evaluated | None, ...]
    chosen: Evaluated  # at the budget of the histogram
    lowest_cost: Evaluated  # that loses at most `lost` where it was solved
    lost: float
    risk_controlled: Evaluated  # surely at most `epsilon` worse than the last exit
    epsilon: float
    delta: float
    method_policy: Evaluated | None  # the policy of the method itself
    problem: str = ""  # why that could not be solved
    executed: float | None = None  # mean share of gated blocks that run; cost has all

    @property
    def split(self) -> str:
        return self.anytime[-1].outcome.split

    @property
    def metric(self) -> str:
        """The name of the quality, accuracy or another task's."""
        return self.anytime[-1].outcome.metric

    @property
    def without_exits(self) -> float:
        """Share of the whole cost that the network takes without early exits."""
        return 1 - self.head_cost[-1] / self.cost[-1]


def report(
    fitted: Recorded,
    test: Recorded,
    *,
    policy: str = "",
    budgets: int = 15,
    chosen: float = 0.5,
    lost: float = 0.01,
    epsilon: float = 0.01,
    delta: float = 0.1,
) -> BudgetReport:
    """Solves on `fitted` (never the test split) and evaluates on `test`.

    policy: as text (exits.solve.policy_spec), the method's own; its score serves all
    curves. budgets: points of the curve, from the first exit's cost to the last; lost:
    in accuracy. chosen: share of the whole cost, or the first exit's if that is more.
    """
    base = for_fitting(fitted.trace)
    of_net(test.trace, base.net, base.exits)
    own, problem = _method_policy(base, policy)
    scoring = getattr(own and own.policy, "scoring", MAX_PROBABILITY)
    controlled = _risk_controlled(base, scoring, epsilon, delta)
    lowest = thresholds.solve(base, scoring, accuracy=accuracies(base)[-1] - lost)
    # A score with fitted weights is another at each budget.
    again = policy if own and policy_spec.refitted(policy) else ""
    within = partial(_within, base, test, scoring, again)
    first, whole = float(base.cost[0]), float(base.cost[-1])
    steps = np.linspace(first, whole, budgets).tolist()
    quarters = [within(q * whole) if q * whole >= first else None for q in QUARTERS]
    return BudgetReport(
        exits=base.exits,
        cost=tuple(base.cost.tolist()),
        head_cost=tuple(fitted.classifier_cost.tolist()),
        score=scoring.score,
        anytime=_anytime(test),
        curve=tuple(map(within, steps)),
        oracle=tuple(oracle_accuracy(test.trace, budget) for budget in steps),
        quarters=tuple(quarters),
        chosen=within(max(chosen * whole, first)),
        lowest_cost=evaluate_solved(f"at most {points(lost)} lost", test, lowest),
        lost=lost,
        risk_controlled=evaluate_solved(
            f"risk {epsilon:g}, delta {delta:g}", test, controlled
        ),
        epsilon=epsilon,
        delta=delta,
        method_policy=evaluate_solved(policy, test, own) if own else None,
        problem=problem,
        executed=None if test.executed is None else float(test.executed.mean()),
    )


def _method_policy(base: Trace, policy: str) -> tuple[Solved | None, str]:
    """The method's own policy solved, or None and why it cannot be, in one line.

    UsageError for one that does not fit the net; none that only cannot be solved.
    """
    if not policy:
        return None, ""
    classes, learned = base.answers.shape[2], base.confidence is not None
    policy_spec.usable(policy, base.exits, classes, base.cost, learned)
    try:
        return policy_spec.policy_from_text(policy, base), ""
    except UsageError as error:  # no reason to lose the rest of the report
        return None, f"{policy}: {error}"


def _risk_controlled(
    base: Trace, scoring: Scoring, epsilon: float, delta: float
) -> Solved:
    # The guarantee holds for scores that were not fitted on the examples of the test.
    clean = MAX_PROBABILITY if scoring.weights or scoring.temperatures else scoring
    return risk.control(base, clean, epsilon=epsilon, delta=delta)


def _anytime(test: Recorded) -> tuple[Evaluated, ...]:
    """Each exit, answering for all examples."""
    first = np.zeros(len(test.trace.labels), np.int32)
    each = enumerate(test.trace.exits)
    return tuple(evaluate_exits(name, test, first + e) for e, name in each)


def _within(
    base: Trace, test: Recorded, scoring: Scoring, again: str, budget: float
) -> Evaluated:
    """Thresholds of the geometric family that spend `budget`, a mean cost.

    `again` is a policy's text where its score is fitted anew for each budget.
    """
    share = budget / float(base.cost[-1])
    if again:
        solved = policy_spec.policy_from_text(again, base, share)
    else:
        solved = thresholds.solve(base, scoring, budget=budget)
    return evaluate_solved(f"{100 * share:.0f} % of the cost", test, solved, share)


def evaluate_solved(
    name: str, test: Recorded, solved: Solved, budget: float | None = None
) -> Evaluated:
    return evaluate_exits(name, test, taken(solved.policy, test.trace), solved, budget)


def evaluate_exits(
    name: str,
    test: Recorded,
    taken: np.ndarray,
    solved: Solved | None = None,
    budget: float | None = None,
) -> Evaluated:
    """What the exits taken, i32[N], give on `test`, with the bytes sent."""
    sent = record.sent_bytes(test, taken)
    forwarded = record.forwarded_bytes(test, taken)
    means = [None if x is None else float(x.mean()) for x in (sent, forwarded)]
    return Evaluated(
        name, outcome(test.trace, taken), means[0], budget, solved, means[1],
        record.tier_shares(test, taken),
    )  # fmt: skip


def taken(policy: Policy, trace: Trace) -> np.ndarray:
    """i32[N], the exits at which a policy leaves."""
    return policy(trace.answers, trace.cost, trace.confidence)


def accuracies(trace: Trace) -> np.ndarray:
    """f64[E], when all examples leave at one exit."""
    return trace.quality.mean(-1, dtype=np.float64)


def points(share: float) -> str:
    """A difference of accuracies in words."""
    number = f"{100 * share:.3g}"
    return f"{number} point{'s' * (number != '1')}"


def oracle_accuracy(trace: Trace, budget: float) -> float:
    """The best choice of exits at a mean cost within `budget`; reads the quality.

    Everybody pays for the first exit; then examples move one by one to the first of
    their best exits, the largest gain for its price first. Where quality is 0 or 1 no
    choice is better; else it is a greedy one, of which gains are bought whole.
    """
    quality, each = trace.quality.astype(np.float64), np.arange(len(trace.labels))
    best = quality.argmax(0)
    gains = quality[best, each] - quality[0]
    prices = trace.cost[best] - trace.cost[0]
    moved = gains > 0
    rates = gains[moved] / np.maximum(prices[moved], 1e-12)
    order = np.lexsort((prices[moved], -rates))
    left = (budget - trace.cost[0]) * len(each)
    paid = np.cumsum(prices[moved][order])
    # A hair more: sums of floats must not lose the last example of an exact budget.
    bought = np.searchsorted(paid, left * (1 + 1e-9), side="right")
    return float((quality[0].sum() + gains[moved][order][:bought].sum()) / len(each))
