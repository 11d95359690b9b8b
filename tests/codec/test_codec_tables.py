import copy
import pickle
from itertools import product

import numpy as np
import pytest

from sc_jax.codec import rans
from sc_jax.codec.tables import (
    TOTAL,
    Tables,
    bits,
    compat_from_pmf,
    from_pmf,
    quantise,
)


def rows_of(tables: Tables) -> list[np.ndarray]:
    return [np.diff(row[: n + 1]) for row, n in zip(tables.cdf, tables.length)]


def make(cdf, length, offset=(0,)) -> Tables:
    arrays = (np.array(cdf, np.uint32), np.array(length, np.int32))
    return Tables(*arrays, np.array(offset, np.int32))


@pytest.mark.parametrize(
    "cdf, length, offset",
    [
        ([[0, 5, 5, TOTAL]], [3], [0]),  # not strict
        ([[1, 5, TOTAL]], [2], [0]),  # does not begin at 0
        ([[0, 5, 60000]], [2], [0]),  # does not end at the total
        ([[0, TOTAL]], [2], [0]),  # longer than its row
        ([[0, TOTAL]], [0], [0]),  # no slot
        ([[0, 9, 99, TOTAL]], [3], [2**31 - 1]),  # values above int32
        ([0, TOTAL], [1], [0]),  # no rows axis
        ([[0, TOTAL]], [1], [0, 0]),  # lengths differ
    ],
)
def test_bad_tables_are_refused(cdf, length, offset):
    with pytest.raises(ValueError, match="tables"):
        make(cdf, length, offset)


def test_dtypes_are_checked():
    with pytest.raises(ValueError, match="cdf is int64"):
        Tables(np.array([[0, TOTAL]]), np.array([1], "i4"), np.array([0], "i4"))


def test_tables_are_values():
    tables = from_pmf([[0.2, 0.8], [0.5, 0.3, 0.2]], [-1, 4])
    rans.encode(np.zeros(2, np.int32), tables)  # fills the cache
    for other in (
        Tables.from_arrays(tables.to_arrays()),
        pickle.loads(pickle.dumps(tables)),
        copy.deepcopy(tables),
    ):
        assert other == tables and not other.cache
    assert tables != from_pmf([[0.2, 0.8], [0.5, 0.3, 0.2]], [-1, 5])
    with pytest.raises(ValueError):
        tables.cdf[0, 1] = 7


def test_quantise_is_the_optimum():
    """No count can move with profit, on rows small enough to check every pair."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 40):
        p = rng.dirichlet(np.full(n, 0.1))
        f = quantise(p)
        assert f.sum() == TOTAL and f.min() >= 1
        with np.errstate(divide="ignore"):
            cost = -(p * np.log2(f)).sum()
            for i, j in product(range(n), repeat=2):
                if i != j and f[j] > 1:
                    g = f.copy()
                    g[i], g[j] = g[i] + 1, g[j] - 1
                    assert -(p * np.log2(g)).sum() >= cost - 1e-12


def test_long_rows():
    p = np.r_[1.0, np.full(4000, 1e-9)]
    f = quantise(p / p.sum())
    assert f.sum() == TOTAL and f.min() == 1 and f[0] == TOTAL - 4000
    assert (quantise(np.full(TOTAL, 1 / TOTAL)) == 1).all()
    with pytest.raises(ValueError, match="does not fit"):
        quantise(np.full(TOTAL + 1, 1 / (TOTAL + 1)))


def test_ends_are_trimmed_into_the_escape():
    p = np.full(41, 1e-9)
    p[20], p[22] = 0.9, 0.1
    tables = from_pmf([p], -20)
    assert tables.offset.tolist() == [0] and tables.length.tolist() == [4]
    (counts,) = rows_of(tables)
    assert counts[1] == 1 and counts[3] == 1  # a rare symbol between live ones stays
    assert from_pmf([np.zeros(5)], 0, 1.0).length.tolist() == [1]


@pytest.mark.parametrize("rate", [0.05, 0.25, 1.0, 4.0])
def test_expected_overhead_is_below_half_a_percent(rate):
    k = np.arange(-400, 401)

    def entropy(p):
        return -(p[p > 0] * np.log2(p[p > 0])).sum()

    scales = np.geomspace(0.05, 20, 4000)
    for s in scales:  # the discretised Laplace of this rate
        edge = np.abs(k) - 0.5
        p = np.exp(-edge / s) * (1 - np.exp(-1 / s)) / 2
        p[k == 0] = 1 - np.exp(-0.5 / s)
        if entropy(p) >= rate:
            break
    tables = from_pmf([p], -400, max(0.0, 1 - p.sum()))
    per_symbol = np.array([bits(tables, np.array([v], np.int32)) for v in k])
    assert (p * per_symbol).sum() <= 1.005 * entropy(p)


def test_deterministic_and_row_parameters():
    pmf = np.random.default_rng(1).dirichlet(np.ones(9), 3)
    one = from_pmf(pmf, [0, -3, 9], [0.1, 0.0, 0.5])
    assert one == from_pmf(list(pmf), [0, -3, 9], [0.1, 0.0, 0.5])
    assert abs(rows_of(one)[2][-1] / TOTAL - 0.5 / 1.5) < 1e-4
    for bad in ([[np.nan, 1.0]], [[-0.1, 1.1]], [[0.0, 0.0]]):
        with pytest.raises(ValueError, match="pmf row 0"):
            from_pmf(bad, 0)


def test_compat_steps_by_hand():
    # 32768.5 rounds up; 1e-9 rounds to 0 and takes a count from the smallest above 1
    tables = compat_from_pmf([[0.5 + 2**-17, 1e-9, 0.25, 3e-5]], -1, 0.25 - 2**-17)
    assert tables.offset.tolist() == [-1]
    counts = np.array([32769, 0, 16384, 2, 16384])
    total = counts.sum()
    expected = counts * TOTAL // total
    expected[-1] = TOTAL - expected[:-1].sum()
    small = np.flatnonzero(expected == expected[expected > 1].min())[0]
    expected[small] -= 1
    for i in np.flatnonzero(expected == 0):
        expected[i] = 1
    assert rows_of(tables)[0].tolist() == expected.tolist()


def test_bits_counts_the_escape_digits():
    tables = make([[0, 16384, 65280, TOTAL]], [3], [0])
    for value, expected in [
        (0, 2),
        (2, 8 + 4),
        (-1, 8 + 8),
        (9, 8 + 8),
        (10, 8 + 12),
        (2**31 - 1, 8 + 4 + 32),
        (-(2**31), 8 + 4 + 32),
    ]:
        assert bits(tables, np.array([value], np.int32)) == pytest.approx(expected)
    assert bits(tables, np.empty(0, np.int32)) == 0
