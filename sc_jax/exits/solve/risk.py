"""Thresholds with a guarantee: at most epsilon worse than the whole network.

A loss table is [..., C, N]: C candidates in a fixed order, safest first, N independent
examples, losses in 0..1. Candidates must not be chosen on the examples they are tested
on: `control` designs them on one half of the trace and tests on the other.
"""

from __future__ import annotations

import math

import numpy as np

from sc_jax.errors import UsageError, unknown
from sc_jax.exits.decision import decide
from sc_jax.exits.scores import MAX_PROBABILITY, Scoring
from sc_jax.exits.solve.risk_losses import LOSSES
from sc_jax.exits.solve.threshold_search import geometric
from sc_jax.exits.solve.thresholds import Solved, never, solved
from sc_jax.traces.trace import Trace, for_fitting, subset


def hoeffding_bentkus(losses: np.ndarray, epsilon: float) -> np.ndarray:
    """P-values [...] of "the mean loss is above epsilon", of losses [..., N] in 0..1.

    Angelopoulos et al. (2021), Proposition 1 (Bates et al. 2021): the smaller of
    exp(-N kl(mean, epsilon)) and e P(Bin(N, epsilon) <= ceil(N mean)).
    """
    n = losses.shape[-1]
    total = losses.sum(-1)
    # Above epsilon the p-value is 1: there kl would fall again.
    mean = np.minimum(total / n, epsilon)
    with np.errstate(divide="ignore", invalid="ignore"):
        # 0 log 0 = 0.
        low = np.where(mean > 0, mean * np.log(mean / epsilon), 0.0)
        high = (1 - mean) * np.log((1 - mean) / (1 - epsilon))
    k = np.arange(1, n + 1)
    # log of n over k, by its recurrence: factorials overflow at 171.
    choose = np.concatenate([[0.0], np.cumsum(np.log((n - k + 1) / k))])
    hits = np.arange(n + 1)
    pmf = choose + hits * math.log(epsilon) + (n - hits) * math.log1p(-epsilon)
    # The cumulative binomial in logs, for tails far below float64's smallest number.
    below = np.logaddexp.accumulate(pmf)[np.ceil(total).astype(int)]
    return np.minimum(1.0, np.exp(np.minimum(-n * (low + high), 1 + below)))


def betting(losses: np.ndarray, epsilon: float, delta: float) -> np.ndarray:
    """P-values as of `hoeffding_bentkus`, by betting: sharp where losses vary little.

    Waudby-Smith and Ramdas (2023), section 4: capital prod(1 - b_t (loss_t - epsilon))
    from bets b_t on the losses before t; 1 / its maximum is a p-value (Ville). The bets
    aim at level delta; any delta is valid.
    """
    n = losses.shape[-1]
    # One observation more than there is: 1/2, of variance 1/4, keeps the first bet
    # small.
    t = np.arange(2, n + 2)
    mean = (0.5 + np.cumsum(losses, -1)) / t
    variance = (0.25 + np.cumsum((losses - mean) ** 2, -1)) / t
    # Shifted by one: a bet that saw its own outcome would prove anything.
    before = np.concatenate(
        [np.full_like(variance[..., :1], 0.25), variance[..., :-1]], -1
    )
    bets = np.sqrt(2 * math.log(1 / delta) / (n * before))
    # Under 1 / (1 - epsilon) the capital stays positive whatever comes.
    bets = np.minimum(bets, 0.75 / (1 - epsilon))
    capital = np.cumsum(np.log1p(-bets * (losses - epsilon)), -1)
    return np.exp(-np.maximum(capital.max(-1), 0.0))


def fixed_sequence(p_values: np.ndarray, delta: float) -> np.ndarray:
    """i[...], the last candidate before the first p-value over delta; -1: none.

    p_values: [..., C], safest first. All candidates up to it are safe together with
    probability 1 - delta, monotone or not (Angelopoulos et al. 2021, section 3).
    """
    # Stops at the first failure, so that no correction for many tests is due.
    return np.cumprod(p_values <= delta, axis=-1).sum(-1) - 1


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
