"""EENet's scheduler: fitted within its budget, twice the same, and worth it."""

import dataclasses

import jax
import numpy as np
import pytest
from exit_traces import COST, trace

from sc_jax.errors import UsageError
from sc_jax.exits.policies import from_json, to_json
from sc_jax.exits.solve import eenet
from sc_jax.exits.solve.threshold_search import geometric_shares
from sc_jax.exits.solve.thresholds import solve
from sc_jax.traces.trace import outcome, subset

RECORDED = trace(500)
SMALL = {"width": 4, "steps": 150}


def judged(policy, on):
    return outcome(on, policy(on.answers, on.cost, on.confidence))


def told_by_class(seed: int):
    """Early exits know classes 0 and 1 and guess among the others, as surely."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=500)
    said = np.where(labels < 2, labels, rng.integers(2, 5, (3, 500)))
    sure = rng.uniform(1.0, 4.0, (3, 500, 1))
    early = sure * np.eye(5)[said]
    late = 6 * np.eye(5)[labels][None]
    return trace(500, answers=np.concatenate([early, late]), labels=labels)


@pytest.mark.parametrize("budget", [10.0, 11.0, 30.0, 60.0, 99.0, 100.0, 1e9])
def test_the_budget_is_met_and_spent_where_it_is_fitted(budget):
    found = eenet.fit(RECORDED, budget=budget, **SMALL)
    assert found.policy.scoring.score == "eenet" and found.split == "validation"
    aim = min(budget, 100.0)
    assert aim - 1.0 < found.expected.mean_cost <= budget


def test_the_same_seed_gives_the_same_policy_and_json_brings_it_back():
    once, again = (eenet.fit(RECORDED, budget=40.0, **SMALL) for _ in range(2))
    assert once == again
    assert eenet.fit(RECORDED, budget=40.0, seed=1, **SMALL) != once
    back = from_json(to_json(once.policy))
    assert back == once.policy
    assert judged(back, RECORDED) == once.expected


def test_the_fitted_score_is_a_probability_and_reads_no_later_exit():
    score = eenet.fit(RECORDED, budget=40.0, **SMALL).policy.scoring
    whole = score.of(RECORDED)
    assert whole.min() >= 0 and whole.max() <= 1
    right = RECORDED.answers.argmax(-1) == RECORDED.labels
    for e in range(1, 4):
        changed = RECORDED.answers.copy()
        changed[e:] = np.random.default_rng(e).normal(size=changed[e:].shape)
        np.testing.assert_array_equal(score(changed)[:e], whole[:e])
        assert whole[e, right[e]].mean() > whole[e, ~right[e]].mean() + 0.1


def test_it_sees_what_the_largest_probability_does_not():
    """Which class is said tells all; the sure and the unsure are as often right."""
    held, fresh = told_by_class(0), told_by_class(1)
    for budget in (50.0, 64.0, 80.0):
        usual = judged(solve(held, budget=budget).policy, fresh)
        found = judged(eenet.fit(held, budget=budget).policy, fresh)
        assert found.mean_cost == pytest.approx(budget, rel=0.1)
        assert found.accuracy > usual.accuracy + 0.05


def test_it_is_no_worse_where_the_largest_probability_is_all_there_is():
    fresh = trace(4000, seed=1)
    for budget in (20.0, 60.0):
        usual = judged(solve(RECORDED, budget=budget).policy, fresh)
        found = judged(eenet.fit(RECORDED, budget=budget).policy, fresh)
        assert found.mean_cost == pytest.approx(usual.mean_cost, rel=0.05)
        assert found.accuracy > usual.accuracy - 0.01


def drawn(exits=3, examples=40, classes=2):
    """What the loss reads, at random weights: numbers, no trace."""
    rng = np.random.default_rng(3)
    columns = classes + eenet.SCALARS
    read = eenet.Read(
        rng.normal(size=(exits, examples, columns)).astype(np.float32),
        rng.integers(0, 2, (exits, examples)).astype(np.float32),
        np.full(exits, 1 / exits, np.float32),
        np.linspace(0.5, 1.5, exits).astype(np.float32),
    )
    weights = {
        "scores": [
            rng.normal(size=1 + columns + e).astype(np.float32) for e in range(exits)
        ],
        "w1": rng.normal(size=(exits * (eenet.SCALARS + 1), 4)).astype(np.float32),
        "b1": np.zeros((1, 4), np.float32),
        "w2": rng.normal(size=(4, exits)).astype(np.float32),
        "b2": np.zeros((1, exits), np.float32),
    }
    return weights, read


def test_the_scheduler_is_drawn_to_each_examples_own_quality():
    """KL of q^b over its sum against r, example by example; not of mean shares."""
    weights, read = drawn()
    odds, log_r = (np.asarray(x, np.float64) for x in eenet._leaving(weights, read))
    quality = (1 / (1 + np.exp(-odds.T))) ** 2.5
    quality /= quality.sum(1, keepdims=True)
    kl = (quality * (np.log(quality) - log_r)).mean()
    r = np.exp(log_r)
    bce = np.logaddexp(0, odds) - odds * read.right
    fit = (r.T / r.sum(0)[:, None] * bce).sum()
    over = abs(r.mean(0) @ read.cost - 1)
    for terms, expected in (
        ((0.0, 2.5, 0.0, 0.0), fit),
        ((1.0, 2.5, 0.0, 0.0), fit + kl),
        ((0.0, 1.0, 3.0, 0.0), fit + 3 * over),
    ):
        got = float(eenet._loss(weights, read, terms))
        assert got == pytest.approx(expected, rel=1e-4)


def test_scores_and_shares_send_each_other_no_gradient():
    weights, read = drawn()
    slope = jax.grad(eenet._loss)
    only_fit = slope(weights, read, (0.0, 1.0, 0.0, 0.0))
    assert all(not np.abs(only_fit[k]).any() for k in ("w1", "w2", "b1", "b2"))
    both = slope(weights, read, (5.0, 2.0, 5.0, 0.0))
    for a, b in zip(only_fit["scores"], both["scores"]):
        np.testing.assert_allclose(a, b, atol=1e-6)
    # An earlier score is a feature of later ones, which do not move it. (r even.)
    plain = {**weights, "w2": 0 * weights["w2"]}
    deaf = {**plain, "scores": [w.copy() for w in weights["scores"]]}
    for w in deaf["scores"][1:]:
        w[len(weights["scores"][0]) :] += 9.0
    terms = (0.0, 1.0, 0.0, 0.0)
    first, moved = (slope(w, read, terms)["scores"][0] for w in (plain, deaf))
    assert np.abs(first).max() > 0
    np.testing.assert_allclose(first, moved, atol=1e-6)


def test_a_net_without_early_exits_has_nothing_to_schedule():
    alone = trace(40, exits=1)
    assert eenet.fit(alone, budget=100.0, **SMALL).policy.thresholds == ()


def test_shares_are_tilted_to_the_budget_and_keep_their_odds():
    cost, base = np.array(COST), np.array([0.1, 0.6, 0.1, 0.2])
    shares = geometric_shares(cost, 30.0, base)
    assert shares @ cost == pytest.approx(30.0)
    odds = shares / base
    np.testing.assert_allclose(odds[1:] / odds[:-1], odds[1] / odds[0])
    kept = geometric_shares(cost, float(base @ cost), base)
    np.testing.assert_allclose(kept, base)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"budget": 9.0}, "no exit meets a budget of 9: the first costs 10"),
        ({"budget": float("nan")}, "no exit meets a budget of nan"),
        ({"pull": -1.0}, "pull is 0 or more"),
        ({"price": float("inf")}, "price is 0 or more"),
        ({"ridge": float("nan")}, "ridge is 0 or more"),
        ({"width": 0}, "width and steps are 1 or more"),
        ({"steps": 0}, "width and steps are 1 or more"),
    ],
)
def test_bad_input_is_one_line(change, line):
    with pytest.raises(UsageError, match=line) as raised:
        eenet.fit(RECORDED, **{"budget": 40.0, **change})
    assert "\n" not in str(raised.value)


def test_nothing_is_fitted_on_the_test_split():
    tested = dataclasses.replace(subset(RECORDED, np.arange(9)), split="test")
    with pytest.raises(UsageError, match="test split"):
        eenet.fit(tested, budget=40.0)
