"""Solvers reach their target, agree with brute force and never see the test split."""

import dataclasses
import itertools

import numpy as np
import pytest
from exit_traces import COST, scoring, trace

from sc_jax.errors import UsageError
from sc_jax.exits.decision import decide
from sc_jax.exits.policies import PerClass, Threshold, from_json, to_json
from sc_jax.exits.scores import SCORES, Scoring
from sc_jax.exits.solve import failure_prediction, risk
from sc_jax.exits.solve.threshold_search import (
    SEARCHES,
    above,
    geometric_shares,
    shares_to_thresholds,
)
from sc_jax.exits.solve.thresholds import class_quantiles, minimum_recall, never, solve
from sc_jax.traces.trace import Trace, outcome

RECORDED = trace(500)
SCORINGS = [scoring(name) for name in sorted(SCORES)]


def name_of(scoring):
    return scoring.score


@pytest.mark.parametrize(
    "shares", [(0.4, 0.3, 0.2, 0.1), (0, 0.5, 0, 0.5), (1, 0, 0, 0)]
)
@pytest.mark.parametrize("examples", [1, 7, 500])
def test_shares_are_met_within_one_example(shares, examples):
    score = np.random.default_rng(0).permuted(np.arange(4.0 * examples))
    score = score.reshape(4, examples).astype(np.float32)
    marks = shares_to_thresholds(score, shares)
    found = np.bincount(decide(score, marks), minlength=4) / examples
    assert np.isfinite(marks).all()
    assert np.abs(found - shares).max() < 1 / examples


def test_ties_leave_early_and_later_exits_make_up_for_it():
    score = np.zeros((3, 10), np.float32)
    score[0, :6] = 1.0  # six are equally sure, two are asked for
    score[1] = np.arange(10)
    marks = shares_to_thresholds(score, (0.2, 0.5, 0.3))
    assert np.bincount(decide(score, marks)).tolist() == [6, 1, 3]


def test_whoever_comes_to_an_exit_that_nobody_reached_leaves():
    score = np.random.default_rng(0).uniform(size=(3, 50)).astype(np.float32)
    marks = shares_to_thresholds(score, (1.0, 0.0, 0.0))
    assert np.isfinite(marks).all() and marks[1] == score[1].min()


@pytest.mark.parametrize("share", [0.0, 1e-6, 0.1, 0.5, 0.9, 0.999999])
def test_geometric_shares_have_the_mean_cost_asked_for(share):
    cost = np.array(COST)
    budget = cost[0] + share * (cost[-1] - cost[0])
    shares = geometric_shares(cost, budget)
    assert shares @ cost == pytest.approx(budget, rel=1e-9)
    ratios = shares[1:] / shares[:-1]
    if 0 < share < 1:
        np.testing.assert_allclose(ratios, ratios[0], rtol=1e-6)


def test_costs_that_are_equal_and_exits_that_are_alone():
    assert geometric_shares(np.array([5.0, 5.0]), 5.0).tolist() == [0.0, 1.0]
    alone = trace(40, exits=1)
    for target in ({"budget": 100.0}, {"accuracy": 0.1}, {"shares": (1.0,)}):
        for search in SEARCHES:
            found = solve(alone, search=search, **target)
            assert found.policy == Threshold(()) and found.expected.cost_share == 1


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("scoring", SCORINGS, ids=name_of)
def test_a_budget_is_met_and_the_policy_returns_from_json(scoring, search):
    for budget in (10.0, 30.0, 60.0, 100.0, 1e9):
        found = solve(RECORDED, scoring, budget=budget, search=search, points=6)
        assert found.expected.mean_cost <= budget
        assert found.split == found.expected.split == "validation"
        again = from_json(to_json(found.policy))
        taken = again(RECORDED.answers, RECORDED.cost, RECORDED.confidence)
        assert outcome(RECORDED, taken) == found.expected


def test_a_geometric_budget_is_spent():
    for budget in (12.0, 30.0, 60.0, 95.0):
        found = solve(RECORDED, budget=budget)
        assert budget - 100 * 3 / 500 < found.expected.mean_cost <= budget


def test_more_budget_is_never_less_accurate_on_a_grid():
    budgets = (10.0, 20.0, 40.0, 70.0, 100.0)
    found = [
        solve(RECORDED, budget=b, search="product", points=8).expected for b in budgets
    ]
    right = [o.accuracy for o in found]
    assert right == sorted(right)


def test_the_product_grid_is_the_best_by_brute_force():
    few = trace(60, exits=3)
    score = Scoring()(few.answers)
    marks = [np.quantile(s, [1, 0.5, 0], method="lower") for s in score[:2]]
    for row in marks:
        row[0] = above(row[0])
    found = [outcome(few, decide(score, pair)) for pair in itertools.product(*marks)]
    best = max((o for o in found if o.mean_cost <= 60), key=lambda o: o.accuracy)
    solved = solve(few, budget=60.0, search="product", points=3).expected
    assert solved.accuracy == best.accuracy
    floor = sorted(o.accuracy for o in found)[4]
    cheap = min(o.mean_cost for o in found if o.accuracy >= floor)
    solved = solve(few, accuracy=floor, search="product", points=3).expected
    assert solved.mean_cost == cheap


