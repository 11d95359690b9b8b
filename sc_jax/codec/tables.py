"""Integer coding tables: what a sender and a receiver share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TOTAL = 1 << 16  # the counts of a row sum to this
TRIM = 0.5  # ends of a row expected fewer times in TOTAL go to the escape


@dataclass(frozen=True, eq=False)
class Tables:
    """R rows of cumulative counts over integer values.

    cdf uint32[R, S]: row r is 0 = cdf[r, 0] < ... < cdf[r, length[r]] = 65536, then 0.
    length int32[R]: slots of a row, >= 1; the last slot is the escape.
    offset int32[R]: the value of slot 0.
    ValueError when these do not hold. The arrays are copied and read-only.
    """

    cdf: np.ndarray
    length: np.ndarray
    offset: np.ndarray
    cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        for name, dtype in (
            ("cdf", "uint32"),
            ("length", "int32"),
            ("offset", "int32"),
        ):
            # A copy that nobody else can write: the coder's C code trusts what was
            # checked.
            array = np.array(getattr(self, name), order="C")
            if array.dtype != dtype:
                raise ValueError(f"tables: {name} is {array.dtype}, not {dtype}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        _check(self.cdf, self.length, self.offset)

    @property
    def rows(self) -> int:
        return len(self.length)

    def pmf(self, row: int) -> tuple[int, np.ndarray, float]:
        """(value of slot 0, float64 probabilities of its slots, that of the escape)."""
        slots = int(self.length[row])
        p = np.diff(self.cdf[row, : slots + 1].astype(np.float64)) / TOTAL
        return int(self.offset[row]), p[:-1], float(p[-1])

    def __eq__(self, other):
        if not isinstance(other, Tables):
            return NotImplemented
        mine, theirs = self.to_arrays(), other.to_arrays()
        return all(np.array_equal(mine[k], theirs[k]) for k in mine)

    def __reduce__(self):  # the cache holds addresses: never copy it
        return Tables, (self.cdf, self.length, self.offset)

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {"cdf": self.cdf, "length": self.length, "offset": self.offset}

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> "Tables":
        return Tables(*(np.asarray(arrays[k]) for k in ("cdf", "length", "offset")))


def _check(cdf: np.ndarray, length: np.ndarray, offset: np.ndarray) -> None:
    if cdf.ndim != 2 or length.shape != cdf.shape[:1] or offset.shape != length.shape:
        raise ValueError(
            f"tables: cdf {cdf.shape}, length {length.shape} and offset {offset.shape}"
            " are not [R, S], [R] and [R]"
        )
    # The coder takes a row's number as uint16.
    if not 1 <= len(length) <= TOTAL:
        raise ValueError(f"tables: {len(length)} rows, not 1 to {TOTAL}")
    if length.min() < 1 or length.max() >= cdf.shape[1]:
        raise ValueError("tables: a row has no slot, or more slots than fit its cdf")
    # What lies behind a row's end is padding and not looked at.
    last = np.take_along_axis(cdf, length[:, None].astype(np.int64), 1)
    if (cdf[:, 0] != 0).any() or (last != TOTAL).any():
        raise ValueError(f"tables: a cdf row does not run from 0 to {TOTAL}")
    used = np.arange(cdf.shape[1] - 1) < length[:, None]
    # A slot of no counts could not be coded: its symbol would be lost.
    if (cdf[:, 1:] <= cdf[:, :-1])[used].any():
        raise ValueError("tables: a cdf row does not rise strictly")
    # In int64: the sum is what may overflow.
    if (offset.astype(np.int64) + length - 2 > np.iinfo(np.int32).max).any():
        raise ValueError("tables: a row has values above int32")


def _pack(counts: Sequence[np.ndarray], offsets: Sequence[int]) -> Tables:
    cdf = np.zeros((len(counts), 1 + max(map(len, counts))), np.uint32)
    for row, count in zip(cdf, counts):
        row[1 : len(count) + 1] = np.cumsum(count)
    length = np.array([len(count) for count in counts], np.int32)
    return Tables(cdf, length, np.array(offsets, np.int32))


def _rows(pmf, offset, tail_mass) -> list[tuple[np.ndarray, int]]:
    """Each row as (probabilities with the escape last, offset), checked."""
    tails = np.broadcast_to(np.asarray(tail_mass, np.float64), len(pmf))
    offsets = np.broadcast_to(np.asarray(offset, np.int64), len(pmf))
    rows = []
    for r, (row, tail) in enumerate(zip(pmf, tails)):
        p = np.append(np.asarray(row, np.float64), tail)
        if p.ndim != 1 or not np.isfinite(p).all() or p.min() < 0 or p.sum() <= 0:
            raise ValueError(f"pmf row {r} is not a row of probabilities")
        rows.append((p, int(offsets[r])))
    return rows


def quantise(p: np.ndarray) -> np.ndarray:
    """Counts int64[n] >= 1 summing to 65536 with the least -sum(p log count).

    p float64[n] >= 0 with sum 1, 1 <= n <= 65536. Rounds down, settles the
    difference where it costs least, then swaps single counts while that pays; the
    cost is convex in each count, so the result is the optimum.
    """
    if len(p) > TOTAL:
        raise ValueError(f"a row of {len(p)} symbols does not fit {TOTAL} counts")
    # No slot without a count, however rare: rANS cannot code frequency 0.
    f = np.maximum(1, np.floor(p * TOTAL)).astype(np.int64)
    # More than one pass where the least counts of 1 take more than is there.
    while left := TOTAL - int(f.sum()):
        if left > 0:
            # Of equal gains the first: the same table on every machine.
            best = np.argsort(-p * np.log1p(1 / f), kind="stable")[:left]
            f[best] += 1
        else:
            best = np.argsort(_loss(p, f), kind="stable")
            f[best[: min(-left, int((f > 1).sum()))]] -= 1
    while True:
        gain, loss = p * np.log1p(1 / f), _loss(p, f)
        to, source = int(gain.argmax()), int(loss.argmin())
        # With a margin: rounding could swap two equal counts for ever.
        if gain[to] <= loss[source] * (1 + 1e-12) + 1e-18:
            return f
        f[to] += 1
        f[source] -= 1


def _loss(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Cost of taking one count from each symbol: infinite where only one is left."""
    return np.where(f > 1, -p * np.log1p(-1 / np.maximum(f, 2)), np.inf)


