"""Entropy tables of the symbols that a quantised head really gives."""

import numpy as np

from sc_jax.codec import tables
from sc_jax.codec.codecs import FactorizedCodec

KEEP = 0.01  # share of the old table in a refitted one: no symbol becomes an escape


def refit(codec: FactorizedCodec, symbols: np.ndarray) -> FactorizedCodec:
    """The codec with tables of the symbols int32[N, ..., C] that a head really gives.

    Each channel's counts are mixed with a hundredth of its old table, so that what was
    possible stays cheap enough.
    """
    rows, offsets, tails = [], [], []
    for channel in range(symbols.shape[-1]):
        seen, counts = np.unique(symbols[..., channel], return_counts=True)
        low, old, escape = codec.tables.pmf(channel)
        first = min(low, int(seen[0]))
        size = max(low + len(old), int(seen[-1]) + 1) - first
        p = np.zeros(size)
        p[low - first : low - first + len(old)] += KEEP * old
        p[seen - first] += (1 - KEEP) * counts / counts.sum()
        rows.append(p)
        offsets.append(first)
        tails.append(KEEP * escape)
    made = tables.from_pmf(rows, np.array(offsets), np.array(tails))
    return FactorizedCodec(codec.shape, made, codec.medians)
