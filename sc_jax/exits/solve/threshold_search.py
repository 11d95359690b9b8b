"""Candidate thresholds from recorded scores f32[E, N], all finite.

A search gives a path of thresholds f32[C, E - 1], safest first: in row 0 nobody who was
recorded leaves early.
"""

from __future__ import annotations

import itertools

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.decision import Numbers, counts

MOST = 20_000  # rows of a product grid


def shares_to_thresholds(score: np.ndarray, shares: Numbers) -> np.ndarray:
    """f32[E - 1] by which the surest `shares` f[E] leave at each exit.

    Of those still there, as MSDNet does (Huang et al. 2018). Without ties every share
    is met within 1/N; with them more leave early, never fewer in all, and the next exit
    lets so many fewer go. Whoever comes to an exit that nobody reached leaves there.
    """
    if np.shape(shares) != score.shape[:1]:
        raise UsageError(f"{np.size(shares)} shares for {len(score)} exits")
    thresholds = np.empty(len(score) - 1, np.float32)
    # Running sums: ties that leave early are taken off the next exit's share.
    due = np.cumsum(counts(shares, score.shape[1]))
    left = np.arange(score.shape[1])
    for e in range(len(thresholds)):
        count = due[e] - (score.shape[1] - len(left))
        if not len(left):
            thresholds[e] = score[e].min()
        elif count <= 0:
            thresholds[e] = above(score[e, left])
        else:
            # The lowest score among those that shall leave.
            thresholds[e] = np.sort(score[e, left])[-count]
        # As `decide` does it, ties included: the plan is what will happen.
        left = left[score[e, left] < thresholds[e]]
    return thresholds


def geometric_shares(
    cost: np.ndarray, budget: float, base: np.ndarray | None = None
) -> np.ndarray:
    """f64[E], p_e proportional to z^e with mean cost `budget` (Huang et al. 2018).

    z is solved for; a budget of the whole network's cost or more sends all to the end.
    base: f64[E], above 0, shares that z^e tilts instead of even ones.
    """
    cost = np.asarray(cost, np.float64)
    tilted = np.zeros(len(cost)) if base is None else np.log(base)
    within(budget, cost)
    steps = np.arange(len(cost))
    if budget >= cost[-1]:
        return (steps == steps[-1]).astype(np.float64)

    def shares(log_z: float) -> np.ndarray:
        # In logs: z^e of ten exits overflows long before z is extreme.
        powers = steps * log_z + tilted
        weights = np.exp(powers - powers.max())
        return weights / weights.sum()

    # e^700 is about float64's largest number.
    low, high = -700.0, 700.0
    for _ in range(64):
        middle = (low + high) / 2
        met = shares(middle) @ cost <= budget
        low, high = (middle, high) if met else (low, middle)
    # The end of the bracket that is within the budget.
    return shares(low)


def within(budget: float, cost: np.ndarray) -> None:
    """UsageError where no exit meets the budget, with the range that can be met."""
    if not budget >= cost[0] * (1 - 1e-9):  # a share of a cost may round below it
        raise UsageError(
            f"no exit meets a budget of {budget:.6g}: the first costs {cost[0]:.6g}, "
            f"the last {cost[-1]:.6g}"
        )


def geometric(score: np.ndarray, cost: np.ndarray, points: int) -> np.ndarray:
    """Geometric shares for `points` even budgets, from the last cost to the first."""
    budgets = np.linspace(cost[-1], cost[0], points)
    paths = [shares_to_thresholds(score, geometric_shares(cost, b)) for b in budgets]
    return np.stack(paths)


def shared(score: np.ndarray, cost: np.ndarray, points: int) -> np.ndarray:
    """One threshold for all exits, at `points` quantiles of the early scores."""
    early = score[:-1]
    if not early.size:
        return np.zeros((1, 0), np.float32)
    thresholds = np.quantile(early, np.linspace(1, 0, points), method="lower")
    # The top quantile is a score that someone has, who would then leave.
    thresholds[0] = above(early)
    return np.repeat(thresholds[:, None], len(early), 1).astype(np.float32)


def product(score: np.ndarray, cost: np.ndarray, points: int) -> np.ndarray:
    """Every combination of `points` quantiles at each exit: a grid, not a path."""
    if points ** (len(score) - 1) > MOST:
        most = int(MOST ** (1 / (len(score) - 1)))
        raise UsageError(
            f"{points} thresholds at each of {len(score) - 1} exits are over {MOST} "
            f"combinations: at most {most}, or search 'geometric' or 'shared'"
        )
    thresholds = [
        # Each exit alone beside the last, so each column has its own quantiles.
        shared(score[[e, -1]], cost, points)[:, 0]
        for e in range(len(score) - 1)
    ]
    return np.array(list(itertools.product(*thresholds)), np.float32)


SEARCHES = {"geometric": geometric, "shared": shared, "product": product}


def above(scores: np.ndarray) -> np.float32:
    """The next float32 above all scores: of these, nobody leaves."""
    return np.nextafter(np.float32(np.max(scores)), np.float32(np.inf))
