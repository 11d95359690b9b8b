"""Risk control on recorded answers, split again and again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sc_jax.evaluate.budgets import taken
from sc_jax.exits.policies import Policy
from sc_jax.exits.solve import risk
from sc_jax.traces.record import Recorded
from sc_jax.traces.trace import Trace, outcome, subset

EPSILON, DELTA = 0.01, 0.1  # at most a point worse, with probability 0.9


def resplit(fitted: Recorded, test: Recorded, times: int) -> dict:
    """Achieved risk and cost over `times` random halves of all recorded examples.

    One half calibrates, the other is held out. Nothing was trained on either: they are
    the validation and test splits of the run, pooled. What is promised is the risk over
    all inputs: `pooled_over` measures it on all recorded examples, `held_out_over` on
    the held-out half, which adds that half's own noise. The score is the largest
    probability. Re-splits share one network, so they are no independent trials.
    """
    pooled = _pooled(fitted, test)
    count = len(pooled.labels)
    found = {name: ([], [], []) for name in ("upper_confidence", "learn_then_test")}
    for seed in range(times):
        # The seed is the re-split's number: all recipes are split alike.
        order = np.random.default_rng(seed).permutation(count)
        first = subset(pooled, np.sort(order[: count // 2]))
        second = subset(pooled, np.sort(order[count // 2 :]))
        for method, (lost, over_all, cost) in found.items():
            solved = risk.control(
                first, epsilon=EPSILON, delta=DELTA, method=method, seed=seed
            )
            lost.append(_lost(second, solved.policy))
            over_all.append(_lost(pooled, solved.policy))
            cost.append(outcome(second, taken(solved.policy, second)).cost_share)
    return {
        "epsilon": EPSILON,
        "delta": DELTA,
        "score": "max_probability",
        "times": times,
        "calibration": count // 2,
        "held_out": count - count // 2,
        "methods": {
            method: {
                "pooled_over": float(np.mean(np.array(over_all) > EPSILON + 1e-9)),
                "held_out_over": float(np.mean(np.array(lost) > EPSILON + 1e-9)),
                "lost_mean": float(np.mean(lost)),
                "lost_p90": float(np.percentile(lost, 90)),
                "cost_share_mean": float(np.mean(cost)),
            }
            for method, (lost, over_all, cost) in found.items()
        },
    }


def _lost(trace: Trace, policy: Policy) -> float:
    """Accuracy of the whole network minus the policy's."""
    whole = trace.quality[-1].mean(dtype=np.float64)
    return float(whole - outcome(trace, taken(policy, trace)).accuracy)


def _pooled(fitted: Recorded, test: Recorded) -> Trace:
    """Both traces as one, named for what it is."""
    a, b = fitted.trace, test.trace
    return replace(
        a,
        answers=np.concatenate([a.answers, b.answers], 1),
        labels=np.concatenate([a.labels, b.labels]),
        quality=np.concatenate([a.quality, b.quality], 1),
        confidence=None,
        split="validation+test, halved",
    )