def from_pmf(pmf: Sequence | np.ndarray, offset, tail_mass: Any = 0.0) -> Tables:
    """Tables for R probability rows, near the optimal expected code length.

    pmf: R rows of float64 probabilities (rows may differ in length); offset int or
    [R]: value of a row's first entry; tail_mass float or [R]: probability outside
    the row. Each row is normalised. Ends of a row below 0.5/65536 move to the escape:
    a count of its own would cost every other symbol more than the escape costs it.
    """
    counts, offsets = [], []
    for p, first in _rows(pmf, offset, tail_mass):
        # Rows come as densities sampled at integers, which need not sum to 1.
        p = p / p.sum()
        live = np.flatnonzero(p[:-1] * TOTAL >= TRIM)
        # Ends only: a gap inside keeps its slots, since slots are consecutive.
        lo, hi = (int(live[0]), int(live[-1]) + 1) if len(live) else (0, 0)
        # What was cut off and the tail: the escape takes all that has no slot.
        escape = 1 - p[lo:hi].sum() if len(live) else 1.0
        counts.append(quantise(np.append(p[lo:hi], max(escape, 0.0))))
        offsets.append(first + lo)
    return _pack(counts, offsets)


def compat_from_pmf(pmf: Sequence | np.ndarray, offset, tail_mass) -> Tables:
    """Tables by the rounding steps of CompressAI (Bégaint et al. 2020), for parity.

    Arguments as `from_pmf`; no trimming. Probabilities are float32, rounded half away
    from zero to counts, scaled to 65536 by a floor; the loss goes to the escape, and
    each empty symbol takes a count from the first smallest one above 1.
    """
    counts = []
    rows = _rows(pmf, offset, tail_mass)
    for p, _ in rows:
        if len(p) > TOTAL:
            raise ValueError(f"a row of {len(p)} symbols does not fit {TOTAL} counts")
        # float32 first: their tables come from float32 likelihoods.
        f = np.floor(p.astype(np.float32).astype(np.float64) * TOTAL + 0.5)
        f = f.astype(np.int64)
        if not f.sum():
            raise ValueError("a pmf row rounds to no counts at all")
        f = f * TOTAL // f.sum()
        f[-1] = TOTAL - f[:-1].sum()
        for i in np.flatnonzero(f == 0):
            # Theirs steals from the rarest symbol that can spare a count.
            f[np.where(f > 1, f, TOTAL + 1).argmin()] -= 1
            f[i] = 1
        counts.append(f)
    return _pack(counts, [first for _, first in rows])


def row_of(tables: Tables, count: int, rows: np.ndarray | None) -> np.ndarray:
    """Row int64[count] of each symbol: `rows`, or R equal runs in order."""
    if rows is not None:
        return rows.astype(np.int64)
    return np.repeat(np.arange(tables.rows), count // tables.rows)


def bits(tables: Tables, symbols: np.ndarray, rows: np.ndarray | None = None) -> float:
    """Ideal code length in bits of int32[N] symbols, escape digits included."""
    return float(costs(tables, symbols, rows).sum())


def costs(
    tables: Tables, symbols: np.ndarray, rows: np.ndarray | None = None
) -> np.ndarray:
    """float64[N]: `bits` of each symbol."""
    r = row_of(tables, symbols.size, rows)
    slot = symbols.astype(np.int64) - tables.offset[r]
    escape = tables.length[r].astype(np.int64) - 1
    out = (slot < 0) | (slot >= escape)
    # Beyond the row: the escape slot, then the value in digits.
    slot = np.where(out, escape, slot)
    found = 16 - np.log2(tables.cdf[r, slot + 1] - tables.cdf[r, slot])
    over = symbols[out].astype(np.int64) - tables.offset[r][out]
    # Zigzag: odd numbers below the row, even ones above.
    raw = np.where(over < 0, -2 * over - 1, 2 * (over - escape[out]))
    digits = sum((raw >> (4 * k)) > 0 for k in range(9))
    # Each escape: 4 bits for the number of digits, 4 a digit.
    found[out] += 4 * (1 + digits)
    return found
