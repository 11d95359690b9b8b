"""Executors: one policy, the same answers and exits from each."""

import jax
import numpy as np
import pytest
from exit_nets import (
    SHARES,
    cascade,
    clear_thresholds,
    dense,
    inputs,
    made,
    recorded,
    telling,
)

from sc_jax.errors import UsageError
from sc_jax.exits.execute import bucketed, capacity, cond, run_all
from sc_jax.exits.policies import (
    Anytime,
    Patience,
    PerClass,
    Policy,
    Threshold,
    TopFraction,
)
from sc_jax.exits.scores import Scoring
from sc_jax.nets.run import Variables

COST = (1.0, 2.0, 3.0, 4.0)
BATCHES = (1, 2, 7, 64, 257)
NETS = {"dense": dense, "cascade": cascade, "telling": telling}


@pytest.fixture(scope="module")
def nets():
    """By name: the net, its variables, 257 inputs, all logits and confidences."""
    found = {}
    for name, build in NETS.items():
        net = build()
        variables, x = made(net), inputs(net, 257)
        found[name] = (net, variables, x, *recorded(net, variables, x))
    return found


def policies(
    logits: np.ndarray, confidence: np.ndarray, name: str
) -> dict[str, Policy]:
    """One of each kind that is clear on these recorded logits."""
    scoring = Scoring("confidence" if name == "telling" else "margin")
    score = scoring(logits, confidence)
    thresholds = clear_thresholds(score)
    return {
        "threshold": Threshold(tuple(thresholds), scoring),
        "top_fraction": TopFraction(SHARES, Scoring("entropy", (1.0, 2.0, 0.5, 1.0))),
    }


