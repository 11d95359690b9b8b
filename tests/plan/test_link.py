"""A link's arithmetic by hand, and its presets."""

import dataclasses

import pytest

from sc_jax.errors import UsageError
from sc_jax.plan import PLANNERS
from sc_jax.plan.break_even import answer_s, break_even_bytes
from sc_jax.plan.link import ASSUMED_RTT, LINKS, Link, latency_s, send_s


def test_latency_by_hand():
    link = Link(1e6, rtt_s=0.02)
    assert send_s(link, 12_500) == pytest.approx(0.1)
    assert latency_s(link, 12_500) == pytest.approx(0.12)
    assert latency_s(link, 0) == 0.02


def test_half_lost_takes_twice_the_air():
    lossy = Link(1e6, rtt_s=0.02, loss=0.5)
    assert send_s(lossy, 12_500) == pytest.approx(0.2)


@pytest.mark.parametrize("name", LINKS)
def test_more_bytes_and_more_loss_never_arrive_sooner(name):
    link = LINKS[name]
    times = [latency_s(link, size) for size in (0, 1, 100, 10_000)]
    assert times == sorted(times) and times[0] < times[-1]
    worse = dataclasses.replace(link, loss=0.1)
    assert latency_s(worse, 100) > latency_s(link, 100)


def test_presets_go_from_slow_to_fast():
    rates = [link.up_bits_per_s for link in LINKS.values()]
    assert rates == sorted(rates) and rates[0] == 37_500
    assert set(ASSUMED_RTT) < set(LINKS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"up_bits_per_s": 0.0},
        {"up_bits_per_s": float("nan")},
        {"rtt_s": -0.1},
        {"loss": 1.0},
        {"loss": -0.1},
    ],
)
def test_impossible_links_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Link(**{"up_bits_per_s": 1e6, "rtt_s": 0.1, **wrong})


def test_negative_bytes_are_refused():
    with pytest.raises(UsageError, match="sent_bytes"):
        latency_s(LINKS["LTE"], -1)


def test_an_answer_takes_device_air_round_trip_and_edge():
    link = Link(1e6, rtt_s=0.02)
    assert answer_s(link, 0.004, 1250.0, 0.01) == pytest.approx(0.004 + 0.01 + 0.03)
    assert answer_s(link, 0.3, 0.0, 0.01) == 0.3  # waits for no link and no edge


def test_the_bytes_to_save_make_the_slower_one_as_early():
    link = Link(1e6, rtt_s=0.02, loss=0.5)
    saved = break_even_bytes(link, 0.010, 0.002)
    assert saved == pytest.approx(500)
    slow, fast = answer_s(link, 0.010, 900.0), answer_s(link, 0.002, 900.0 + saved)
    assert slow == pytest.approx(fast)
    assert break_even_bytes(link, 0.002, 0.010) == 0


def test_every_preset_says_what_it_is():
    for link in LINKS.values():
        rate = f"{link.up_bits_per_s / 1e6:g} Mbit/s up"
        assert rate in link.note or "37.5 kbit/s up" in link.note


def test_every_planner_is_listed_with_a_line():
    assert {"channel", "dynamic_programme", "shares"} <= set(PLANNERS)
    for planner in PLANNERS.values():
        assert len((planner.__doc__ or "").splitlines()[0]) > 20