@pytest.mark.parametrize("search", SEARCHES)
def test_searches_go_from_nobody_to_all_early(search):
    score = Scoring("margin")(RECORDED.answers)
    path = SEARCHES[search](score, RECORDED.cost, 7)
    assert np.isfinite(path).all() and path.dtype == np.float32
    taken = [decide(score, row) for row in path]
    assert (taken[0] == 3).all() and (taken[-1] == 0).all()
    if search != "product":
        costs = [outcome(RECORDED, t).mean_cost for t in taken]
        assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("search", SEARCHES)
def test_floors_are_reached_and_save_cost(search):
    whole = outcome(RECORDED, np.full(500, 3))
    points = 8 if search == "product" else 40
    more = {"search": search, "points": points}
    found = solve(RECORDED, accuracy=whole.accuracy - 0.01, **more).expected
    assert found.accuracy >= whole.accuracy - 0.01 and found.cost_share < 0.95
    lowest = min(r for r in whole.recalls if r is not None)
    found = solve(RECORDED, recall=lowest - 0.05, **more).expected
    assert min(r for r in found.recalls if r) >= lowest - 0.05
    assert found.cost_share < 1


def test_a_filter_passes_its_recall_and_no_more():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=1000)
    z = rng.normal(labels * 3.0 - 1.5)
    two = Trace(
        answers=np.stack([np.stack([-z, z], 1), np.eye(2)[labels]]),
        labels=labels,
        cost=np.array([1.0, 50.0]),
        net="filter",
        exits=("exit@a", "final"),
        split="validation",
    )
    for recall in (0.8, 0.9, 0.99, 1.0):
        found = minimum_recall(two, recall=recall)
        taken = found.policy(two.answers, two.cost)
        passed = (taken == 1)[labels == 1].mean()
        assert passed >= recall
        assert (taken == 1)[z > 0].all()
        # The next candidate would pass too few, or nothing called negative is left.
        mark = found.policy.thresholds[0][0]
        score = Scoring()(two.answers)[0]
        more = np.sort(score[(z < 0) & (score < mark) & (labels == 1)])
        if more.size:
            lower = PerClass(((float(more[-1]), 2.0),))
            loose = lower(two.answers, two.cost) == 1
            assert loose[labels == 1].mean() < recall
    with pytest.raises(UsageError, match="2 exits"):
        minimum_recall(RECORDED, recall=0.9)


def test_class_quantiles_hold_back_the_wrong():
    few = trace(3000, classes=3)
    for quantile in (0.5, 0.9, 1.0):
        policy = class_quantiles(few, quantile=quantile).policy
        score = Scoring()(few.answers)
        answers = few.answers.argmax(-1)
        for e, k in np.ndindex(3, 3):
            wrong = score[e, (answers[e] == k) & (few.labels != k)]
            leaving = (wrong >= policy.thresholds[e][k]).mean()
            assert 1 - quantile - 1 / len(wrong) <= leaving <= 1 - quantile + 1e-9


def test_never_is_over_every_score():
    huge = RECORDED.answers * np.float32(1e6)
    for given in SCORINGS:
        assert (given(huge, RECORDED.confidence) < never(given, RECORDED)).all()


@pytest.mark.parametrize(
    "solver",
    [
        lambda t: solve(t, budget=50.0),
        lambda t: solve(t, shares=(0.25,) * 4),
        lambda t: solve(t, accuracy=0.1, search="product", points=3),
        lambda t: minimum_recall(trace(9, exits=2, split="test"), recall=0.9),
        lambda t: class_quantiles(t, quantile=0.9),
        lambda t: risk.control(t, epsilon=0.1),
        lambda t: failure_prediction.fit(t),
    ],
)
def test_no_solver_sees_the_test_split(solver):
    with pytest.raises(UsageError, match="nothing is fitted on the test split"):
        solver(dataclasses.replace(RECORDED, split="test"))


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ({"budget": 9.0}, "budget of 9: the first costs 10, the last 100"),
        ({"budget": float("nan")}, "no exit meets a budget of nan"),
        ({"budget": 9.0, "search": "product"}, "no exit meets a budget"),
        (
            {"accuracy": 1.01},
            r"accuracy 1.01 on split 'validation': from 0\.\d+ to 0\.",
        ),
        ({"recall": 1.01}, r"recall 1.01 on split 'validation': from"),
        ({"shares": (0.5, 0.5)}, "2 shares for 4 exits"),
        ({"shares": (0.5, 0.5, 0.5, 0.5)}, "sum to 1"),
        ({}, "one target of budget, accuracy, recall, shares, not none"),
        ({"budget": 50.0, "accuracy": 0.5}, "one target.* not budget and accuracy"),
        ({"budget": 50.0, "search": "geometrical"}, "did you mean 'geometric'"),
        ({"budget": 50.0, "search": "product", "points": 99}, "at most 27"),
        ({"budget": 50.0, "points": 1}, "2 points or more"),
    ],
)
def test_bad_input_is_one_line(target, line):
    with pytest.raises(UsageError, match=line) as raised:
        solve(RECORDED, **target)
    assert "\n" not in str(raised.value)
