"""Length profiles, tracked round trips, and the machine of each input."""

import numpy as np
import plan_instances as instances
import pytest

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link, send_s
from sc_jax.plan.partition.crime import LengthModel, at_length, crime, fitted, tracked
from sc_jax.plan.plan import Bounds


def test_a_line_is_found_through_its_own_points_and_by_least_squares():
    line = fitted([1, 2, 5], [0.3, 0.5, 1.1])
    assert (line.seconds_per_item, line.base_s) == pytest.approx((0.2, 0.1))
    values = np.random.default_rng(0)
    x, y = values.random(50), values.random(50)
    line = fitted(x.tolist(), y.tolist())
    assert (line.seconds_per_item, line.base_s) == pytest.approx(np.polyfit(x, y, 1))
    assert LengthModel(1.0, -5.0).seconds(2) == 0


def test_a_round_trip_follows_what_is_met():
    assert tracked(None, 0.3) == 0.3
    assert tracked(0.1, 0.2, weight=0.25) == pytest.approx(0.125)
    mean = None
    for _ in range(60):
        mean = tracked(mean, 0.05)
    assert mean == pytest.approx(0.05)


def test_each_input_goes_where_it_is_answered_first():
    edges = 0
    for rng in instances.seeds():
        device, edge = (
            LengthModel(10 ** rng.uniform(-4, -2), rng.uniform(0, 0.02))
            for _ in range(2)
        )
        link, met = instances.link(rng), rng.uniform(0, 0.1)
        length, item = rng.randint(1, 200), rng.choice([2.0, 4.0])
        plan = crime(at_length(length, device, edge, item), link, rtt_s=met)
        here = device.seconds(length)
        there = edge.seconds(length) + send_s(link, length * item) + met
        assert plan.latency_s == pytest.approx(min(here, there))
        assert plan.places == (("device",) if here <= there else ("edge",))
        edges += plan.places == ("edge",)
    assert 20 < edges < 230


def test_a_net_of_many_stages_is_never_parted():
    for rng in instances.seeds(40):
        p, link = instances.profile(rng), instances.link(rng)
        assert len(set(crime(p, link).places)) == 1


def test_what_cannot_be_fitted_or_kept_is_one_line():
    with pytest.raises(UsageError, match="two lengths or more"):
        fitted([1, 1], [0.1, 0.2])
    with pytest.raises(UsageError, match="NaN"):
        fitted([1, 2], [0.1, float("nan")])
    with pytest.raises(UsageError, match="weight"):
        tracked(0.1, 0.1, weight=0)
    line = LengthModel(0.01, 0.0)
    with pytest.raises(UsageError, match="crime: no plan of network keeps latency_s"):
        crime(at_length(10, line, line, 4), Link(1e6, 0.1), Bounds(deadline_s=0.01))
