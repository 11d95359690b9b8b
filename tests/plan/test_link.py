"""A link's arithmetic by hand, and its presets."""

import dataclasses

import pytest

from sc_jax.errors import UsageError
from sc_jax.plan import PLANNERS
from sc_jax.plan.break_even import answer_s, break_even_bytes
from sc_jax.plan.link import (
    ASSUMED_RTT,
    LINKS,
    Link,
    Trace,
    at,
    latency_s,
    parse,
    read_trace,
    receive_power_w,
    send_s,
    transmit_power_w,
)


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
        {"down_bits_per_s": 0.0},
        {"idle_w": -1.0},
        {"base_w": float("inf")},
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


def test_a_reply_comes_at_the_rate_down_or_as_up():
    link = Link(1e6, rtt_s=0.02, loss=0.5)
    assert latency_s(link, 0, 1250) == pytest.approx(0.04)
    down = dataclasses.replace(link, down_bits_per_s=1e7)
    assert latency_s(down, 0, 1250) == pytest.approx(0.022)


def test_the_radio_draws_what_is_stated_or_by_its_rate():
    link = Link(2e6, 0.0, up_j_per_bit=4e-7, down_j_per_bit=1e-7, base_w=1.0)
    assert transmit_power_w(link) == pytest.approx(1.8)
    assert receive_power_w(link) == pytest.approx(1.2)
    assert transmit_power_w(dataclasses.replace(link, transmit_w=3.0)) == 3.0
    assert transmit_power_w(LINKS["LTE"]) is receive_power_w(LINKS["LTE"]) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [("lte", "LTE"), ("wifi", "Wi-Fi"), ("WI-FI", "Wi-Fi"), ("nbiot", "NB-IoT")],
)
def test_names_of_links_match_whatever_their_case_and_hyphens(text, name):
    assert parse(text) is not None and parse(text) == LINKS[name]


def test_a_link_is_read_from_its_figures():
    assert parse("up=2e6,rtt=0.03") == Link(2e6, 0.03)
    assert parse("up=2e6,rtt=0,down=3e6,loss=0.1,idle_w=0.2") == Link(
        2e6, 0.0, 0.1, idle_w=0.2, down_bits_per_s=3e6
    )
    own = parse("lte:rtt=0.01,transmit_w=1.2")
    want = dataclasses.replace(LINKS["LTE"], rtt_s=0.01, transmit_w=1.2)
    assert dataclasses.replace(own, note=want.note) == want


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ltee", "unknown link 'ltee'.*LTE"),
        ("up=2e6", "needs rtt="),
        ("up=-1,rtt=0", "up is a number, above 0"),
        ("lte:uq=3", "unknown knob of link lte 'uq'"),
        ("lte:loss=1", "below 1"),
    ],
)
def test_what_is_no_link_is_one_line(text, said):
    with pytest.raises(UsageError, match=said):
        parse(text)


def test_a_trace_of_rates_is_read_and_holds_each_until_the_next(tmp_path):
    trace = Trace((0.0, 1.0, 5.0), (1e6, 2e6, 3e6))
    (tmp_path / "t.json").write_text(
        '{"times_s": [0, 1, 5], "up_bits_per_s": [1e6, 2e6, 3e6]}'
    )
    (tmp_path / "t.csv").write_text("times_s,up_bits_per_s\n0,1e6\n1,2e6\n5,3e6\n")
    assert read_trace(tmp_path / "t.json") == trace == read_trace(tmp_path / "t.csv")
    link = LINKS["LTE"]
    rates = [at(trace, link, t).up_bits_per_s for t in (0, 0.99, 1, 4.9, 5, 100)]
    assert rates == [1e6, 1e6, 2e6, 2e6, 3e6, 3e6]
    assert at(trace, link, 0).rtt_s == link.rtt_s


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("times_s,rate\n0,1\n", "unknown column"),
        ("times_s,up_bits_per_s\n0,1\n0,2\n", "rise from 0"),
        ("times_s,up_bits_per_s\n0,nan\n", "finite and above 0"),
        ("times_s,up_bits_per_s\n0\n", "has not the 2 columns"),
        ("times_s,up_bits_per_s\n0,x\n", "no whole trace of a link"),
        ("", "no whole trace of a link"),
    ],
)
def test_a_damaged_trace_is_one_line(text, said, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_trace(tmp_path / "t.csv")
