"""Bounds on the shortest path within limits, by Lagrange multipliers.

A path over a chain of S stages on two sides, 0 and 1, from side 0 to side 0; each step
adds D figures, of which the first is least in the end and each other at most its limit.
With weights 1 and multipliers >= 0 a limit becomes part of the length, and the shortest
path by that length, less the weighted limits, is a lower bound: of the whole (Handler
and Zang 1980, https://doi.org/10.1002/net.3230100403), and of all paths over one step,
which is left out where none of them can end below a path that is known (Carlyle, Royset
and Wood 2008, https://doi.org/10.1002/net.20247). All multipliers of a round are one
vectorised pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc_jax.plan.partition.options import TINY

SIDES = np.arange(2)
POINTS = 64, 12, 6, 4  # of each multiplier to begin with, by how many they are
ROUNDS = 4, 6, 9, 12
SAMPLES = 96  # of a round
ELITE = 8  # for each multiplier, of which the next round is drawn
NONE = -8.0  # a power of ten that is none


@dataclass(frozen=True, eq=False)
class Chain:
    """What steps add; inf: it cannot be taken.

    stage: f[S, 2, D], on each side. into: f[S + 1, 2, U, D], at the place after i
    stages into each side, the first by staying there, which adds 0, all others from
    the other side.
    """

    stage: np.ndarray
    into: np.ndarray

    @property
    def out(self) -> np.ndarray:
        """f[S + 1, 2, U, D]: the same from each side."""
        return self.into[:, ::-1]

    @property
    def source(self) -> np.ndarray:
        """i[2, U], the side that each crossing into a side comes from."""
        stays = np.arange(self.into.shape[2]) == 0
        return np.where(stays, SIDES[:, None], 1 - SIDES[:, None])

    @property
    def backwards(self) -> Chain:
        """From the end to the start."""
        return Chain(self.stage[::-1], self.out[::-1])


def weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """f[..., M] of f[..., D] by M rows of weights; inf where a figure is."""
    unknown = ~np.isfinite(values).all(-1)
    lengths = np.where(unknown[..., None], 0.0, values) @ weights.T
    lengths[unknown] = np.inf
    return lengths


def remaining(chain: Chain, weights: np.ndarray) -> np.ndarray:
    """f[S + 1, 2, M]: the least still to come behind each place, by each row."""
    stage, out = weighted(chain.stage, weights), weighted(chain.out, weights)
    stays, crosses = out[1:, :, 0], out[1:, :, 1:].min(2)
    # [S, 2 sides behind the crossing, 2 before the stage, M]
    steps = np.stack([stays, crosses], 1)
    steps[:, :, 1] = steps[:, ::-1, 1]
    steps += stage[:, None]
    rest = np.empty((len(out), 2, len(weights)))
    rest[-1] = behind = np.array([[0.0], [np.inf]])
    for step, here in zip(steps[::-1], rest[-2::-1]):
        over = step + behind[:, None]
        behind = np.minimum(over[0], over[1], out=here)
    return rest


def spent(chain: Chain, weights: np.ndarray) -> np.ndarray:
    """f[S + 1, 2, M]: the least up to each place, before its crossing, by each row."""
    return remaining(chain.backwards, weights)[::-1]


def bounds_of(chain: Chain, weights: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """f[M]: of the first figure a lower bound by each row of weights."""
    # The first crossing may come before the first stage.
    first = weighted(chain.out[0, 0], weights)
    rest = remaining(chain, weights)[0][chain.source[0]]
    return (first + rest).min(0) - weights[:, 1:] @ limits


def multipliers(chain: Chain, limits: np.ndarray) -> np.ndarray:
    """f[M, D] rows of weights, 1 and multipliers, from low bounds to the highest found.

    limits: f[D - 1]. The bound is concave in the multipliers: from a grid of powers of
    ten on, each round is drawn around the best of all before it, with their covariance
    (the cross-entropy method, Rubinstein 1999, https://doi.org/10.1023/A:1010091220143).
    """
    count = len(limits)
    free = shortest(chain, np.eye(1, count + 1))[0]
    if not count or not np.isfinite([*free, *limits]).all():
        return np.eye(1, count + 1)
    # A limit is worth what it is of the length, give or take some powers of ten.
    size = np.maximum(np.abs(limits), np.abs(free[1:]))
    unit = max(abs(free[0]), np.finfo(float).tiny) / np.where(size > 0, size, 1.0)
    rng = np.random.default_rng(0)
    rows, bounds = np.empty((0, count)), np.empty(0)
    ticks = np.array([NONE, *np.linspace(-4.0, 4.0, POINTS[count - 1])])
    powers = np.stack(np.meshgrid(*[ticks] * count), -1).reshape(-1, count)
    for _ in range(ROUNDS[count - 1]):
        tried = np.where(powers > NONE, unit * 10**powers, 0.0)
        rows = np.concatenate([rows, tried])
        bounds = np.append(bounds, bounds_of(chain, with_one(tried), limits))
        best = np.argsort(-bounds)[: ELITE * count]
        rows, bounds = rows[best], bounds[best]
        with np.errstate(divide="ignore"):
            near = np.maximum(np.log10(rows / unit), NONE)
        spread = (near - near.mean(0)) / np.sqrt(len(near))
        # Gaussian, of the covariance of the best.
        powers = near[0] + rng.standard_normal((SAMPLES, len(near))) @ spread
    return with_one(rows[::-1])


def with_one(values: np.ndarray) -> np.ndarray:
    """f[M, D] of multipliers f[M, D - 1]."""
    return np.concatenate([np.ones((len(values), 1)), values], 1)


def shortest(chain: Chain, weights: np.ndarray) -> np.ndarray:
    """f[M, D]: the figures of the whole shortest path by each row."""
    first = chain.out[0, 0][:, None] + sums(chain, weights)[0][chain.source[0]]
    known = np.isfinite(first)
    lengths = (np.where(known, first, 0.0) * weights).sum(-1)
    best = np.where(known.all(-1), lengths, np.inf).argmin(0)
    return first[best, np.arange(len(weights))]


def sums(
    chain: Chain, weights: np.ndarray, rest: np.ndarray | None = None
) -> np.ndarray:
    """f[S + 1, 2, M, D]: the figures behind each place of the shortest paths by row.

    rest: as `remaining`, where it is known.
    """
    rest = remaining(chain, weights) if rest is None else rest
    places, count = len(rest), len(weights)
    over = weighted(chain.out[1:], weights) + rest[1:][:, chain.source]
    taken = over.argmin(2)  # [S, 2, M]
    i, side, row = np.ogrid[: places - 1, :2, :count]
    total = np.zeros((places, 2, count, weights.shape[1]))
    total[:-1] = chain.stage[:, :, None] + chain.out[1:][i, side, taken]
    total[-1, 1] = np.inf
    # Of every place the next one, then the one behind that, and so by powers of two.
    ahead = np.empty((places, 2, count), int)
    ahead[:-1] = 2 * (i + 1) + np.where(taken > 0, 1 - side, side)
    ahead[-1] = 2 * (places - 1) + SIDES[:, None]
    flat, jump = total.reshape(-1, count, weights.shape[1]), ahead.reshape(-1, count)
    for _ in range(int(places).bit_length()):
        flat, jump = flat + flat[jump, row[0]], jump[jump, row[0]]
    return flat.reshape(total.shape)


def second_best(
    chain: Chain, before: np.ndarray, after: np.ndarray, limits: np.ndarray
) -> float:
    """The second least first figure of some paths within the limits; inf: not two.

    before, after: f[S + 1, 2, M, D], of paths up to each place and behind it: at every
    step each is joined with each. Of shortest paths by multipliers, which meet the
    limits on both sides, many are within them.
    """
    start = before[:, chain.source] + chain.into[:, :, :, None]
    found = [np.empty(0)]
    for row in range(after.shape[2]):
        totals = start + after[:, :, None, row, None]
        # Strictly: a sum in another order must keep them too.
        inside = totals[..., 0] < np.inf
        for d, limit in enumerate(limits, 1):
            inside &= totals[..., d] <= limit - TINY * np.abs(limit)
        found.append(totals[..., 0][inside])
    lengths = np.concatenate(found)
    if not len(lengths):
        return np.inf
    # What differs by rounding may be one path.
    least = lengths.min()
    other = lengths[lengths > least + TINY * np.abs(least)]
    return float(other.min()) if len(other) else np.inf


def longest(chain: Chain) -> float:
    """The greatest first figure of any path; -inf: there is none."""
    weights = -np.eye(1, chain.stage.shape[-1])
    return -float(bounds_of(chain, weights, np.zeros(weights.shape[1] - 1))[0])


def shortest_path(chain: Chain) -> np.ndarray:
    """i[S + 1], the crossings of the path of least first figure, 0 for none."""
    weights = np.eye(1, chain.stage.shape[-1])
    over = weighted(chain.out, weights)
    over = (over + remaining(chain, weights)[:, chain.source])[..., 0].argmin(2)
    taken, side = [], 0
    for place in over.tolist():
        taken.append(place[side])
        side = 1 - side if taken[-1] else side
    return np.array(taken)
