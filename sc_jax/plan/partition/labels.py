"""Label setting along a chain of two sides: what paths cost, of those that may win.

A label is f[D], what a path has cost so far in D figures; it is dropped where a bound
shows that it ends too high, or where two others are nowhere larger.
"""

from __future__ import annotations

import numpy as np

from sc_jax.plan.partition.multipliers import Chain

FEW = 12  # labels that are not worth comparing
BLOCK = 128  # labels that are compared at once
Kept = tuple[np.ndarray, int, int]  # candidates kept, how many stayed, U crossings


def labels(
    chain: Chain, weights: np.ndarray, room: np.ndarray
) -> tuple[list[tuple[Kept, Kept]], np.ndarray]:
    """(what was kept after i stages on the device and the edge, f[L, D] at the end).

    weights: f[M, D], of sums of the D figures; room: f[S + 1, 2, M], the most that each
    may be after i stages on a side. A label stays while fewer than two others are
    nowhere larger, so that the best two paths within any limits are among the last.
    """
    figures = chain.stage.shape[-1]
    here, there = np.zeros((1, figures)), np.full((0, figures), np.inf)
    history = []
    with np.errstate(invalid="ignore"):
        for i, (down, up) in enumerate(chain.into[:, :, 1:]):
            if i:
                here = here + chain.stage[i - 1, 0]
                there = there + chain.stage[i - 1, 1]
            before = here
            here, kept = _pruned(here, there, down[:1], weights, room[i, 0])
            there, others = _pruned(there, before, up, weights, room[i, 1])
            history.append((kept, others))
    return history, here


def _pruned(stayed, came, steps, weights, most) -> tuple[np.ndarray, Kept]:
    """(labels f[L, D] that may still be among the best two, where they came from).

    steps: f[U, D], of each crossing that `came` may take.
    """
    crossed = (came[:, None] + steps).reshape(-1, stayed.shape[1])
    both = np.concatenate([stayed, crossed])
    keep = (both @ weights.T <= most).all(1).nonzero()[0]
    both = both[keep]
    # Few are cheaper to keep than to compare.
    if len(keep) > FEW:
        order = np.lexsort(both.T[::-1])
        order = order[_undominated(both[order])]
        both, keep = both[order], keep[order]
    return both, (keep, len(stayed), len(steps))


def _undominated(rows: np.ndarray) -> np.ndarray:
    """bool[L], of rows in lexical order: fewer than two others are nowhere larger."""
    count = len(rows)
    if rows.shape[1] == 1:
        return np.arange(count) < 2
    if rows.shape[1] == 2:
        values = rows[:, 1]
        least = np.minimum.accumulate(values)
        # The second smallest so far: what falls out when a smaller one comes.
        before = np.concatenate([[np.inf], least[:-1]])
        second = np.minimum.accumulate(np.maximum(values, before))
        return values < np.concatenate([[np.inf], second[:-1]])
    mask = np.zeros(count, bool)
    for start in range(0, count, BLOCK):
        # Who is dominated twice is so by two that stay, and come earlier.
        block = rows[start : start + BLOCK]
        earlier = rows[:start][mask[:start]]
        over = (earlier[:, None] <= block).all(2).sum(0)
        among = (block[:, None] <= block).all(2)
        over += np.triu(among, 1).sum(0)
        mask[start : start + BLOCK] = over < 2
    return mask
