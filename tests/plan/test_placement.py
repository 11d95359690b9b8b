"""Places of exits: by names, by costs, and the programme against brute force."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from sc_jax.errors import UsageError
from sc_jax.plan.channel import ChannelTable, place
from sc_jax.plan.exit_placement import (
    Candidates,
    dynamic_programme,
    expected,
    first_confident,
    stays_confident,
)
from sc_jax.plan.placement import equal_macs, every, explicit, shares

NAMES = ("stem", "a", "b", "c", "d")
COST = (10.0, 30.0, 45.0, 80.0, 90.0)


def test_explicit_places_come_in_the_order_of_the_network():
    assert explicit(NAMES, ("c", "stem")) == ("stem", "c")
    assert explicit(NAMES, ()) == ()


@pytest.mark.parametrize(
    ("step", "first", "expect"),
    [(1, 0, NAMES), (2, 0, ("a", "c")), (2, 1, ("stem", "b", "d")), (9, 4, ("c",))],
)
def test_every_so_many_stages(step, first, expect):
    assert every(NAMES, step, first) == expect


def test_equal_macs_are_the_nearest_places():
    assert equal_macs(NAMES, COST, 3, whole=100.0) == ("a", "b", "c")
    assert equal_macs(NAMES, np.array(COST) / 100, 1) == ("b",)
    assert equal_macs(NAMES, COST, 5, whole=100.0) == NAMES
    assert shares(NAMES, COST, whole=100.0) == ("a", "b", "c")
    assert shares(NAMES, COST, (0.05, 0.95), whole=100.0) == ("stem", "d")


def test_shares_take_distinct_places_of_least_distance_in_all():
    rng = np.random.default_rng(0)
    for _ in range(50):
        count, places = rng.integers(1, 5), 5 + int(rng.integers(4))
        names = tuple(map(str, range(places)))
        cost = np.sort(rng.uniform(size=places))
        marks = np.sort(rng.uniform(0.01, 0.99, count))
        sets = itertools.combinations(range(places), int(count))
        best = min(np.abs(cost[list(s)] - marks).sum() for s in sets)
        found = [int(name) for name in shares(names, cost, marks)]
        assert found == sorted(set(found))
        assert np.abs(cost[found] - marks).sum() == pytest.approx(best)


def instance(seed: int) -> Candidates:
    """Made-up branches where who is confident stays confident."""
    rng = np.random.default_rng(seed)
    places, examples = int(rng.integers(1, 7)), int(rng.integers(3, 25))
    first = rng.integers(places + 1, size=examples)
    right = rng.uniform(size=(places + 1, examples)) < 0.6
    trunk = np.cumsum(rng.uniform(0.1, 3.0, places + 1))
    heads = rng.uniform(0.0, 1.0, places)
    return Candidates(tuple(map(str, range(places))), first, right, trunk, heads)


def by_hand(made: Candidates, kept: tuple[str, ...]) -> tuple[float, int]:
    """(summed cost, right answers), one example and one branch at a time."""
    cost, right = 0.0, 0
    for n, first in enumerate(made.first):
        for e in sorted(map(int, kept)):
            cost += made.heads[e]
            if first <= e:
                cost, right = cost + made.trunk[e], right + made.right[e, n]
                break
        else:
            cost, right = cost + made.trunk[-1], right + made.right[-1, n]
    return cost, right


def all_placements(made: Candidates):
    for size in range(len(made.places) + 1):
        yield from itertools.combinations(made.places, size)


@pytest.mark.parametrize("block", range(4))
def test_the_programme_equals_brute_force(block):
    """200 instances; budgets between the cheapest placement and the network."""
    missed = 0
    for seed in range(50 * block, 50 * block + 50):
        made = instance(seed)
        n = len(made.first)
        table = {kept: by_hand(made, kept) for kept in all_placements(made)}
        for kept, (cost, right) in table.items():
            assert expected(made, kept) == pytest.approx((cost / n, right / n))
        cheapest = min(cost for cost, _ in table.values()) / n
        for share in (0.0, 0.3, 0.7, 1.5):
            budget = cheapest + share * (made.trunk[-1] - cheapest)
            within = [v for v in table.values() if v[0] <= n * budget * (1 + 1e-9)]
            best = max(right for _, right in within)
            least = min(cost for cost, right in within if right == best)
            found = table[dynamic_programme(made, budget)]
            assert found[1] == best
            assert found[0] == pytest.approx(least)
        try:
            dynamic_programme(made, cheapest * 0.999)
        except UsageError as error:
            missed += 1
            assert f"take {cheapest:.6g}, the network" in str(error)
    assert missed == 50


def test_more_budget_never_answers_less():
    made = instance(7)
    figures = [
        expected(made, dynamic_programme(made, b))
        for b in np.linspace(made.trunk[-1] * 0.8, made.trunk[-1] * 1.5, 12)
    ]
    right = [accuracy for _, accuracy in figures]
    assert right == sorted(right)


def test_a_branch_that_never_pays_is_left_out():
    made = instance(3)
    dear = replace(made, heads=made.heads + 100.0)
    assert dynamic_programme(dear, float(made.trunk[-1])) == ()


def test_the_first_confident_and_how_far_it_lasts():
    sure = np.array([[0, 1, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1]], bool)
    assert first_confident(sure).tolist() == [1, 0, 3, 0]
    assert stays_confident(sure) == 0.75


def test_a_better_channel_stops_earlier():
    table = ChannelTable((1e5, 1e6), ("final", "layer2", "layer1"))
    rates = (0.0, 99e3, 1e5, 5e5, 1e6, 1e9)
    stops = ["final", "final", "layer2", "layer2", "layer1", "layer1"]
    assert [place(table, rate) for rate in rates] == stops
    assert place(ChannelTable((), ("layer1",)), 0.0) == "layer1"


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: explicit(NAMES, ("stems",)), "did you mean 'stem'"),
        (lambda: explicit(NAMES, ("a", "a")), "stands once"),
        (lambda: every(NAMES, 0), "step is 1 or more, first is in 1..5"),
        (lambda: every(NAMES, 2, 6), "first is in 1..5"),
        (lambda: equal_macs(NAMES, COST, 0), "1 or more, not 0"),
        (lambda: equal_macs(NAMES, COST, 6, 100.0), "6 exits asked for, 5 places"),
        (lambda: equal_macs(NAMES, COST, 2), "give whole"),
        (lambda: equal_macs(NAMES, COST[:4], 2), "4 costs for 5 places"),
        (lambda: shares(NAMES, COST[::-1], whole=100.0), "never fall"),
        (lambda: shares(NAMES, (np.nan,) * 5), "never fall"),
        (lambda: shares(NAMES, COST, (0.5, 0.5), 100.0), "rise between 0 and 1"),
        (lambda: shares(NAMES, COST, (0.5, 1.0), 100.0), "rise between 0 and 1"),
        (lambda: shares(NAMES, COST, (), 100.0), "rise between 0 and 1"),
        (lambda: dynamic_programme(instance(1), 0.0), r"meet a mean cost of 0: the"),
        (lambda: dynamic_programme(instance(1), np.nan), "a mean cost of nan"),
        (lambda: expected(instance(1), ("x",)), "unknown place of an exit 'x'"),
        (lambda: replace(instance(1), first=np.array([99])), "with answers"),
        (lambda: replace(instance(1), trunk=-instance(1).trunk), "never fall"),
        (lambda: replace(instance(1), heads=instance(1).heads * np.nan), "NaN or inf"),
        (lambda: replace(instance(1), first=instance(1).first + 99), "are in 0.."),
        (lambda: ChannelTable((2.0, 1.0), ("a", "b", "c")), "rise from above 0"),
        (lambda: ChannelTable((1.0,), ("a",)), "2 states of the channel: 1 places"),
        (lambda: place(ChannelTable((), ("a",)), np.nan), "0 or more, not nan"),
    ],
)
def test_bad_input_is_one_line(make, line):
    with pytest.raises(UsageError, match=line) as raised:
        make()
    assert "\n" not in str(raised.value)
