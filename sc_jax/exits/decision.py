"""Rules that turn scores [E, N] into the exit taken, i32[N]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sc_jax.errors import UsageError

Numbers = np.ndarray | Sequence


def decide(
    score: np.ndarray, thresholds: Numbers, predicted: np.ndarray | None = None
) -> np.ndarray:
    """i32[N], the first exit with score >= its threshold; the last always answers.

    score: [E, N]. thresholds: [E - 1], or [E - 1, K] by the class that the exit
    predicts, i[E, N] (Lo et al. 2017). Infinite thresholds mean never, or always.
    """
    score, marks = np.asarray(score), np.asarray(thresholds, np.float64)
    exits = len(score)
    if marks.ndim not in (1, 2) or len(marks) != exits - 1:
        given = len(marks) if marks.ndim else "one number"
        raise UsageError(
            f"thresholds: {given} given, {exits - 1} needed, one for each of "
            f"{exits} exits but the last"
        )
    if np.isnan(marks).any() or np.isnan(score).any():
        raise UsageError("a threshold or a score is NaN")
    if marks.ndim == 2 and predicted is None:
        raise UsageError("thresholds by class need the predicted classes too")
    if marks.ndim == 2 and predicted is not None:
        if predicted.max() >= marks.shape[1]:
            given, needed = marks.shape[1], predicted.max() + 1
            raise UsageError(f"thresholds of {given} classes, {needed} are predicted")
        marks = np.take_along_axis(marks, predicted[:-1], 1)
    else:
        marks = marks[:, None]
    sure = np.ones(score.shape, bool)
    sure[:-1] = score[:-1] >= marks
    return sure.argmax(0).astype(np.int32)


def counts(shares: Numbers, examples: int) -> np.ndarray:
    """i64[E], how many of `examples` leave at each exit for shares f[E] (sum 1).

    Running sums are rounded up: every count within 1 of its share, never later than
    asked, so a cost planned by shares is not exceeded.
    """
    shares = np.asarray(shares, np.float64)
    if shares.ndim != 1 or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise UsageError(f"shares are 0 or more and sum to 1, not {shares.tolist()}")
    gone = np.minimum(np.ceil(examples * np.cumsum(shares) - 1e-9), examples)
    gone[-1] = examples
    return np.diff(gone, prepend=0).astype(np.int64)


def top_fraction(score: np.ndarray, shares: Numbers) -> np.ndarray:
    """i32[N], the surest share of the batch leaves at each exit; ties: the first.

    The percent mode of BranchyNet (2016): an exact cost for every batch, and static
    shapes. score: [E, N]; shares: [E], of all N.
    """
    exits, examples = score.shape
    if len(np.atleast_1d(shares)) != exits:
        given = len(np.atleast_1d(shares))
        raise UsageError(f"shares: {given} given, {exits} needed, one for each exit")
    taken = np.full(examples, exits - 1, np.int32)
    left = np.arange(examples)
    for e, count in enumerate(counts(shares, examples)[:-1]):
        order = np.argsort(-score[e, left], kind="stable")
        taken[left[order[:count]]] = e
        left = np.sort(left[order[count:]])
    return taken


def anytime(cost: Numbers, deadline: Numbers) -> np.ndarray:
    """The deepest exit whose cost is within the deadline, of each deadline.

    Anytime prediction (Huang et al. 2018). cost: f64[E], deadline in its unit.
    """
    cost, deadline = np.asarray(cost, np.float64), np.asarray(deadline, np.float64)
    taken = np.searchsorted(cost, deadline, side="right") - 1
    if np.isnan(deadline).any() or (taken < 0).any():
        raise UsageError(
            f"no exit answers by {deadline.min():.6g}: the first takes {cost[0]:.6g}, "
            f"the last {cost[-1]:.6g}"
        )
    return taken.astype(np.int32)
