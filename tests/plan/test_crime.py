"""Length profiles, tracked round trips, and the machine of each input."""

from dataclasses import replace

import numpy as np
import plan_instances as instances
import pytest

from sc_jax.errors import UsageError
from sc_jax.plan import profile
from sc_jax.plan.link import Link, send_s
from sc_jax.plan.partition.crime import (
    LengthModel,
    at_length,
    crime,
    fitted,
    measured,
    tracked,
)
from sc_jax.plan.plan import Bounds
from sc_jax.plan.profile import Cut, Profile


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


def test_measured_lines_of_a_profile_plan_an_input_of_any_length(tmp_path):
    line = measured([100, 400, 900], [0.011, 0.039, 0.091])
    assert line.seconds_per_item == pytest.approx(1e-4, rel=0.05)
    off = [line.seconds_per_item * n + line.base_s for n in line.lengths]
    assert line.residual_s == pytest.approx(
        np.sqrt(np.mean(np.subtract(off, line.seconds) ** 2))
    )
    device, edge = measured([100, 400], [0.01, 0.04]), measured([100, 400], [0.001] * 2)
    both = Profile(
        "net", ("a", "b"), (0.02, 0.02), (0.0005, 0.0005), quality=0.9,
        cuts=(Cut("input", "file", 800, 0.004, 0.002, 0.8), Cut("a", "z", 10)),
        input_length=400.0, device_by_length=device, edge_by_length=edge,
        measured=("device_by_length", "edge_by_length"),
    )  # fmt: skip
    profile.write(tmp_path / "p.json", both)
    assert profile.read(tmp_path / "p.json") == both
    link = Link(1e6, 0.005)
    for length in (50, 100, 150, 400, 900):
        plan = crime(both, link, length=length)
        share = length / 400
        there = 0.001 + share * (0.006 + 8 * 800 / 1e6) + 0.005
        assert plan.latency_s == pytest.approx(min(1e-4 * length, there))
        assert plan.places == (("device",) if 1e-4 * length <= there else ("edge",))
        assert (plan.quality is None) == (length != 400)
    # An edge alone stays one.
    edge_only = replace(both, device_s=(0.02, None))
    assert crime(edge_only, link, length=50).places == ("edge",)
    server = Profile("net", ("a", "b"), edge_s=(0.1, 0.1), edge_by_length=device)
    assert profile.combined(both, server).edge_by_length == device
    with pytest.raises(UsageError, match=r"launch\.profile --lengths"):
        crime(replace(both, edge_by_length=None), link, length=50)
    with pytest.raises(UsageError, match="two lengths or more"):
        replace(line, lengths=(1.0, 1.0, 1.0))


def test_the_device_may_save_joules_instead():
    link = Link(1e6, 0.005, transmit_w=1.0, idle_w=0.1)
    quick = Profile(
        "net", ("a",), (0.01,), (0.1,), cuts=(Cut("input", "raw", 100),),
        compute_w=100.0, idle_w=0.1,
    )  # fmt: skip
    assert crime(quick, link).places == ("device",)
    saved = crime(quick, link, objective="energy_j")
    assert saved.places == ("edge",) and saved.energy_j < 1.0
