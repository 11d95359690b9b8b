"""From scores or verdicts of all exits to the exit taken: i32[N], NumPy or JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sc_jax.errors import UsageError

Numbers = np.ndarray | Sequence


def first_leaving(verdicts: Any, xp: Any = np) -> Any:
    """i32[N], the first exit whose verdict is True; the last answers who is left.

    verdicts: bool[E - 1, N], of every exit but the last.
    """
    last = xp.ones((1, verdicts.shape[1]), bool)
    # argmax of bools is the first True; the last row makes sure there is one.
    return xp.concatenate([verdicts, last]).argmax(0).astype("int32")


def not_below(thresholds: Numbers | float) -> np.ndarray:
    """The least float32 at or over each number.

    A float32 score reaches both or neither, so that an executor, which compares in
    float32, leaves exactly where a solver, which has more digits, said.
    """
    exact = np.asarray(thresholds, np.float64)
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
        # Rounding down would let a score leave that lies below the exact threshold.
        return np.where(near < exact, np.nextafter(near, np.float32(np.inf)), near)


def decide(score: np.ndarray, thresholds: Numbers) -> np.ndarray:
    """i32[N], the first exit with score >= its threshold; the last always answers.

    score: f[E, N]. thresholds: [E - 1]; infinite ones mean never, or always.
    """
    score, thresholds = np.asarray(score), np.asarray(thresholds, np.float64)
    exits = len(score)
    if thresholds.shape != (exits - 1,):
        count = len(thresholds) if thresholds.ndim else "one number"
        raise UsageError(wrong_count("thresholds", count, exits - 1))
    if np.isnan(thresholds).any() or np.isnan(score).any():
        raise UsageError("a threshold or a score is NaN")
    return first_leaving(score[:-1] >= thresholds[:, None])


def wrong_count(name: str, count: int | str, needed: int) -> str:
    """The line for a number of thresholds that is not the net's."""
    each = "one for each exit but the last" if name == "thresholds" else "one an exit"
    return f"{name}: {count} instead of {needed}, {each}"


def counts(shares: Numbers, examples: int) -> np.ndarray:
    """i64[E], how many of `examples` leave at each exit for shares f[E] (sum 1).

    Running sums are rounded up: every count within 1 of its share, never later than
    planned, so a cost planned by shares is not exceeded.
    """
    shares = np.asarray(shares, np.float64)
    if shares.ndim != 1 or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise UsageError(f"shares are 0 or more and sum to 1, not {shares.tolist()}")
    # The margin: 0.1 + 0.2 of ten examples are three, not four.
    gone = np.minimum(np.ceil(examples * np.cumsum(shares) - 1e-9), examples)
    # Whatever the rounding of the sum, nobody is left without an answer.
    gone[-1] = examples
    return np.diff(gone, prepend=0).astype(np.int64)


def surest(score: Any, count: int, xp: Any = np) -> tuple[Any, Any]:
    """(indices of the `count` highest scores, ties the first; the others in order)."""
    # Stable, or NumPy and XLA would choose among ties each in its own manner.
    order = xp.argsort(-score, stable=True)
    return order[:count], xp.sort(order[count:])


def top_fraction(score: Any, shares: Numbers, xp: Any = np) -> Any:
    """i32[N], the surest share of the batch leaves at each exit; ties: the first.

    The percent mode of BranchyNet (2016): an exact cost for every batch, and static
    shapes. score: f[E - 1 or E, N], the last exit's is not read; shares: [E], of all N.
    """
    examples = len(score[0])
    left, places = xp.arange(examples), []
    leaving = counts(shares, examples)
    for row, count in zip(score, leaving[:-1]):
        gone, stay = surest(row[left], count, xp)
        places.append(left[gone])
        left = left[stay]
    taken = xp.asarray(np.repeat(np.arange(len(leaving), dtype=np.int32), leaving))
    # Sorted back: places hold who left, exit after exit.
    return taken[xp.argsort(xp.concatenate([*places, left]))]
