"""Thresholds with a guarantee: at most epsilon worse than the whole network.

A loss table is [..., C, N]: C candidates in a fixed order, safest first, N independent
examples, losses in 0..1. Candidates must not be chosen on the examples they are tested
on: `control` designs them on one half of the trace and tests on the other.
"""

from __future__ import annotations

import numpy as np

from sc_jax.errors import UsageError, unknown
from sc_jax.exits.decision import decide
from sc_jax.exits.scores import MAX_PROBABILITY, Scoring
from sc_jax.exits.solve.risk_losses import LOSSES
from sc_jax.exits.solve.threshold_search import geometric
from sc_jax.exits.solve.thresholds import Solved, never, solved
from sc_jax.plan.p_values import betting, fixed_sequence, hoeffding_bentkus
from sc_jax.traces.trace import Trace, for_fitting, subset


def learn_then_test(losses: np.ndarray, epsilon: float, delta: float) -> np.ndarray:
    """i[...], mean loss <= epsilon with probability 1 - delta: Hoeffding-Bentkus.

    It cannot use the small variance of a signed loss (`error_gap`); `control` gives it
    the positive part, whose mean is the larger.
    """
    return fixed_sequence(hoeffding_bentkus(losses, epsilon), delta)


def upper_confidence(losses: np.ndarray, epsilon: float, delta: float) -> np.ndarray:
    """i[...], mean loss <= epsilon with probability 1 - delta: by betting.

    The last candidate before the first whose upper bound is over epsilon (Bates et al.
    2021; for exits Jazbec et al. 2024), which is the fixed sequence of betting tests.
    """
    return fixed_sequence(betting(losses, epsilon, delta), delta)


def conformal(losses: np.ndarray, epsilon: float, delta: float) -> np.ndarray:
    """i[...], mean loss <= epsilon *on average over calibration sets*; delta is unread.

    Conformal risk control (Angelopoulos et al. 2022, equation 4): the last candidate
    with (N mean + 1) / (N + 1) <= epsilon; -1: none. A loss that falls on the way is
    first replaced by its largest value so far, which keeps the guarantee.
    """
    n = losses.shape[-1]
    # Monotone on the path, which the theorem requires.
    worst = np.maximum.accumulate(losses, axis=-2).sum(-1)
    return ((worst + 1) / (n + 1) <= epsilon).sum(-1) - 1


METHODS = {
    "upper_confidence": upper_confidence,
    "learn_then_test": learn_then_test,
    "conformal": conformal,
}
# Blind to a signed loss: they test its positive part, whose mean bounds its own.
UNSIGNED = frozenset({"learn_then_test"})


def control(
    trace: Trace,
    scoring: Scoring = MAX_PROBABILITY,
    *,
    epsilon: float,
    delta: float = 0.1,
    loss: str = "error_gap",
    method: str = "upper_confidence",
    path: np.ndarray | None = None,
    points: int = 40,
    seed: int = 0,
) -> Solved:
    """The most eager thresholds surely at most epsilon worse than the last exit.

    "Surely": with probability 1 - delta over traces drawn as this one (conformal: on
    average), where `scoring` was fitted on other examples, if at all. path:
    f[C, E - 1], safest first, chosen without this trace; None: the geometric search,
    designed on a random half that the tests then leave out. Where nothing can be
    certified nobody leaves early: the whole network is not worse than itself.
    """
    if not 0 < delta < 1 or points < 2:
        raise UsageError(f"delta is in 0..1 and points 2 or more: {delta}, {points}")
    for kind, name, known in (("loss", loss, LOSSES), ("method", method, METHODS)):
        if name not in known:
            raise unknown(kind, name, known)
    function, low, high = LOSSES[loss]
    if not 0 < epsilon < high:
        raise UsageError(f"epsilon of {loss!r} is in 0..{high:g}, not {epsilon}")
    order = np.random.default_rng(seed).permutation(len(for_fitting(trace).labels))
    half = len(order) // 2 if path is None else 0
    # In random order: betting reads it, and files are often sorted.
    tested = subset(trace, order[half:])
    if path is None:
        if not half:
            raise UsageError("one example cannot be halved: give a path or record more")
        design = scoring.of(subset(trace, order[:half]))
        path = geometric(design, trace.cost, points)
    score = scoring.of(tested)
    table, own = function(tested), np.arange(len(tested.labels))
    path = np.asarray(path, np.float32)
    losses = np.stack([table[decide(score, row), own] for row in path])
    if method in UNSIGNED:
        # The range shrinks with it: less of epsilon is lost to scaling.
        losses, low = np.maximum(losses, 0.0), max(low, 0.0)
    # The tests are of losses in 0..1, and of a bound scaled alike.
    unit, bound = (losses - low) / (high - low), (epsilon - low) / (high - low)
    chosen = int(METHODS[method](unit, bound, delta))
    nobody = np.full(len(score) - 1, never(scoring, trace))
    return solved(trace, scoring, path[chosen] if chosen >= 0 else nobody)
