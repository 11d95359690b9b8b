"""A link's arithmetic by hand, and its presets."""

import dataclasses

import pytest

from sc_jax.errors import UsageError
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
