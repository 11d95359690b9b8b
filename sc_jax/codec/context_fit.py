"""A linear context fitted to symbols: least squares, classes, then tables."""

from __future__ import annotations

import numpy as np

from sc_jax.codec import refit
from sc_jax.codec.context import PARTS, Context, as_grid
from sc_jax.codec.reference import REACH, neighbours
from sc_jax.codec.tables import Tables, from_pmf

RIDGE = 1e-3  # of the mean square: channels that are always 0 get weights of 0
FINE = 32  # classes of equal size that are merged to those wanted
PRIOR = 20.0  # symbols' worth of the channel's own table in each of its classes
# Sums stay in int32 with room for weights that were rounded up.
LARGEST_SUM = (2**31 - 1) / REACH - 2**16
INT16_MAX, NEVER = 2**15 - 1, 2**31 - 1


def fit(symbols: np.ndarray, tables: Tables, classes: int) -> Context:
    """The context of `classes` tables a channel for int[N, ..., C] symbols.

    tables: those that the symbols were made for, of C rows.
    """
    grids = symbols.reshape(-1, *as_grid(symbols.shape[1:]))
    near = np.clip(grids, -REACH, REACH).astype(np.float32)
    weights = _integers(_coefficients(near))
    own = refit.refit(tables, [symbols])
    edges, rows, lows = [], [], []
    sums = _sums(near, weights)
    for channel in range(near.shape[-1]):
        low, p, escape = own.pmf(channel)
        counts, bounds = _fine(sums[..., channel], grids[..., channel], low, len(p))
        # So that what a class has not seen stays possible, and no count is 0.
        prior = PRIOR * np.append(p, escape)
        kept = _merged(counts + prior, classes)
        few = classes - len(kept)  # where sums take few values: classes never reached
        edges.append(np.pad(bounds[kept[1:] - 1], (0, few), constant_values=NEVER))
        rows += [*(np.add.reduceat(counts, kept) + prior), *[prior] * few]
        lows += [low] * classes
    coded = from_pmf(
        [row[:-1] for row in rows], np.array(lows), np.array([r[-1] for r in rows])
    )
    return Context(weights, np.array(edges, np.int32), coded)


def _features(near: np.ndarray) -> np.ndarray:
    """[N, H, W, C] -> [N H W, 5 C]: each neighbour's channels, then the place's."""
    parts = [*neighbours(near), near]
    return np.concatenate(parts, -1).reshape(-1, PARTS * near.shape[-1])


def _coefficients(near: np.ndarray) -> np.ndarray:
    """float64[5 C, C]: least squares of each channel on all that stands before it."""
    count, channels = len(near), near.shape[-1]
    gram = np.zeros((PARTS * channels,) * 2)
    for first in range(0, count, 50):  # of a data set at once it would be gigabytes
        part = _features(near[first : first + 50])
        gram += part.T @ part
    gram += np.eye(len(gram)) * (RIDGE * np.trace(gram) / len(gram) + 1e-6)
    # A row of the factor's inverse whitens a channel by those before it: scaled to 1
    # of its own, its negative is their least squares. One factor serves all channels.
    inverse = np.linalg.inv(np.linalg.cholesky(gram))
    own = inverse[-channels:]
    diagonal = own[np.arange(channels), np.arange(-channels, 0)]
    found = -own / diagonal[:, None]
    found[:, -channels:] = np.tril(found[:, -channels:], -1)
    return found.T


def _integers(coefficients: np.ndarray) -> np.ndarray:
    """int16 weights, each channel scaled to what int16 and an int32 sum can hold."""
    size = np.abs(coefficients)
    most = np.maximum(size.max(0) / INT16_MAX, size.sum(0) / LARGEST_SUM)
    return np.rint(coefficients / np.maximum(most, 1e-12)).astype(np.int16)


def _sums(near: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """int32[N, H, W, C], exact: float64 holds every sum."""
    wide = weights.astype(np.float64)
    parts = (_features(each[None]).astype(np.float64) @ wide for each in near)
    return np.stack([p.astype(np.int32).reshape(near.shape[1:]) for p in parts])


def _fine(sums: np.ndarray, symbols: np.ndarray, low: int, slots: int):
    """(counts float64[F, slots + 1], bounds int32[F - 1]) of F <= FINE classes."""
    bounds = np.unique(np.quantile(sums, np.arange(1, FINE) / FINE).astype(np.int32))
    groups = np.searchsorted(bounds, sums.ravel(), "right")
    places = symbols.ravel().astype(np.int64) - low
    places[(places < 0) | (places >= slots)] = slots  # the last: escapes
    flat = groups * (slots + 1) + places
    counts = np.bincount(flat, minlength=(len(bounds) + 1) * (slots + 1))
    return counts.reshape(-1, slots + 1).astype(np.float64), bounds


def _merged(counts: np.ndarray, classes: int) -> np.ndarray:
    """First rows int[<= classes] of runs of `counts` that cost least bits to merge."""
    first = list(range(len(counts)))
    size = list(_bits(counts))
    costs = list(_bits(counts[:-1] + counts[1:]) - size[:-1] - size[1:])
    runs = list(counts)
    while len(runs) > classes:
        i = int(np.argmin(costs))
        size[i : i + 2] = [size[i] + size[i + 1] + costs[i]]
        runs[i : i + 2] = [runs[i] + runs[i + 1]]
        del first[i + 1], costs[i]
        # Only the pairs that the new run is in have changed.
        for j in range(max(i - 1, 0), min(i + 1, len(costs))):
            costs[j] = _bits(runs[j] + runs[j + 1]) - size[j] - size[j + 1]
    return np.array(first)


def _bits(counts: np.ndarray) -> np.ndarray:
    """Code length of what was counted [..., slots] under its own frequencies [...]."""
    total = counts.sum(-1, keepdims=True)
    return (counts * (np.log2(total) - np.log2(counts))).sum(-1)
