"""Policies: the last exit answers, cost falls with eagerness, JSON brings them back."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from exit_traces import COST, WEIGHTS, scoring, trace

from sc_jax.errors import UsageError
from sc_jax.exits.decision import counts, decide, top_fraction
from sc_jax.exits.policies import (
    POLICIES,
    Anytime,
    Patience,
    PerClass,
    Threshold,
    TopFraction,
    Voting,
    from_json,
    to_json,
)
from sc_jax.exits.scores import SCORES, Scoring
from sc_jax.traces.trace import outcome

RECORDED = trace(257)
LOGITS = RECORDED.answers
SAMPLES = {
    "threshold": Threshold((0.9, 0.1 + 0.2, -1e300), Scoring("entropy")),
    "per_class": PerClass(((0.9,) * 5, (0.8,) * 5, (1 / 3,) * 5)),
    "top_fraction": TopFraction(
        (0.5, 0.25, 0.1, 0.15), Scoring(temperatures=(1.7,) * 4)
    ),
    "patience": Patience(2),
    "anytime": Anytime(46.5),
}


def taken_by(policy) -> np.ndarray:
    return policy(LOGITS, RECORDED.cost, RECORDED.confidence)


def cost_of(policy) -> float:
    return outcome(RECORDED, taken_by(policy)).mean_cost


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_gives_an_exit_and_returns_from_json(name):
    candidates = [SAMPLES[name]] if name in SAMPLES else POLICIES[name].candidates(4)
    assert candidates, f"{name} has no candidates: nothing can solve or test it"
    policy = max(candidates, key=lambda each: len(np.unique(taken_by(each))))
    taken = taken_by(policy)
    assert name in SAMPLES or len(np.unique(taken)) > 1
    assert taken.dtype == np.int32 and taken.shape == (257,)
    assert taken.min() >= 0 and taken.max() <= 3
    assert from_json(to_json(policy)) == policy
    assert hash(from_json(to_json(policy))) == hash(policy)
    for fitted in WEIGHTS if hasattr(policy, "scoring") else ():
        weighted = replace(policy, scoring=scoring(fitted))
        assert from_json(to_json(weighted)) == weighted


@pytest.mark.parametrize("name", sorted(SCORES))
def test_cost_is_monotone_in_every_threshold(name):
    given = scoring(name)
    score = given.of(RECORDED)
    low, high = float(score.min()), float(score.max())
    steps = np.linspace(low, high + 0.01, 9).tolist()
    for e in range(3):
        thresholds = [[(low + high) / 2] * 3 for _ in steps]
        for row, step in zip(thresholds, steps):
            row[e] = step
        costs = [cost_of(Threshold(tuple(row), given)) for row in thresholds]
        assert costs == sorted(costs)
    all_first = taken_by(Threshold((low - 1e-6,) * 3, given))
    none_early = taken_by(Threshold((high + 1,) * 3, given))
    assert (all_first == 0).all() and (none_early == 3).all()


def test_decide_is_the_first_sure_exit():
    rng = np.random.default_rng(0)
    score, thresholds = rng.uniform(size=(4, 50)), rng.uniform(size=3)
    for n, taken in enumerate(decide(score, thresholds)):
        sure = [e for e in range(3) if score[e, n] >= thresholds[e]]
        assert taken == (sure[0] if sure else 3)


def test_one_exit_answers_all():
    only = LOGITS[:1]
    for policy in (Threshold(()), PerClass(()), TopFraction((1.0,)), Anytime(10.0)):
        assert (policy(only, np.array([10.0])) == 0).all()


def test_a_threshold_met_exactly_leaves():
    assert decide(np.array([[0.5, 0.4], [0.0, 0.0]]), [0.5]).tolist() == [0, 1]


def test_equal_thresholds_by_class_are_the_scalar_one():
    thresholds = (0.7, 0.6, 0.5)
    by_class = PerClass(tuple((m,) * 5 for m in thresholds))
    scalar = Threshold(thresholds)
    np.testing.assert_array_equal(by_class(LOGITS, COST), scalar(LOGITS, COST))


def test_a_class_whose_threshold_is_out_of_reach_stays():
    taken = PerClass(((2.0, 0, 0, 0, 0), (2.0,) * 5, (2.0,) * 5))(LOGITS, COST)
    np.testing.assert_array_equal(taken == 0, LOGITS[0].argmax(-1) != 0)


@pytest.mark.parametrize("examples", [1, 2, 7, 257])
def test_top_fraction_keeps_its_counts_and_takes_the_surest(examples):
    score = np.random.default_rng(0).permuted(np.arange(4.0 * examples))
    score = score.reshape(4, examples)
    shares = np.array([0.3, 0.2, 0.1, 0.4])
    taken = top_fraction(score, shares)
    np.testing.assert_array_equal(
        np.bincount(taken, minlength=4), counts(shares, examples)
    )
    for e in range(3):
        gone, stay = score[e, taken == e], score[e, taken > e]
        if gone.size and stay.size:
            assert gone.min() > stay.max()


@pytest.mark.parametrize("examples", [1, 3, 10, 97])
def test_counts_are_within_one_and_never_late(examples):
    for steps in itertools.product((0, 1, 2, 5), repeat=3):
        shares = np.array([*steps, 1]) / (sum(steps) + 1)
        found = counts(shares, examples)
        assert found.sum() == examples and (found >= 0).all()
        assert np.abs(found - shares * examples).max() < 1
        late = np.cumsum(shares) * examples - np.cumsum(found)
        assert late.max() < 1e-6


def test_patience_needs_patience_plus_one_exits():
    for wanted in (1, 2):
        taken = Patience(wanted)(LOGITS, COST)
        answers = LOGITS.argmax(-1)
        for n, e in enumerate(taken):
            assert e >= wanted or e == 3
            if e < 3:
                assert len(set(answers[e - wanted : e + 1, n])) == 1
    with pytest.raises(UsageError, match="2 can repeat an answer: with patience 3"):
        Patience(3)(LOGITS, COST)
    assert cost_of(Patience(1)) < cost_of(Patience(2)) < 100


def test_votes_need_not_be_in_a_row():
    answers = np.array([0, 1, 0, 0, 2])
    logits = 3.0 * np.eye(3)[answers][:, None]
    assert Voting(2)(logits).tolist() == [2] and Voting(3)(logits).tolist() == [3]
    assert Patience(1)(logits).tolist() == [3] and Voting(4)(logits).tolist() == [4]
    with pytest.raises(UsageError, match="4 exits before the last cannot give 5 votes"):
        Voting(5)(logits)


def test_anytime_is_the_deepest_exit_in_time():
    for deadline, e in ((10, 0), (24.9, 0), (25, 1), (99, 2), (100, 3), (1e9, 3)):
        assert (taken_by(Anytime(deadline)) == e).all()
        assert Anytime(deadline).shares_of(4, COST)[e] == 1
    costs = [cost_of(Anytime(d)) for d in (10.0, 30.0, 50.0, 200.0)]
    assert costs == sorted(costs)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Threshold((0.5,))(LOGITS, COST), "1 instead of 3"),
        (lambda: Threshold((0.5,) * 4)(LOGITS, COST), "4 instead of 3"),
        (lambda: decide(np.zeros((4, 9)), 0.5), "one number instead of 3"),
        (lambda: decide(np.zeros((4, 9)), (0.5, np.nan, 0.5)), "NaN"),
        (lambda: Threshold((0.5, np.inf)), "finite"),
        (lambda: Threshold(((0.5, 0.1), (0.2, 0.3))), "a tuple of finite numbers"),
        (lambda: PerClass(((0.5,), (0.5, 0.5))), "equally long"),
        (
            lambda: PerClass(((0.5,) * 2,) * 3)(LOGITS, COST),
            "of 2 classes, the net has",
        ),
        (lambda: TopFraction((0.5, 0.6)), "sum to 1"),
        (lambda: TopFraction((0.5, 0.5))(LOGITS, COST), "2 instead of 4"),
        (lambda: Patience(1)(LOGITS[:1], COST), "2 exits before the last.*has 0"),
        (lambda: Patience(1)(LOGITS[:2], COST), "2 exits before the last.*has 1"),
        (lambda: Patience(0), "from 1 on"),
        (lambda: Anytime(9.0)(LOGITS, COST), "first takes 10, the last 100"),
        (lambda: Anytime(float("nan")), "deadline_macs"),
        (
            lambda: Threshold((0.5,) * 3, Scoring(temperatures=(1.0,) * 5))(
                LOGITS, COST
            ),
            "5 temperatures for 4",
        ),
        (lambda: from_json('{"policy": "thresholds"}'), "did you mean 'threshold'"),
        (lambda: from_json('{"policy": "patience"}'), "not a policy"),
        (lambda: from_json('{"policy": "patience", "count": 2}'), "not a policy"),
        (lambda: from_json("[1]"), "not a policy"),
        (lambda: from_json("{"), "not a policy"),
    ],
)
def test_bad_input_is_one_line(make, line):
    with pytest.raises(UsageError, match=line) as raised:
        make()
    assert "\n" not in str(raised.value)
