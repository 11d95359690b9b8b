"""Places of exits: by names, by costs, and the programme against brute force."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from sc_jax.errors import UsageError
from sc_jax.plan.channel import ChannelTable, place
from sc_jax.plan.placement import (
    Candidates,
    dynamic_programme,
    equal_macs,
    every,
    expected,
    explicit,
    first_confident,
    shares,
    stays_confident,
)

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
        targets = np.sort(rng.uniform(0.01, 0.99, count))
        sets = itertools.combinations(range(places), int(count))
        best = min(np.abs(cost[list(s)] - targets).sum() for s in sets)
        found = [int(name) for name in shares(names, cost, targets)]
        assert found == sorted(set(found))
        assert np.abs(cost[found] - targets).sum() == pytest.approx(best)


def instance(seed: int) -> Candidates:
    """Made-up branches where who is confident stays confident."""
    rng = np.random.default_rng(seed)
    places, examples = int(rng.integers(1, 7)), int(rng.integers(3, 25))
    leaves_at = rng.integers(places + 1, size=examples)
    correct = rng.uniform(size=(places + 1, examples)) < 0.6
    trunk = np.cumsum(rng.uniform(0.1, 3.0, places + 1))
    exits = rng.uniform(0.0, 1.0, places)
    return Candidates(tuple(map(str, range(places))), leaves_at, correct, trunk, exits)


def by_hand(branches: Candidates, kept: tuple[str, ...]) -> tuple[float, int]:
    """(summed cost, right answers), one example and one branch at a time."""
    cost, right = 0.0, 0
    for n, first in enumerate(branches.leaves_at):
        for e in sorted(map(int, kept)):
            cost += branches.exit_cost[e]
            if first <= e:
                cost, right = (
                    cost + branches.trunk_cost[e],
                    right + branches.correct[e, n],
                )
                break
        else:
            cost, right = (
                cost + branches.trunk_cost[-1],
                right + branches.correct[-1, n],
            )
    return cost, right


def all_placements(branches: Candidates):
    for size in range(len(branches.places) + 1):
        yield from itertools.combinations(branches.places, size)


@pytest.mark.parametrize("block", range(4))
def test_the_programme_equals_brute_force(block):
    """200 instances; budgets between the cheapest placement and the network."""
    missed = 0
    for seed in range(50 * block, 50 * block + 50):
        branches = instance(seed)
        n = len(branches.leaves_at)
        table = {kept: by_hand(branches, kept) for kept in all_placements(branches)}
        for kept, (cost, right) in table.items():
            assert expected(branches, kept) == pytest.approx((cost / n, right / n))
        cheapest = min(cost for cost, _ in table.values()) / n
        for share in (0.0, 0.3, 0.7, 1.5):
            budget = cheapest + share * (branches.trunk_cost[-1] - cheapest)
            within = [v for v in table.values() if v[0] <= n * budget * (1 + 1e-9)]
            best = max(right for _, right in within)
            least = min(cost for cost, right in within if right == best)
            found = table[dynamic_programme(branches, budget)]
            assert found[1] == best
            assert found[0] == pytest.approx(least)
        try:
            dynamic_programme(branches, cheapest * 0.999)
        except UsageError as error:
            missed += 1
            assert f"take {cheapest:.6g}, the network" in str(error)
    assert missed == 50


def test_more_budget_never_answers_less():
    branches = instance(7)
    figures = [
        expected(branches, dynamic_programme(branches, b))
        for b in np.linspace(
            branches.trunk_cost[-1] * 0.8, branches.trunk_cost[-1] * 1.5, 12
        )
    ]
    right = [accuracy for _, accuracy in figures]
    assert right == sorted(right)


def test_a_branch_that_never_pays_is_left_out():
    branches = instance(3)
    dear = replace(branches, exit_cost=branches.exit_cost + 100.0)
    assert dynamic_programme(dear, float(branches.trunk_cost[-1])) == ()


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
        (lambda: equal_macs(NAMES, COST, 6, 100.0), "6 exits for 5 places"),
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
        (lambda: replace(instance(1), leaves_at=np.array([99])), "with answers"),
        (
            lambda: replace(instance(1), trunk_cost=-instance(1).trunk_cost),
            "never fall",
        ),
        (
            lambda: replace(instance(1), exit_cost=instance(1).exit_cost * np.nan),
            "NaN or inf",
        ),
        (
            lambda: replace(instance(1), leaves_at=instance(1).leaves_at + 99),
            "are in 0..",
        ),
        (lambda: ChannelTable((2.0, 1.0), ("a", "b", "c")), "rise from above 0"),
        (lambda: ChannelTable((1.0,), ("a",)), "2 states of the channel, not 1 places"),
        (lambda: place(ChannelTable((), ("a",)), np.nan), "0 or more, not nan"),
    ],
)
def test_bad_input_is_one_line(make, line):
    with pytest.raises(UsageError, match=line) as raised:
        make()
    assert "\n" not in str(raised.value)
