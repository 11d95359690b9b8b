"""Branches chosen from a trace: what is predicted is what leaving there gives."""

import dataclasses
import itertools

import numpy as np
import pytest
from exit_traces import trace

from sc_jax.errors import UsageError
from sc_jax.exits.policies import Threshold
from sc_jax.exits.scores import Scoring
from sc_jax.exits.solve.placement import candidates, confident
from sc_jax.plan.placement import dynamic_programme, expected, stays_confident
from sc_jax.traces.trace import outcome

RECORDED = trace(300)
RISING = dataclasses.replace(
    RECORDED, confidence=np.maximum.accumulate(RECORDED.confidence)
)
COSTS = np.array([2.0, 5.0, 9.0, 9.0])  # 2, 3 and 4 by the three classifiers
PLACES = ("a", "b", "c")


def kept_alone(kept):
    """The trace of a net that has these exits alone."""
    rows = [e for e, place in enumerate(PLACES) if place in kept]
    heads = np.diff(COSTS[:3], prepend=0.0)[rows]
    trunk = (RECORDED.cost - COSTS)[[*rows, 3]]
    return dataclasses.replace(
        RISING,
        answers=RISING.answers[[*rows, 3]],
        confidence=RISING.confidence[[*rows, 3]],
        quality=None,
        cost=trunk + np.cumsum([*heads, 0.0]),
        exits=(*(f"exit@{p}" for p in kept), "final"),
    )


def test_all_places_are_the_threshold_policy_itself():
    for marks in (0.9, (0.5, 0.7, 0.9)):
        each = tuple(np.broadcast_to(marks, 3).tolist())
        taken = Threshold(each)(RECORDED.answers, RECORDED.cost)
        found = outcome(RECORDED, taken)
        made = candidates(RECORDED, marks, classifier_cost=COSTS)
        assert made.places == PLACES
        told = expected(made, PLACES)
        assert told == pytest.approx((found.mean_cost, found.accuracy))


def test_where_the_sure_stay_sure_every_choice_is_predicted():
    scoring = Scoring("confidence")
    assert stays_confident(confident(RISING, 0.8, scoring)) == 1
    assert stays_confident(confident(RECORDED, 0.8, scoring)) < 1
    made = candidates(RISING, 0.8, scoring, COSTS)
    figures = {}
    for size in range(4):
        for kept in itertools.combinations(PLACES, size):
            part = kept_alone(kept)
            policy = Threshold((0.8,) * size, scoring)
            found = outcome(part, policy(part.answers, part.cost, part.confidence))
            figures[kept] = (found.mean_cost, found.accuracy)
            assert expected(made, kept) == pytest.approx(figures[kept])
    for budget in (60.0, 70.0, 80.0, 91.0):
        best = max(right for cost, right in figures.values() if cost <= budget)
        assert figures[dynamic_programme(made, budget)][1] == best


def test_heads_that_are_not_told_cost_nothing():
    made = candidates(RECORDED, 0.9)
    assert made.exit_cost.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(made.trunk_cost, RECORDED.cost)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: candidates(RECORDED, (0.5, 0.5)), "one number, or 3, one for each"),
        (lambda: candidates(RECORDED, float("nan")), "one number, or 3"),
        (
            lambda: candidates(RECORDED, 0.5, classifier_cost=COSTS[:2]),
            "2 costs of exit classifiers",
        ),
        (lambda: candidates(trace(9, split="test"), 0.5), "test split"),
        (
            lambda: candidates(trace(9, confidence=None), 0.5, Scoring("confidence")),
            "never learnt",
        ),
    ],
)
def test_bad_input_is_one_line(make, line):
    with pytest.raises(UsageError, match=line) as raised:
        make()
    assert "\n" not in str(raised.value)
