"""Entropy tables of the symbols that a quantised head really gives."""

from collections.abc import Iterable

import numpy as np

from sc_jax.codec.tables import Tables, from_pmf

KEEP = 0.01  # share of the old table in a refitted one: no symbol becomes an escape
REACH = 1024  # symbols beyond a row's own that may join it; farther ones escape


def refit(tables: Tables, symbols: Iterable[np.ndarray]) -> Tables:
    """Tables of what a head really gives, in batches of int32[N, ..., R]: a row each.

    Each row's counts are mixed with a hundredth of its old table, so that what was
    possible stays cheap enough.
    """
    old = [tables.pmf(row) for row in range(tables.rows)]
    counts = [np.zeros(len(p) + 2 * REACH + 1) for _, p, _ in old]
    for batch in symbols:
        for channel, (low, _, _) in enumerate(old):
            width = len(counts[channel]) - 1
            # From the first symbol that may join the row.
            places = batch[..., channel].ravel().astype(np.int64) - (low - REACH)
            places[(places < 0) | (places >= width)] = width  # the last: escapes
            counts[channel] += np.bincount(places, minlength=width + 1)
    rows, tails = [], []
    for (_, p, escape), seen in zip(old, counts):
        share = (1 - KEEP) * seen / seen.sum()
        row = share[:-1]
        row[REACH : REACH + len(p)] += KEEP * p
        rows.append(row)
        tails.append(KEEP * escape + share[-1])
    offsets = np.array([low - REACH for low, _, _ in old])
    return from_pmf(rows, offsets, np.array(tails))