def same(decision, logits: np.ndarray, exits: np.ndarray) -> None:
    """The decision is of these exits, exactly; to 1e-5 of the logits f32[E, B, K]."""
    np.testing.assert_array_equal(decision.exits, exits)
    assert decision.exits.dtype == np.int32 and decision.rows.dtype == np.int32
    expected = logits[exits, np.arange(len(exits))]
    np.testing.assert_allclose(decision.logits, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(decision.answers, decision.logits.argmax(-1))


CASES = {
    ("dense", "threshold"): BATCHES,
    ("dense", "top_fraction"): BATCHES,
    ("cascade", "threshold"): (64,),
    ("telling", "threshold"): (257,),
    ("telling", "top_fraction"): (64,),
}


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_executor_decides_as_the_policy_does(nets, name, kind):
    """The policy on recorded logits is the reference."""
    net, variables, x, logits, confidence = nets[name]
    policy = policies(logits, confidence, name)[kind]
    makers = {"run_all": run_all, "bucketed": bucketed}
    if kind == "top_fraction":
        makers["capacity"] = capacity
    run = [make(net, variables, policy, cost=COST) for make in makers.values()]
    exits = np.zeros(0, np.int32)
    for batch in CASES[name, kind]:
        exits = policy(logits[:, :batch], np.array(COST), confidence[:, :batch])
        for each in run:
            same(each(x[:batch]), logits[:, :batch], exits)
    assert len(set(exits.tolist())) > 1
    if kind != "top_fraction":
        alone = cond(net, variables, policy, cost=COST)
        for i in range(7):
            same(alone(x[i : i + 1]), logits[:, i : i + 1], exits[i : i + 1])


def test_run_all_gives_the_bits_of_the_net(nets):
    net, variables, x, logits, _ = nets["dense"]
    decision = run_all(net, variables, Threshold((2.0,) * 3))(x)
    np.testing.assert_array_equal(decision.logits, logits[-1])


def ended(net, variables, x, early: bool):
    """Decisions when all leave first, or none does before the last."""
    mark, share = (-1.0, (1.0, 0, 0, 0)) if early else (2.0, (0, 0, 0, 1.0))
    threshold, top = Threshold((mark,) * 3), TopFraction(share)
    return {
        "run_all": run_all(net, variables, threshold)(x),
        "bucketed": bucketed(net, variables, threshold)(x),
        "bucketed_top": bucketed(net, variables, top)(x),
        "capacity": capacity(net, variables, top)(x),
    }


@pytest.mark.parametrize("batch", [1, 257])
def test_all_leave_first_or_none_leaves(nets, batch):
    net, variables, x, logits, _ = nets["dense"]
    x, logits = x[:batch], logits[:, :batch]
    for name, decision in ended(net, variables, x, early=True).items():
        same(decision, logits, np.zeros(batch, np.int32))
        rest = batch if name == "run_all" else 0
        assert decision.rows.tolist() == [batch, rest, rest, rest]
    for decision in ended(net, variables, x, early=False).values():
        same(decision, logits, np.full(batch, 3, np.int32))
        assert decision.rows.tolist() == [batch] * 4


def test_ties_leave_in_order(nets):
    """Scores behind the first exit are alike: there the first of the batch leave."""
    net, variables, x, logits, _ = nets["dense"]
    params = dict(variables.params)
    for name in ("exit@b", "exit@c"):
        params[name] = jax.tree.map(np.zeros_like, params[name])
    tied = logits.copy()
    tied[1:3] = 0.0
    expected = TopFraction(SHARES)(tied, np.array(COST))
    assert (np.diff(expected[expected > 0]) >= 0).all()
    for make in (run_all, capacity, bucketed):
        executor = make(net, Variables(params, variables.state), TopFraction(SHARES))
        np.testing.assert_array_equal(executor(x).exits, expected)


def test_a_nan_goes_to_the_last_exit_and_is_no_answer(nets):
    net, variables, x, _, _ = nets["dense"]
    x = x[:8].copy()
    x[3] = np.nan
    thresholds = Threshold((0.0,) * 3)
    for make in (run_all, bucketed):
        decision = make(net, variables, thresholds)(x)
        assert decision.exits.tolist() == [0, 0, 0, 3, 0, 0, 0, 0]
        with pytest.raises(UsageError, match="example 3 of the batch: logits NaN"):
            decision.answers  # noqa: B018
    assert cond(net, variables, thresholds)(x[3:4]).exits.tolist() == [3]


@pytest.mark.parametrize(
    ("make", "policy", "line"),
    [
        (cond, TopFraction(SHARES), "cond takes one example.*capacity or bucketed"),
        (capacity, Threshold((0.5,) * 3), "fixed shares.*bucketed"),
        (capacity, Patience(1), "fixed shares.*bucketed"),
        (run_all, Threshold((0.5,) * 2), "thresholds: 2 instead of 3"),
        (bucketed, TopFraction((0.5, 0.5)), "shares: 2 instead of 4"),
        (cond, Anytime(2.0), "needs the cost of each of the 4 exits"),
        (
            run_all,
            Threshold((0.5,) * 3, Scoring(temperatures=(1.0,))),
            "1 temperatures for 4",
        ),
    ],
)
def test_what_cannot_be_done_names_what_can(nets, make, policy, line):
    net, variables, *_ = nets["dense"]
    with pytest.raises(UsageError, match=line) as confidence:
        make(net, variables, policy)
    assert "\n" not in str(confidence.value)


def test_what_cannot_be_done_with_these_inputs(nets):
    net, variables, x, *_ = nets["dense"]
    with pytest.raises(UsageError, match="batch of 1, not 2: executor bucketed"):
        cond(net, variables, Threshold((0.5,) * 3))(x[:2])
    with pytest.raises(UsageError, match="never learnt"):
        confident = Threshold((0.5,) * 3, Scoring("confidence"))
        run_all(net, variables, confident)(x)
    with pytest.raises(UsageError, match="thresholds of 2 classes, the net has 5"):
        bucketed(net, variables, PerClass(((0.5, 0.5),) * 3))(x)
    with pytest.raises(UsageError, match="buckets are 1 or more"):
        bucketed(net, variables, Threshold((0.5,) * 3), buckets=0)
