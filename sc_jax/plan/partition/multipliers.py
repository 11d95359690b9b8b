"""Bounds on the shortest path within limits, by Lagrange multipliers.

A path over a chain of S stages on two sides, 0 and 1, from side 0 to side 0; each step
adds D figures, of which the first is least in the end and each other at most its limit.
With weights 1 and multipliers >= 0 a limit becomes part of the length, and the shortest
path by that length, less the weighted limits, is a lower bound: of the whole (Handler
and Zang 1980, https://doi.org/10.1002/net.3230100403), and from any place on, where it
discards what cannot end below a path that is known (Carlyle, Royset and Wood 2008,
https://doi.org/10.1002/net.20247). All multipliers of a round are one vectorised pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc_jax.plan.partition.options import TINY

SIDES = np.arange(2)
GRID = 24  # multipliers of a round


@dataclass(frozen=True, eq=False)
class Chain:
    """What steps add; inf: it cannot be taken.

    stage: f[S, 2, D], on each side. into: f[S + 1, 2, U, D], after i stages into each
    side, the first by staying there, which adds 0, all others from the other side.
    """

    stage: np.ndarray
    into: np.ndarray

    @property
    def out(self) -> np.ndarray:
        """f[S + 1, 2, U, D]: the same from each side."""
        return self.into[:, ::-1]


def weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """f[..., M] of f[..., D] by M rows of weights; inf where a figure is."""
    finite = np.isfinite(values).all(-1, keepdims=True)
    return np.where(finite, np.where(finite, values, 0.0) @ weights.T, np.inf)


def remaining(chain: Chain, weights: np.ndarray) -> np.ndarray:
    """f[S + 1, 2, M]: the least still to come after i stages on a side, by each row."""
    stage, out = weighted(chain.stage, weights), weighted(chain.out, weights)
    source = _source(out.shape[2])
    rest = np.empty((len(out), 2, len(weights)))
    rest[-1] = np.array([[0.0], [np.inf]])
    for i in range(len(stage) - 1, -1, -1):
        rest[i] = stage[i] + (out[i + 1] + rest[i + 1][source]).min(1)
    return rest


def _source(count: int) -> np.ndarray:
    """i[2, U], of a side the one behind each crossing: itself first, then the other."""
    return np.where(np.arange(count) > 0, 1 - SIDES[:, None], SIDES[:, None])


def multipliers(chain: Chain, limits: np.ndarray) -> np.ndarray:
    """f[M, D] rows of weights, 1 and multipliers, from low bounds to the highest found.

    limits: f[D - 1]. By coordinates, each round's grid within the last one's step.
    """
    count = len(limits)
    free = least_sums(chain, np.eye(1, count + 1))[0, 0, 0]
    if not np.isfinite(free).all():
        return np.eye(1, count + 1)
    # A limit is worth what it is of the length, give or take some powers of ten.
    size = np.maximum(np.abs(limits), np.abs(free[1:]))
    unit = max(abs(free[0]), np.finfo(float).tiny) / np.where(size > 0, size, 1.0)
    best, rows, bounds = np.zeros(count), [np.zeros(count)], [free[0]]
    low, high = np.full(count, -4.0), np.full(count, 4.0)
    for _ in range(3 if count == 1 else 5):
        powers = np.linspace(low, high, GRID // count + 2)
        tried = np.repeat(best[None], powers.size, 0).reshape(*powers.shape, count)
        k = np.arange(count)
        tried[:, k, k] = unit * 10**powers
        tried = np.concatenate([best[None], tried.reshape(-1, count)])
        bound = remaining(chain, _with_one(tried))[0, 0] - tried @ limits
        first = int(bound.argmax())
        best = tried[first]
        near = np.argsort(-bound)[:2]
        rows, bounds = [*rows, *tried[near]], [*bounds, *bound[near]]
        step = (high - low) / (len(powers) - 1)
        known = best > 0
        at = np.log10(np.where(known, best / unit, 1.0))
        low = np.where(known, at - step, low)
        high = np.where(known, at + step, high)
    once = np.unique(np.array(rows), axis=0, return_index=True)[1]
    order = once[np.argsort(np.array(bounds)[once])]
    return _with_one(np.array(rows)[order])


def _with_one(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(values), 1)), values], 1)


def least_sums(chain: Chain, weights: np.ndarray, *, ahead: bool = True) -> np.ndarray:
    """f[S + 1, 2, M, D]: the figures of the shortest paths by each row of weights.

    From after i stages on a side to the end, or, not ahead, from the start to there.
    """
    cross, stage = (chain.out if ahead else chain.into), chain.stage
    by, by_stage = weighted(cross, weights), weighted(stage, weights)
    count, rows = len(weights), np.arange(len(weights))
    source = _source(cross.shape[2])
    sums = np.empty((len(cross), 2, count, cross.shape[-1]))
    value = np.repeat([[0.0], [np.inf]], count, 1)
    total = np.repeat(value[:, :, None], cross.shape[-1], 2)
    side = SIDES[:, None]

    def crossed(i, value, total):
        tried = by[i] + value[source]
        taken = tried.argmin(1)
        found = cross[i][side, taken] + total[np.where(taken > 0, 1 - side, side), rows]
        return np.take_along_axis(tried, taken[:, None], 1)[:, 0], found

    if ahead:
        sums[-1] = total
        for i in range(len(stage) - 1, -1, -1):
            value, total = crossed(i + 1, value, total)
            value, total = by_stage[i] + value, stage[i][:, None] + total
            sums[i] = total
        return sums
    for i in range(len(cross)):
        if i:
            value = by_stage[i - 1] + value
            total = stage[i - 1][:, None] + total
        value, total = crossed(i, value, total)
        sums[i] = total
    return sums


def second_best(chain: Chain, weights: np.ndarray, limits: np.ndarray) -> float:
    """The second least first figure of some paths within the limits; inf: not two.

    At every place the shortest paths to it are joined with those from it on, by all
    rows of weights: paths on both sides of the limits meet in many within them.
    """
    before, after = (least_sums(chain, weights, ahead=a) for a in (False, True))
    totals = (before[:, :, :, None] + after[:, :, None]).reshape(-1, before.shape[-1])
    # Strictly: a sum in another order must keep them too.
    inside = (totals[:, 1:] <= limits - TINY * np.abs(limits)).all(1)
    found = np.unique(totals[inside, 0])
    if not len(found):
        return np.inf
    # What differs by rounding may be one path.
    other = found[found > found[0] + TINY * np.abs(found[0])]
    return float(other[0]) if len(other) else np.inf
